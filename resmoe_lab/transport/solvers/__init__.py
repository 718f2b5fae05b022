"""Barycenter solvers, one file each."""
