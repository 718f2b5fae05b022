"""A workbench that takes Mixture-of-Experts language models apart and makes them small.

The flow, in one breath: open a checkpoint, load the experts of a layer, find their center, compress them,
evaluate, report.

>>> import resmoe_lab as rl
>>> checkpoint = rl.open_checkpoint("mixtral-tiny")
>>> stack = rl.load_stack(checkpoint, layer=0)
>>> center = rl.find_center(stack)
>>> compressed = rl.compress_layer(stack, method="resmoe-up", keep=0.25, center=center)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._core.deprecation import deprecated_modules
from ._core.imports import when_imported

__version__ = "0.2.0"

#: Public name -> the module that has it, imported only when the name is used.
_HOMES = {
    "open_checkpoint": "checkpoint",
    "moe_layers": "experts",
    "load_stack": "experts",
    "find_center": "centers",
    "compress_layer": "methods",
    "storage_ledger": "methods",
    "CompressionConfig": "compress",
    "Storage": "store",
    "compress_checkpoint": "compress",
    "select_layers": "compress",
    "load": "runtime",
    "load_tokenizer": "runtime",
    "bench": "runtime.bench",
    "error_curves": "analysis.approximation",
    "errors_at_bits": "analysis.curves",
    "diagnose": "analysis.diagnosis",
    "evaluate_model": "scoring.zeroshot",
    "score_methods": "experiments.comparison",
    "run_sweep": "experiments.run_sweep",
    "SweepConfig": "experiments.sweep_config",
    "Sweep": "experiments.sweep",
    "build_report": "report",
    "Explorer": "workbench",
    "ResmoeError": "_core.errors",
}
__all__ = list(_HOMES)

#: Old public name -> where it lives on for one release.
_RENAMED = {"weigh": "methods", "load_model": "runtime"}

if TYPE_CHECKING:
    from ._core.errors import ResmoeError as ResmoeError
    from .analysis.approximation import error_curves as error_curves
    from .analysis.curves import errors_at_bits as errors_at_bits
    from .analysis.diagnosis import diagnose as diagnose
    from .centers import find_center as find_center
    from .checkpoint import open_checkpoint as open_checkpoint
    from .compress import CompressionConfig as CompressionConfig
    from .compress import compress_checkpoint as compress_checkpoint
    from .compress import select_layers as select_layers
    from .experiments.comparison import score_methods as score_methods
    from .experiments.run_sweep import run_sweep as run_sweep
    from .experiments.sweep import Sweep as Sweep
    from .experiments.sweep_config import SweepConfig as SweepConfig
    from .experts import load_stack as load_stack
    from .experts import moe_layers as moe_layers
    from .methods import compress_layer as compress_layer
    from .methods import storage_ledger as storage_ledger
    from .report import build_report as build_report
    from .runtime import load as load
    from .runtime import load_tokenizer as load_tokenizer
    from .runtime.bench import bench as bench
    from .scoring.zeroshot import evaluate_model as evaluate_model
    from .store import Storage as Storage
    from .workbench import Explorer as Explorer


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        return getattr(importlib.import_module(f".{_RENAMED[name]}", __name__), name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


#: Rooms that were one until version 0.2.
_MOVED = {
    "analysis": "allocation approximation curves diagnosis equal_bytes pareto similarity",
    "experiments": "divergence published sweep sweep_forecast",
    "scoring": "calibration glue harness likelihood outcome pairing routing tasks zeroshot",
}
deprecated_modules(
    {f"{__name__}.evaluate": ""}
    | {
        f"{__name__}.evaluate.{name}": f"{__name__}.{room}.{name}"
        for room, names in _MOVED.items()
        for name in names.split()
    }
)


def _register_packed_form() -> None:
    importlib.import_module(".runtime.quantizer", __name__)


# With this package imported, transformers opens packed checkpoints; neither waits for the other.
when_imported("transformers.quantizers.auto", _register_packed_form)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
