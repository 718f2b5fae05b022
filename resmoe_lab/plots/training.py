"""The training loss of a zoo model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .theme import ACCENT, METHOD_COLORS, drawing, new_figure

_PHASES = {"dense": METHOD_COLORS["svd"], "sparse": ACCENT}


def training_loss(log: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the smoothed training loss over all steps, one line a phase.

    Parameters
    ----------
    log
        Rows with ``phase``, ``step`` (within the phase) and ``loss`` (nats per token).
    """
    with drawing():
        figure = new_figure(6.4, 2.8)
        axes = figure.add_subplot()
        offset = 0
        for phase, color in _PHASES.items():
            rows = [row for row in log if row["phase"] == phase]
            if rows:
                steps = [offset + row["step"] for row in rows]
                axes.plot(steps, [row["loss"] for row in rows], color=color, label=f"{phase} ({rows[-1]['loss']:.2f})")
                offset = steps[-1]
        axes.set(xlabel="step", ylabel="loss (nats per token)", title="Training loss")
        axes.legend(frameon=False)
    return figure
