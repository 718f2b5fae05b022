"""Lazy reading and atomic writing of safetensors checkpoints, one layer in memory at a time."""

from .index import Checkpoint as Checkpoint
from .index import open_checkpoint as open_checkpoint
from .tensors import TensorInfo as TensorInfo
