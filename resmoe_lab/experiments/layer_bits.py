"""Which layer gets how many bits: from what each layer alone does to the model's predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .._core.errors import UsageError
from .._core.params import keep_of_bits
from .._core.progress import Progress, Tick, silent
from ..analysis.allocation import allocate
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, family_of
from ..methods import METHODS, CompressedLayer, storage_ledger
from ..methods._coding import byte_budget
from ..runtime import restored_experts
from ..scoring.calibration import TOKENS, calibration_requests
from ..scoring.usage_trace import UsageTrace
from .divergence import divergence, predicting_states
from .runner import VariantRunner

#: Bits a weight at which a layer is tried.
BITS: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)


def check_allocatable(method: str) -> None:
    """Refuse a method that bits cannot be allocated to.

    Raises
    ------
    UsageError
        If it does not go by bits.
    """
    if not METHODS[method].method.by_bits:
        raise UsageError(f"method {method!r} does not go by bits: bits are allocated to methods such as resmoe-coded")


def measure_layers(
    checkpoint: Checkpoint,
    method: str,
    *,
    text: str,
    tokens: int = TOKENS,
    bits: Sequence[float] = BITS,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
    **options: Any,
) -> pd.DataFrame:
    """Compress one layer at a time to every number of bits, and measure what that does to the predictions.

    Parameters
    ----------
    checkpoint
        The model.
    method
        One that goes by bits.
    text, tokens, data_dir
        A task of running text, and how many tokens of it are predicted.
    bits
        Bits a weight to try; those that the method cannot have are left out.
    progress
        Called before every trial; raising from it cancels.
    options
        ``layers``, ``center``, ``storage``, ``usage``, ``seed``, ``device``: see :class:`~.runner.VariantRunner`.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, keep, true_bytes, kl``: KL of the original's predictions to the model's with that layer
        alone compressed, in nats a token.

    Raises
    ------
    UsageError
        If the method does not go by bits.
    """
    check_allocatable(method)
    rows = list[tuple[int, float, int, float]]()
    with VariantRunner(
        checkpoint, calibration=text, tokens=tokens, data_dir=data_dir, progress=progress, **options
    ) as runner:
        requests = calibration_requests(*runner.loaded, text=text, tokens=tokens, data_dir=data_dir)
        with runner.running(runner.original) as (model, _):
            original = predicting_states(model, requests)
        for stack, trials in _trials(runner, method, bits=bits, progress=progress):
            for keep, compressed in trials:
                restored = stack.with_weights(compressed.restore())
                with restored_experts(runner.loaded[0], checkpoint, iter([restored]), reload=True):
                    result = divergence(model, original, predicting_states(model, requests))
                rows.append((stack.layer, keep, storage_ledger(compressed).true_bytes, result.kl))
    return pd.DataFrame(rows, columns=["layer", "keep", "true_bytes", "kl"])


def weigh_layers(
    checkpoint: Checkpoint,
    method: str,
    *,
    usage: UsageTrace,
    bits: Sequence[float] = BITS,
    progress: Progress = silent,
    **options: Any,
) -> pd.DataFrame:
    """Compress one layer at a time to every number of bits, and weigh the errors of its experts by their usage.

    No model runs: this is for models that are too large for it.

    Parameters
    ----------
    checkpoint, method, bits, progress
        As for :func:`measure_layers`.
    usage
        How often each expert is used.
    options
        ``layers``, ``center``, ``storage``, ``seed``: see :class:`~.runner.VariantRunner`.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, keep, true_bytes, loss``: sum_k u_k ||W_k - restored_k||_F^2 as a share of
        sum_k u_k ||W_k||_F^2, with the usage u_k of each expert.

    Raises
    ------
    UsageError
        If the method does not go by bits.
    """
    check_allocatable(method)
    rows = list[tuple[int, float, int, float]]()
    with VariantRunner(checkpoint, usage=usage, progress=progress, **options) as runner:
        for stack, trials in _trials(runner, method, bits=bits, progress=progress):
            shares = usage.usage[stack.layer]
            scale = float(shares @ _squared_norms(stack.weights))
            for keep, compressed in trials:
                error = float(shares @ _squared_norms(stack.weights - compressed.restore()))
                rows.append((stack.layer, keep, storage_ledger(compressed).true_bytes, error / (scale or 1.0)))
    return pd.DataFrame(rows, columns=["layer", "keep", "true_bytes", "loss"])


def _trials(
    runner: VariantRunner, method: str, *, bits: Sequence[float], progress: Progress
) -> Iterator[tuple[ExpertStack, Iterator[tuple[float, CompressedLayer]]]]:
    """Yield every layer's experts, and what a method makes of them at each number of bits that it can have."""
    keeps = [keep_of_bits(value) for value in bits if METHODS[method].method.takes_bits(value)]
    total = len(keeps) * len(runner.layers)

    def of_layer(stack: ExpertStack, done: int) -> Iterator[tuple[float, CompressedLayer]]:
        for number, keep in enumerate(keeps, start=done):
            progress(Tick("bits of every layer", number, total, {"layer": stack.layer, "bits": 16 * keep}))
            yield keep, runner.compressed(runner.variant(method, keep), stack.layer, stack=stack)

    for number, layer in enumerate(runner.layers):
        stack = runner.stack(layer)
        yield stack, of_layer(stack, len(keeps) * number)
        progress(Tick("bits of every layer", len(keeps) * (number + 1), total))


def _squared_norms(matrices: torch.Tensor) -> torch.Tensor:
    """(N,) float64: squared Frobenius norms of (N, p_I, D) matrices."""
    return torch.stack([matrix.double().square().sum() for matrix in matrices]).cpu()


def allocate_bits(measured: pd.DataFrame, budget: float) -> dict[int, float]:
    """Choose a kept fraction for each layer so that all fit into a budget of bytes and the predictions move least.

    Parameters
    ----------
    measured
        As :func:`measure_layers` or :func:`weigh_layers` returns it: what layers do alone is added up.
    budget
        Bytes of all layers together.

    Returns
    -------
    dict
        The number of each layer, and its kept fraction.

    Raises
    ------
    UsageError
        If not even the smallest fit, saying what is needed.

    Examples
    --------
    >>> rows = [(0, 0.1, 10, 0.5), (0, 0.2, 20, 0.1), (1, 0.1, 10, 0.02), (1, 0.2, 20, 0.01)]
    >>> allocate_bits(pd.DataFrame(rows, columns=["layer", "keep", "true_bytes", "kl"]), 30)
    {0: 0.2, 1: 0.1}
    """
    lost = "kl" if "kl" in measured else "loss"
    losses = measured.pivot_table(index="layer", columns="keep", values=lost).sort_index(axis=1)
    sizes = measured.pivot_table(index="layer", columns="keep", values="true_bytes").sort_index(axis=1)
    # More bits are never worse but by chance: text is finite.
    smooth = np.minimum.accumulate(losses.to_numpy(), axis=1)
    allocation = allocate(smooth, np.ceil(sizes.to_numpy()).astype(np.int64), budget)
    keeps = losses.columns.tolist()
    return {int(layer): float(keeps[k]) for layer, k in zip(losses.index, allocation.choices, strict=True)}


def layer_budget(checkpoint: Checkpoint, layers: Sequence[int], keep: float) -> float:
    """Return the bytes that a kept fraction of 16 bits is for some layers together."""
    return byte_budget(family_of(checkpoint).layer_shape(), keep) * len(layers)
