"""Experiments on variants of a checkpoint: comparisons, sweeps, divergence, and the tables of the paper."""
