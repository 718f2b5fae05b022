"""Zero-shot scores of what is chosen, beside the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from ..._core.errors import UsageError
from ..._core.progress import Progress
from ...checkpoint import Checkpoint
from ...compress import select_layers
from ...plots.live import scores_figure
from ...scoring.scorer import Protocol
from ...scoring.tasks import EMBEDDED_TASKS, TASKS
from ..controls import Checks, choice, row_limit
from ..selection import Selection
from ..views import ScoresView, view_scores
from ._base import WRAP, Panel, command_line


class ZeroShotPanel(Panel[ScoresView]):
    """Score a method at the slider's kept fraction on tasks, with error bars and the difference to the original.

    Parameters
    ----------
    source, chosen
        As for :class:`Panel`.
    tasks, limit
        What is scored, on how many rows (None: all).
    protocol
        Whose scoring: ``"paper"`` or ``"lm-eval"``.
    layers
        Which layers are compressed, as the command line writes it.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> workbench.zero_shot("mixtral-tiny", tasks=["storyworld_action"], limit=50)  # doctest: +SKIP
    """

    name, title = "zero_shot", "Zero-shot"
    decided_by = ("method", "center", "keep")
    picture_names = ("scores",)

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        tasks: Sequence[str] = EMBEDDED_TASKS,
        limit: int | None = 100,
        protocol: Protocol = "paper",
        layers: str = "all",
        **chosen: Any,
    ) -> None:
        self.tasks = Checks("tasks", list(dict.fromkeys([*TASKS, *tasks])), tasks)
        self.layers = ipywidgets.Text(value=layers, description="layers", layout=ipywidgets.Layout(width="12rem"))
        self.limit = row_limit(limit)
        self.protocol = choice("protocol", get_args(Protocol), value=protocol, doc="whose scoring")
        self.run = ipywidgets.Button(description="Score", button_style="primary", tooltip="run the model")
        self._asked = False
        super().__init__(source, **chosen)
        self.run.on_click(lambda _: self.score())

    def _own_controls(self) -> list[ipywidgets.Widget]:
        row = ipywidgets.HBox([self.protocol, self.layers, self.limit, self.run], layout=ipywidgets.Layout(**WRAP))
        return [self.tasks.widget, row]

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"tasks": self.tasks.value, "limit": self.limit.value or None}
        return options | {"protocol": self.protocol.value, "layers": self.layers.value}

    def score(self) -> None:
        """Score what is chosen, unless it has been scored before."""
        self._asked = True
        self._begin()

    def _begin(self) -> None:
        """Running a model takes its time: only a button begins it, not the move of a slider."""
        if self._asked:
            self._asked = False
            super()._begin()
        elif self.kept is None:
            self.said.value = "Choose, then press Score."
        else:
            self.mark.value = "<span class='resmoe-mark'>of what was chosen before · press Score</span>"

    def _compute(self, progress: Progress) -> ScoresView:
        chosen, options = self.selection, self._options()
        if not options["tasks"]:
            raise UsageError("nothing to score: check at least one task")
        layers = select_layers(options.pop("layers"), chosen.layers)
        how: dict[str, Any] = {"method": chosen.method, "keeps": chosen.keep, "center": chosen.center}
        return view_scores(chosen.checkpoint, layers, **how, **options, progress=progress)

    def _figures(self) -> Mapping[str, Figure]:
        return {"scores": scores_figure(self._view().main())}

    def _words(self) -> str:
        table = self._view().scores
        shown = table[["label", "task", "metric", "n", "value", "stderr"]].copy()
        differences = zip(table["difference"], table["low"], table["high"], strict=True)
        shown["difference"] = [
            "" if pd.isna(difference) else f"{difference:+.3g} ({low:+.3g} to {high:+.3g})"
            for difference, low, high in differences
        ]
        shown["p"] = table["p_value"]
        shown["mark"] = ["known before" if cached else "fresh" for cached in table["cached"]]
        formats: dict[str, Any] = {"value": "{:.4g}".format, "stderr": "{:.2g}".format, "p": "{:.2g}".format}
        note = "<p>difference to the original, row by row, with its 95 % bootstrap interval; p: McNemar's test.</p>"
        return shown.to_html(index=False, border=0, escape=True, formatters=formats, na_rep="") + note

    def _alt(self, name: str) -> str:
        rows = self._view().main().itertuples()
        return "Scores: " + "; ".join(f"{row.label}, {row.task}: {row.value:.3g}" for row in rows)

    def command(self) -> str:
        """The compression and the scoring as two commands."""
        chosen, options = self.selection, self._options()
        folder = f"{Path(chosen.checkpoint.name).name}-{chosen.method}-{chosen.keep:g}"
        how = ["--method", chosen.method, "--keep", f"{chosen.keep:g}", "--center", chosen.center]
        compress = ["compress", chosen.checkpoint.name, *how, "--layers", options["layers"], "--out", folder]
        limit = [] if options["limit"] is None else ["--limit", str(options["limit"])]
        tasks = ["--tasks", ",".join(options["tasks"]), "--protocol", options["protocol"]]
        evaluate = ["evaluate", folder, *tasks, *limit]
        return f"{command_line('resmoe-lab', *compress)} && {command_line('resmoe-lab', *evaluate)}"
