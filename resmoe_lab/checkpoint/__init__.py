"""Lazy reading and whole-file writing of safetensors checkpoints, one layer in memory."""
