"""Entropy coding of quantized matrices: small integers by an interleaved range asymmetric numeral system (rANS)."""

from .container import CodedMatrix as CodedMatrix
from .container import decode as decode
from .container import decode_into as decode_into
from .container import encode as encode
from .quantizer import QuantizedValues as QuantizedValues
from .quantizer import quantize as quantize
from .rates import RateCurve as RateCurve
from .rates import bisect_steps as bisect_steps
