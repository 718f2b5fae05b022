"""The ablation panel: what a model loses without each of its experts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
from matplotlib.figure import Figure

from ...checkpoint import Checkpoint
from ...experiments.divergence import TEXT
from ...experiments.expert_ablation import TOKENS
from ...plots.live import ablation_figure
from ...scoring.tasks import RUNNING_TEXT, TASKS
from ..controls import dropdown
from ..selection import Selection
from ..views import AblationView, view_ablation
from ._base import Panel
from ._live import Computation


class AblationPanel(Panel[AblationView]):
    """Every expert switched off, and replaced by its layer's center: how far the predictions of a text move.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    text, tokens
        A task of running text, and how many of its tokens are predicted.
    passage
        A text of your own, which is predicted instead.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.ablation("mixtral-tiny", tokens=64).wait()
    >>> panel.view.ablation.columns.tolist()[:3]
    ['layer', 'expert', 'replaced_by']
    """

    name, title = "ablation", "Ablation"
    sentence = "What the model loses without each of its experts, and with the center in its place."
    reading: ClassVar[Mapping[str, str]] = {
        "ablation": "A cell is one expert: how far the predictions of the text move (KL in nats a token, logarithmic "
        "colours) when it adds nothing, and when the center of its layer computes in its stead. Where the right "
        "picture is pale, the center is almost the expert. An expert that few tokens reach does little either way: "
        "its share is in the table."
    }
    keeps_records = True
    compute_traits = ("center",)
    draw_traits = ("layer",)
    picture_names = ("ablation",)
    main_task = "experts taken away"

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        text: str = TEXT,
        passage: str = "",
        tokens: int = TOKENS,
        **traits: Any,
    ) -> None:
        names = [name for name in TASKS if TASKS[name].kind in RUNNING_TEXT]
        self.text = dropdown("text", list(dict.fromkeys([*names, text])), value=text, doc="whose tokens are predicted")
        self.tokens = ipywidgets.BoundedIntText(value=tokens, min=2, max=10**6, description="tokens")
        self.passage = ipywidgets.Textarea(
            value=passage,
            description="own text",
            rows=4,
            placeholder="a text of your own; empty: that of the task",
            continuous_update=False,
        )
        super().__init__(source, **traits)
        for control in (self.text, self.passage, self.tokens):
            control.observe(self._recompute, names="value")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        return [self.text, self.passage, self.tokens]

    def _options(self) -> dict[str, Any]:
        return {"text": self.text.value, "passage": self.passage.value.strip(), "tokens": self.tokens.value}

    def _computation(self) -> Computation[AblationView]:
        selection = self.selection
        return partial(view_ablation, selection.checkpoint, center=selection.center, **self._options())

    def _figures(self) -> Mapping[str, Figure]:
        return {"ablation": ablation_figure(self._view().ablation, layer=self.selection.layer)}

    def _summary(self) -> str:
        table = self._view().ablation
        off, center = (table[table["replaced_by"] == name] for name in ("off", "center"))
        worst = off.iloc[int(off["kl"].argmax())]
        own = center[(center["layer"] == worst["layer"]) & (center["expert"] == worst["expert"])].iloc[0]
        read = "your text" if self._view().passage else escape(self._view().text)
        return (
            f"On {read}, the model misses <b>expert {worst['expert']} of layer {worst['layer']}</b> most: without it "
            f"predictions move by {worst['kl']:.3g} nats a token (perplexity {worst['original_perplexity']:.4g} to "
            f"{worst['perplexity']:.4g}); with the center in its place by {own['kl']:.3g}. On average over all "
            f"experts: {off['kl'].mean():.3g} without, {center['kl'].mean():.3g} with the center."
        )

    def _alt(self, name: str) -> str:
        table = self._view().ablation
        means = table.groupby(["replaced_by", "layer"], as_index=False)["kl"].mean().itertuples()
        listed = "; ".join(f"{row.replaced_by}, layer {row.layer}: {row.kl:.3g}" for row in means)
        return f"Mean KL in nats a token of the experts taken away: {listed}"
