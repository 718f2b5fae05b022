"""The workbench: interactive panels over one selection, each usable alone as the last line of a notebook cell.

>>> from resmoe_lab import workbench
>>> workbench.experts("mixtral-tiny")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

#: Public name -> its module and its name there. Reports use the views without any widget installed.
_HOMES = {
    "experts": ("panels.experts", "ExpertsPanel"),
    "transport": ("panels.transport", "TransportPanel"),
    "errors": ("panels.errors", "ErrorsPanel"),
    "sweep": ("panels.sweep", "SweepPanel"),
    "zero_shot": ("panels.zero_shot", "ZeroShotPanel"),
    "model_map": ("panels.map", "MapPanel"),
    "ablation": ("panels.ablation", "AblationPanel"),
    "tokens": ("panels.tokens", "TokensPanel"),
    "fusion": ("panels.fusion", "FusionPanel"),
    "barycenters": ("panels.barycenters", "BarycentersPanel"),
    "Explorer": ("panels.explorer", "Explorer"),
    "Selection": ("selection", "Selection"),
    "Workbench": ("app", "Workbench"),
    "Job": ("job", "Job"),
}
__all__ = [
    "Explorer",
    "Job",
    "Selection",
    "Workbench",
    "ablation",
    "barycenters",
    "errors",
    "experts",
    "fusion",
    "model_map",
    "sweep",
    "tokens",
    "transport",
    "zero_shot",
]

if TYPE_CHECKING:
    from .app import Workbench as Workbench
    from .job import Job as Job
    from .panels import AblationPanel as ablation
    from .panels import BarycentersPanel as barycenters
    from .panels import ErrorsPanel as errors
    from .panels import ExpertsPanel as experts
    from .panels import Explorer as Explorer
    from .panels import FusionPanel as fusion
    from .panels import MapPanel as model_map
    from .panels import SweepPanel as sweep
    from .panels import TokensPanel as tokens
    from .panels import TransportPanel as transport
    from .panels import ZeroShotPanel as zero_shot
    from .selection import Selection as Selection


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, entry = _HOMES[name]
    return getattr(importlib.import_module(f".{module}", __name__), entry)


def __dir__() -> list[str]:
    return __all__
