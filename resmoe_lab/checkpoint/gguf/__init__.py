"""Models in GGUF, llama.cpp's format: their tensors and settings as an unquantized checkpoint would have them."""

from .files import gguf_files as gguf_files
from .header import map_gguf as map_gguf
from .header import read_gguf_header as read_gguf_header
from .model import GgufModel as GgufModel
from .model import read_gguf_model as read_gguf_model
