"""Numbers that tables, streams and loops of the coder agree on."""

from __future__ import annotations

#: States of a stream.
LANES = 8
#: Words behind those of a stream, so that a round of all states may look one word too far.
PADDING = LANES + 1
#: Frequencies of a table add up to two to this power.
TABLE_BITS = 12
#: The least value of a state between two symbols, and what it is when a stream is at its end.
LOWEST = 1 << 16
