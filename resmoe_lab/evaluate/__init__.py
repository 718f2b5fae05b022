"""Approximation error, perplexity, zero-shot tasks, and cost."""
