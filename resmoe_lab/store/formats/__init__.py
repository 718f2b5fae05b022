"""How the experts of a layer lie in a file and run: one class for each stored format, one file each."""

from ._base import FORMATS as FORMATS
from ._base import Format as Format
from ._base import formats_of as formats_of
from ._base import smallest_format as smallest_format
from ._lowrank import LowRankFormat as LowRankFormat
from ._shards import shard_range as shard_range
