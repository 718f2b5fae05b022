"""Expert stacks, and one file for each model family that has them."""

from ._base import FAMILIES as FAMILIES
from ._base import Family as Family
from ._base import family_of as family_of
from ._stack import Block as Block
from ._stack import ExpertStack as ExpertStack
