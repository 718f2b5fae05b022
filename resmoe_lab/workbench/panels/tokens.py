"""The tokens panel: a text in the original and in the compressed model, token by token."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
from matplotlib.figure import Figure

from ..._core.progress import Progress, silent
from ...checkpoint import Checkpoint
from ...experiments.token_shift import routing_moves
from ...plots.live import routing_figure
from ..job import Job
from ..model import running_model
from ..selection import Selection
from ..views import TokensView, view_tokens
from ..views.tokens import EXAMPLE
from ._base import Panel
from ._live import Computation
from .tokens_picture import TokensPicture


class TokensPanel(Panel[TokensView]):
    """A text coloured by how far each prediction moves under compression, or by the experts that each token takes.

    A token that is chosen shows what both models predict after it, and in which layer they part. Below, how many
    tokens change their experts in every layer.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    text
        The text.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.tokens("mixtral-tiny", text="One morning the river", keep=0.5).wait()
    >>> panel.view.shift.kl.shape
    (5,)
    """

    name, title = "tokens", "Tokens"
    keeps_records = True
    compute_traits = ("method", "center", "keep")
    draw_traits = ("layer",)
    picture_names = ("routing",)
    sentence = "A text as the original and the compressed model read it: what moves, where, and by how much."
    reading: ClassVar[Mapping[str, str]] = {
        "tokens": "The colour of a token tells how far the prediction of the token after it moves: KL divergence "
        "from the original's distribution, in nats; 0.01 is hardly noticed, 1 is another model. Colours of experts "
        "show that of the largest gate. A row of the table in bold is a layer after which both models would say "
        "something else.",
        "routing": "Compressed experts change what the next layers see, so their routers may choose others. Left: "
        "the share of this text's tokens whose set of experts changes. Middle: how far the softmax over the router's "
        "logits moves. Right: who goes where; what stays is on the diagonal.",
    }

    def __init__(self, source: Selection | Checkpoint | str | Path, *, text: str = EXAMPLE, **traits: Any) -> None:
        self.text = ipywidgets.Textarea(
            value=text,
            description="text",
            continuous_update=False,
            layout=ipywidgets.Layout(width="auto", height="5.5rem"),
            style={"description_width": "4.5rem"},
        )
        self.tokens = TokensPicture(self._tell_layers)
        self._asked: Job[Any] | None = None
        super().__init__(source, **traits)
        self.text.observe(self._recompute, names="value")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        return [self.text]

    def _result_controls(self) -> list[ipywidgets.Widget]:
        return [self.tokens]

    def _options(self) -> dict[str, Any]:
        return {"text": self.text.value}

    def _key(self) -> Hashable:
        selection = self.selection
        return (selection.method, selection.center, selection.keep, self.text.value)

    def _computation(self) -> Computation[TokensView]:
        selection = self.selection
        form: dict[str, Any] = {"method": selection.method, "keep": selection.keep, "center": selection.center}
        return partial(view_tokens, selection.checkpoint, self.text.value, **form)

    def _tell_layers(self, token: int) -> None:
        """Read the layers out at a token, in a thread, and show what they say."""
        if self.result is None:
            return
        view, checkpoint = self._view(), self.selection.checkpoint

        def read_out(progress: Progress) -> None:
            with running_model(checkpoint, progress) as (model, tokenizer):
                self.tokens.tell_layers(view.lens(model, tokenizer, [token]))

        self._asked = Job(read_out, progress=silent, done=self._report)

    def _report(self, job: Job[Any]) -> None:
        if job.error is not None:
            self._fail(job.error)

    def _show(self) -> None:
        data = self._view().data()
        if data["layers"]:
            data["layer"] = data["layers"].index(self.selection.layer)
        if data != self.tokens.data:
            self.tokens.data = data
        super()._show()

    def _figures(self) -> Mapping[str, Figure]:
        shift, layer = self._view().shift, self.selection.layer
        if layer not in shift.routing:
            return {}
        moves = routing_moves(*shift.routing[layer])
        return {"routing": routing_figure(shift.routing_shift(), moves, layer=layer)}

    def _summary(self) -> str:
        view = self._view()
        shift = view.shift
        worst = int(shift.kl.argmax())
        piece = view.pieces[int(shift.predicting[worst])].strip() or "a space"
        same = float((shift.top[0, :, 0] == shift.top[1, :, 0]).mean())
        words = (
            f"<b>{escape(view.label)}</b>: predictions move by {shift.kl.mean():.3g} nats a token on average, most "
            f"after “{escape(piece)}” ({shift.kl[worst]:.3g}); {same:.0%} keep their likeliest next token."
        )
        table = shift.routing_shift()
        if len(table):
            most = table.iloc[int(table["rerouted"].argmax())]
            words += f" Of the tokens, up to {most['rerouted']:.0%} change an expert (layer {most['layer']:g})."
        if view.truncated:
            words += (
                f"<br>The last {view.truncated:,} tokens of the text are left out: the model reads no more at once."
            )
        return words

    def _alt(self, name: str) -> str:
        listed = ", ".join(
            f"layer {row.layer} {row.rerouted:.0%}" for row in self._view().shift.routing_shift().itertuples()
        )
        return f"Share of the tokens that change an expert: {listed}"
