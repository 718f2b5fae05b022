"""What will happen, and the layer loop that does it."""

from .plan import select_layers as select_layers
from .run import compress_checkpoint as compress_checkpoint
