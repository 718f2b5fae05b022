"""Methods compared at equal bytes, not only at equal kept fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from ..centers import CENTERS, DEFAULT_CENTER, NO_CENTER
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, LayerShape
from ..methods import METHODS, forecast_ledger
from ..store.layout import DEFAULT_STORAGE, Storage
from .approximation import MEASURED, possible_keeps
from .budget import match_bytes

#: Bytes of a value of what is not compressed.
_VALUE_BYTES = 2
#: The method whose bytes the others get.
REFERENCE = "resmoe-up"


def keep_at_equal_bytes(
    method: str,
    keep: float,
    shape: LayerShape,
    *,
    center: bool = True,
    reference: str = REFERENCE,
    storage: Storage = DEFAULT_STORAGE,
) -> float:
    """Return the kept fraction at which a method takes as many bytes as another at `keep`, or as little less as it can.

    Parameters
    ----------
    method, reference
        Who gets the bytes, and whose they are.
    keep
        The reference's kept fraction.
    shape
        Of a layer's design matrices.
    center
        Whether a center is stored beside residuals.
    storage
        How values are stored.
    """
    receiver, giver = METHODS[method](), METHODS[reference]()
    budget = forecast_ledger(giver, shape, keep=keep, center=giver.uses_center and center, storage=storage).true_bytes
    return match_bytes(receiver, budget, shape, center=receiver.uses_center and center, storage=storage)


def size_table(
    checkpoint: Checkpoint,
    stack: ExpertStack,
    *,
    layers: int,
    methods: Sequence[str],
    keeps: Sequence[float],
    centers: Sequence[str] = (DEFAULT_CENTER,),
    storage: Storage = DEFAULT_STORAGE,
    stored: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Tabulate bytes of the compressed experts and of the whole model, of which the rest is counted at 16 bit.

    All layers of a model have one shape.

    Parameters
    ----------
    checkpoint
        The model.
    stack
        The experts of one of its layers.
    layers
        How many layers are compressed.
    methods, keeps, centers
        What is compared.
    storage
        How values are stored.
    stored
        What :func:`~.approximation.measured_curves` says of every layer, where they have been measured: for methods
        whose bytes only coding tells, of which a forecast is the upper bound.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, center, keep, format, paper_bytes, true_bytes, original_bytes, model_bytes,
        original_model_bytes``.
    """
    whole = sum(_VALUE_BYTES * math.prod(info.shape) for info in checkpoint.tensors.values())
    rows = []
    for name in methods:
        method = METHODS[name]()
        for center in centers if method.uses_center else (NO_CENTER,):
            for keep in possible_keeps(method, keeps, stack):
                has_center = CENTERS[center].stored
                ledger = forecast_ledger(method, stack.shape, keep=keep, center=has_center, storage=storage)
                paper, true, original = (
                    layers * size for size in (ledger.paper_bytes, ledger.true_bytes, ledger.original_bytes)
                )
                if stored is not None:
                    at = (stored.method == name) & (stored.center == center) & (stored.keep == keep)
                    true, paper = (int(stored.loc[at, count].sum()) for count in MEASURED)
                row = (name, center, keep, ledger.format, paper, true, original, whole - original + true, whole)
                rows.append(row)
    columns = ("method", "center", "keep", "format", "paper_bytes", "true_bytes", "original_bytes")
    return pd.DataFrame(rows, columns=[*columns, "model_bytes", "original_model_bytes"])
