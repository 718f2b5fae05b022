"""The workbench: live panels over one selection, each usable alone as the last line of a notebook cell.

>>> from resmoe_lab import workbench
>>> workbench.experts("mixtral-tiny")  # doctest: +SKIP
"""

from .app import Workbench as Workbench
from .job import Job as Job
from .panels import ErrorsPanel as errors
from .panels import ExpertsPanel as experts
from .panels import Explorer as Explorer
from .panels import SweepPanel as sweep
from .panels import TransportPanel as transport
from .panels import ZeroShotPanel as zero_shot
from .selection import Selection as Selection

__all__ = ["Explorer", "Job", "Selection", "Workbench", "errors", "experts", "sweep", "transport", "zero_shot"]
