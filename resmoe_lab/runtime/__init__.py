"""Compressed or restored experts inside a transformers model."""
