"""Compressed or restored experts inside a transformers model."""

from .loading import load as load
from .restore import load_model as load_model
from .restore import restored_experts as restored_experts
