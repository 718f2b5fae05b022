"""How the values of a tensor are stored: one file for each kind of encoding."""

from ._base import Encoder as Encoder
from ._encoding import BF16 as BF16
from ._encoding import ENCODERS as ENCODERS
from ._encoding import FP32 as FP32
from ._encoding import Encoded as Encoded
from ._encoding import Encoding as Encoding
from ._encoding import TensorSpec as TensorSpec
from ._encoding import cut_encoding as cut_encoding
from ._encoding import encode_ragged as encode_ragged
from ._encoding import encode_rows as encode_rows
from ._encoding import encoding_names as encoding_names
from ._encoding import roundtrip as roundtrip
