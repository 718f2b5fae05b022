"""Ways to compute a continuous barycenter, one file each."""

from ._base import SOLVERS as SOLVERS
from ._base import Settings as Settings
from ._base import Solver as Solver
