"""Optimal transport between clouds of neurons: arrays only, no model."""
