"""Foundations that every other room rests on: errors, parameters, progress, registries, data look-up."""
