"""The zero-shot panel: scores of the compressed model and of the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar, get_args

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from ...checkpoint import Checkpoint
from ...compress import select_layers
from ...plots.live import scores_figure
from ...scoring.scorer import Protocol
from ...scoring.tasks import EMBEDDED_TASKS, TASKS
from ..controls import Checkboxes, dropdown, row_limit
from ..kept import newest_sweep
from ..selection import Selection
from ..views import ScoresView, view_scores
from ._base import WRAP, Panel, command_line, setting_words
from ._live import Computation


class ZeroShotPanel(Panel[ScoresView]):
    """Score a method at the slider's kept fraction on tasks, with error bars and the difference to the original.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    tasks, limit
        Tasks, and how many rows of each are scored (None: all).
    protocol
        Scoring protocol: ``"paper"`` or ``"lm-eval"``.
    layers
        Which layers are compressed, in the syntax of the command line.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.zero_shot("mixtral-tiny", tasks=["storyworld_action"], limit=4, keep=0.5)
    >>> panel.score()
    >>> panel.wait().view.scores["label"].tolist()
    ['original', 'resmoe-up at 0.5']
    """

    name, title = "zero_shot", "Zero-shot"
    sentence = "Scores of the compressed model on tasks, beside those of the original."
    reading: ClassVar[Mapping[str, str]] = {
        "scores": "Bars with their standard errors. A difference whose interval in the table does not touch zero is "
        "more than chance.",
    }
    compute_traits = ("method", "center", "keep")
    picture_names = ("scores",)

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        tasks: Sequence[str] = EMBEDDED_TASKS,
        limit: int | None = 100,
        protocol: Protocol = "paper",
        layers: str = "all",
        **traits: Any,
    ) -> None:
        self.tasks = Checkboxes("tasks", list(dict.fromkeys([*TASKS, *tasks])), tasks)
        self.layers = ipywidgets.Text(value=layers, description="layers", layout=ipywidgets.Layout(width="12rem"))
        self.limit = row_limit(limit)
        self.protocol = dropdown("protocol", get_args(Protocol), value=protocol, doc="scoring protocol")
        self.run = ipywidgets.Button(description="Score", button_style="primary", tooltip="run the model")
        self._requested = False
        super().__init__(source, **traits)
        self.run.on_click(lambda _: self.score())

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        row = ipywidgets.HBox([self.protocol, self.layers, self.limit, self.run], layout=ipywidgets.Layout(**WRAP))
        return [self.tasks.widget, row]

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"tasks": self.tasks.value, "limit": self.limit.value or None}
        return options | {"protocol": self.protocol.value, "layers": self.layers.value}

    def score(self) -> None:
        """Score the current selection, unless its scores are cached."""
        self._requested = True
        self._begin()

    def _begin(self) -> None:
        """Compute only after the button: running a model takes too long to follow a slider."""
        if self._requested:
            self._requested = False
            super()._begin()
        elif self.result is None:
            self._show_kept()
        else:
            self.mark.value = "<span class='resmoe-mark'>of an earlier selection · press Score</span>"

    def _show_kept(self) -> None:
        """Show the scores of the newest sweep of this model, until something is scored."""
        selection = self.selection
        kept = newest_sweep(selection.checkpoint)
        view = None if kept is None else ScoresView.of_sweep(kept.sweep, selection.method, selection.keep)
        self.message.value = "Choose, then press Score."
        if kept is None or view is None:
            self.pictures["scores"].hide()
            return
        self.pictures["scores"].show(scores_figure(view.main()), alt_text(view))
        label = view.scores["label"].iloc[-1]
        self.message.value += f" Below: {escape(label)}, from {escape(kept.place)} ({kept.date:%Y-%m-%d})."

    def _computation(self) -> Computation[ScoresView]:
        selection, options = self.selection, self._options()
        checkpoint, layers, available = selection.checkpoint, options.pop("layers"), selection.layers
        options |= {"method": selection.method, "keeps": selection.keep, "center": selection.center}
        return lambda *, progress: view_scores(
            checkpoint, select_layers(layers, available), **options, progress=progress
        )

    def _figures(self) -> Mapping[str, Figure]:
        return {"scores": scores_figure(self._view().main())}

    def _summary(self) -> str:
        table = self._view().scores
        shown = table[["label", "task", "metric", "n", "value", "stderr"]].copy()
        differences = zip(table["difference"], table["low"], table["high"], strict=True)
        shown["difference"] = [
            "" if pd.isna(difference) else f"{difference:+.3g} ({low:+.3g} to {high:+.3g})"
            for difference, low, high in differences
        ]
        shown["p"] = table["p_value"]
        shown["rerouted"] = ["" if pd.isna(share) else f"{share:.1%}" for share in table["rerouted"]]
        shown["mark"] = ["cached" if cached else "fresh" for cached in table["cached"]]
        formats: dict[str, Any] = {"value": "{:.4g}".format, "stderr": "{:.2g}".format, "p": "{:.2g}".format}
        note = "<p>difference to the original, row by row, with its 95 % bootstrap interval; p: McNemar's test; "
        note += "rerouted: tokens of a text that take other experts than in the original, mean over the layers.</p>"
        return shown.to_html(index=False, border=0, escape=True, formatters=formats, na_rep="") + note

    def _alt(self, name: str) -> str:
        return alt_text(self._view())

    def command(self) -> str:
        """Return the command lines of the compression and of the scoring."""
        selection, options = self.selection, self._options()
        folder = f"{Path(selection.checkpoint.name).name}-{selection.method}-{selection.keep:g}"
        compression = ["--method", selection.method, *setting_words(selection.method, selection.keep)]
        compression += ["--center", selection.center]
        compress = ["compress", selection.checkpoint.name, *compression, "--layers", options["layers"], "--out", folder]
        limit = [] if options["limit"] is None else ["--limit", str(options["limit"])]
        tasks = ["--tasks", ",".join(options["tasks"]), "--protocol", options["protocol"]]
        evaluate = ["evaluate", folder, *tasks, *limit]
        return f"{command_line('resmoe-lab', *compress)} && {command_line('resmoe-lab', *evaluate)}"


def alt_text(view: ScoresView) -> str:
    """Return the alternative text of the picture of some scores."""
    return "Scores: " + "; ".join(f"{row.label}, {row.task}: {row.value:.3g}" for row in view.main().itertuples())
