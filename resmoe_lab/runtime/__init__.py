"""Compressed or restored experts inside a transformers model."""

from .restore import load_model as load_model
from .restore import restored_experts as restored_experts
