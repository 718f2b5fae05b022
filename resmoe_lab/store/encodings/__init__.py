"""How the values of a tensor are stored: one file for each kind of encoding."""

from ._base import BF16 as BF16
from ._base import ENCODERS as ENCODERS
from ._base import FP32 as FP32
from ._base import Encoded as Encoded
from ._base import Encoder as Encoder
from ._base import Encoding as Encoding
from ._base import TensorSpec as TensorSpec
from ._base import cut_encoding as cut_encoding
from ._base import encode_ragged as encode_ragged
from ._base import encode_rows as encode_rows
from ._base import encoding_names as encoding_names
from ._base import roundtrip as roundtrip
