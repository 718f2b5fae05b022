"""Calibration statistics of a layer's experts: usage, second moments of inputs and activations, Fisher information."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._core.errors import CheckpointError, ResmoeWarning, UsageError
from .._core.progress import Progress, silent, tracked
from ..centers import Statistics
from ..experts import Family
from .likelihood import Request, model_inputs, model_window
from .tasks import RUNNING_TEXT, TASKS, Row, find_task
from .zeroshot import text_windows

#: Number of calibration tokens by default.
TOKENS = 4096
#: Calibration text that every checkout has.
TEXT = "storyworld_perplexity"


def calibration_rows(text: str, *, tokens: int = TOKENS, data_dir: str | Path | None = None) -> list[Row]:
    """Return the rows of a calibration text: nothing has to run to know whether there are any.

    Parameters
    ----------
    text, tokens, data_dir
        As for :func:`calibration_requests`.

    Raises
    ------
    UsageError
        If the task is not one of running text, or `tokens` is not positive.
    DataError
        If the text is not found, or its file is damaged.
    """
    task = find_task(text)
    if task.kind not in RUNNING_TEXT:
        names = [name for name in TASKS if TASKS[name].kind in RUNNING_TEXT]
        raise UsageError(f"task {text!r} has no running text to calibrate with, expected one of {', '.join(names)}")
    if tokens < 1:
        raise UsageError(f"{tokens} calibration tokens, expected a positive whole number")
    return task.rows(data_dir=data_dir)


def calibration_requests(
    model: Any, tokenizer: Any, *, text: str = TEXT, tokens: int = TOKENS, data_dir: str | Path | None = None
) -> list[Request]:
    """Cut the beginning of a text into windows that fit a model.

    Parameters
    ----------
    model, tokenizer
        Decide the windows.
    text
        A task whose rows are texts, such as ``"wikitext"``.
    tokens
        How many tokens at least, as far as the text has them.
    data_dir
        Searched first for the text.

    Raises
    ------
    UsageError
        If the task is not one of running text, or `tokens` is not positive.
    DataError
        If the text is not found.
    """
    rows = calibration_rows(text, tokens=tokens, data_dir=data_dir)
    return _windows(model, tokenizer, (row["text"] for row in rows), tokens=tokens)


def passage_requests(model: Any, tokenizer: Any, passage: str, *, tokens: int = TOKENS) -> list[Request]:
    """Cut the beginning of a text of the user's own into windows that fit a model.

    Parameters
    ----------
    model, tokenizer, tokens
        As for :func:`calibration_requests`.
    passage
        The text.

    Raises
    ------
    UsageError
        If nothing in it can be predicted.
    """
    requests = _windows(model, tokenizer, [passage], tokens=tokens)
    if not any(request.continuation for request in requests):
        raise UsageError("the text has no token that can be predicted, expected at least one: type a few words")
    return requests


def _windows(model: Any, tokenizer: Any, texts: Iterable[str], *, tokens: int) -> list[Request]:
    """The windows of some texts, until there are so many tokens."""
    window, halves = model_window(model, tokenizer), bool(model.config.is_encoder_decoder)
    requests: list[Request] = []
    num_tokens = 0
    for text in texts:
        # No more of a book than is needed: a token rarely has more than a few letters.
        for request in text_windows(tokenizer, text[: 20 * tokens], window, halves=halves):
            if num_tokens >= tokens:
                return requests
            requests.append(request)
            num_tokens += len(request.context) + len(request.continuation)
    return requests


def calibrate(
    model: Any,
    family: Family,
    requests: Sequence[Request],
    *,
    layers: Sequence[int],
    source: str = TEXT,
    fisher: bool = False,
    moments: bool = False,
    progress: Progress = silent,
) -> dict[int, Statistics]:
    """Run text through a model and record statistics of the experts of some layers.

    Parameters
    ----------
    model
        A transformers model of the family.
    family
        Knows where its experts are.
    requests
        The text, as :func:`calibration_requests` cuts it.
    layers
        Numbers of the layers.
    source
        The text's name, for reports.
    fisher
        Also the mean squared gradient of the loss by each expert's weights, which takes a backward pass.
    moments
        Also the full second moments of every expert's inputs and neurons, which take 4 N (p^2 + p_I^2) bytes a layer.
    progress
        Called after every window; raising from it cancels.

    Returns
    -------
    dict
        Layer to statistics. An expert that receives no token is measured on all tokens of its layer instead, with a
        warning; its usage stays zero.

    Raises
    ------
    CheckpointError
        If the family's experts do not receive tokens and selected experts separately (Llama 4).
    """
    recorders = {layer: _Recorder(model, family, layer, moments=moments) for layer in layers}
    tokens = 0
    with _recording(recorders.values()):
        for request in tracked(requests, "calibration", progress):
            _run_window(model, request, recorders, fisher=fisher)
            tokens += len(request.context) + len(request.continuation)
    statistics = {layer: recorder.statistics(source, tokens, fisher=fisher) for layer, recorder in recorders.items()}
    _warn_of_unreached(statistics)
    return statistics


@torch.no_grad()
def calibrate_batches(
    model: Any,
    family: Family,
    batches: Sequence[Mapping[str, Tensor]],
    *,
    layers: Sequence[int],
    source: str,
    moments: bool = False,
    progress: Progress = silent,
) -> dict[int, Statistics]:
    """Record the same statistics of a model that is no language model, such as a classifier.

    Parameters
    ----------
    model, family, layers, source, moments
        As for :func:`calibrate`.
    batches
        What the model is called with; nothing in them is padding.
    progress
        Called after every batch; raising from it cancels.

    Returns
    -------
    dict
        Layer to statistics, as :func:`calibrate` returns them.
    """
    recorders = {layer: _Recorder(model, family, layer, moments=moments) for layer in layers}
    with _recording(recorders.values()):
        for batch in tracked(batches, "calibration", progress):
            model(**batch)
    statistics = {
        layer: recorder.statistics(source, recorder.tokens, fisher=False) for layer, recorder in recorders.items()
    }
    _warn_of_unreached(statistics)
    return statistics


@contextmanager
def _recording(recorders: Iterable[_Recorder]) -> Iterator[None]:
    with ExitStack() as hooks:
        for recorder in recorders:
            hooks.enter_context(recorder.recording())
        yield


def _run_window(model: Any, request: Request, recorders: Mapping[int, _Recorder], *, fisher: bool) -> None:
    """Run one window, with a backward pass where gradients are wanted."""
    targets = torch.tensor([request.continuation], device=model.device)
    with torch.set_grad_enabled(fisher):
        logits = model(**model_inputs(model, request), use_cache=False).logits
        if not fisher:
            return
        # A decoder-only model is also given the last token; its prediction after it is not needed.
        logits = (logits if model.config.is_encoder_decoder else logits[:, :-1])[:, -targets.shape[1] :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
    weights = [weight for recorder in recorders.values() for weight in recorder.weights]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    by_weight = dict(zip(weights, gradients, strict=True))
    for recorder in recorders.values():
        recorder.add_gradients(by_weight)


class _Recorder:
    """Sums over the tokens that pass one layer's experts."""

    def __init__(self, model: Any, family: Family, layer: int, *, moments: bool = False) -> None:
        self.family, self.layer = family, layer
        self.experts = family.experts_module(model, layer)
        self.router: Tensor = family.router_module(model, layer).get_parameter("weight")
        self.shape = family.layer_shape()
        count, neurons, p = self.shape.num_experts, self.shape.intermediate_size, self.router.shape[1]
        sums: dict[str, Any] = {"dtype": torch.float64, "device": self.router.device}
        self.counts, self.tokens = torch.zeros(count, **sums), 0
        self.inputs, self.neurons = torch.zeros(count, p, **sums), torch.zeros(count, neurons, **sums)
        self.all_neurons = torch.zeros(count, neurons, **sums)
        self.moments, self.logits = torch.zeros(p, p, **sums), torch.zeros(count, count, **sums)
        self.squares = torch.zeros(count, **sums)
        self.input_moments = self.neuron_moments = None
        if moments:  # in float32: they are by far the largest
            sums["dtype"] = torch.float32
            self.input_moments, self.neuron_moments = (torch.zeros(count, n, n, **sums) for n in (p, neurons))

    @property
    def weights(self) -> list[Tensor]:
        """The running model's own parameters that hold the experts."""
        names = dict.fromkeys(
            part.key.format(k=k) for k in range(self.shape.num_experts) for part in self.family.module_parts
        )
        return [self.experts.get_parameter(name) for name in names]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the experts' inputs while the block runs, and let gradients reach their weights."""
        hook = self.experts.register_forward_pre_hook(self._record, with_kwargs=True)
        required = [weight.requires_grad for weight in self.weights]
        for weight in self.weights:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            hook.remove()
            for weight, requires_grad in zip(self.weights, required, strict=True):
                weight.requires_grad_(requires_grad)

    @torch.no_grad()
    def _record(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = [*args, *kwargs.values()]
        if len(inputs) < 2:
            raise CheckpointError(
                f"{type(module).__name__} does not receive the selected experts of each token: "
                f"family {self.family.name!r} cannot be calibrated"
            )
        hidden, index = inputs[0].detach().flatten(0, -2).float(), inputs[1]
        selected = _selected(index, self.shape.num_experts)
        hidden64 = hidden.double()
        self.tokens += len(hidden)
        self.counts += selected.sum(0)
        self.inputs += selected.double().T @ hidden64.square()
        self.moments += hidden64.T @ hidden64
        logits = hidden @ self.router.detach().float().T
        self.logits += logits.double().T @ logits.double()
        for k in range(self.shape.num_experts):
            values = neuron_values(module, self.family, k, hidden)
            squares = values.double().square()
            self.neurons[k] += squares[selected[:, k]].sum(0)
            self.all_neurons[k] += squares.sum(0)
            if self.input_moments is not None and self.neuron_moments is not None:
                for sums, seen in ((self.input_moments[k], hidden), (self.neuron_moments[k], values)):
                    own = seen[selected[:, k]].float()
                    sums.addmm_(own.T, own)

    def add_gradients(self, gradients: Mapping[Tensor, Tensor | None]) -> None:
        """Add one window's squared gradients."""
        for k in range(self.shape.num_experts):
            for part in self.family.module_parts:
                gradient = gradients[self.experts.get_parameter(part.key.format(k=k))]
                if gradient is not None:
                    self.squares[k] += part.view(gradient, k).double().square().sum()

    def statistics(self, source: str, tokens: int, *, fisher: bool) -> Statistics:
        """Turn the sums into means."""
        reached = (self.counts > 0)[:, None]
        per_expert, per_token = self.counts.clamp(min=1)[:, None], max(1, self.tokens)
        inputs = torch.where(reached, self.inputs / per_expert, self.moments.diagonal() / per_token)
        neurons = torch.where(reached, self.neurons / per_expert, self.all_neurons / per_token)
        norms = self.logits.diagonal().sqrt().clamp(min=1e-300)
        return Statistics(
            usage=self.counts / self.counts.sum().clamp(min=1),
            affinity=self.logits / norms / norms[:, None],
            inputs=inputs.float(),
            neurons=neurons.float(),
            moments=(self.moments / per_token).float(),
            fisher=self.squares / (self.shape.intermediate_size * self.shape.width) if fisher else None,
            source=source,
            tokens=tokens,
            expert_tokens=self.counts.long(),
            input_moments=self._mean_moments(self.input_moments),
            neuron_moments=self._mean_moments(self.neuron_moments),
        )

    def _mean_moments(self, sums: Tensor | None) -> Tensor | None:
        """Turn sums over each expert's tokens into means, in place."""
        return None if sums is None else sums.div_(self.counts.clamp(min=1).float()[:, None, None])


def _selected(index: Tensor, num_experts: int) -> Tensor:
    """Return each token's experts as (T, N) bool, from indices (T, k) or, as in Switch, from one-hot rows (T, 1, N)."""
    if index.dim() == 3:
        return index[:, 0].bool()
    # Index N stands for no expert.
    return torch.nn.functional.one_hot(index, num_experts + 1).sum(1)[:, :num_experts].bool()


def neuron_values(module: Any, family: Family, k: int, hidden: Tensor) -> Tensor:
    """Return the activations of expert k of an experts module, the (T, p_I) inputs of W2, for its (T, p) inputs."""
    parts = {
        part.block: part.view(module.get_parameter(part.key.format(k=k)).detach(), k).float()
        for part in family.module_parts
        if part.block != "w2"
    }
    gate = hidden @ parts["w1"].T + (parts["b1"][:, 0] if "b1" in parts else 0.0)
    if "w3" not in parts:
        return (module.act_fn if hasattr(module, "act_fn") else module["expert_0"].act)(gate)
    up = hidden @ parts["w3"].T + (parts["b3"][:, 0] if "b3" in parts else 0.0)
    if hasattr(module, "act_fn"):
        return module.act_fn(gate) * up
    return module._apply_gate(torch.stack([gate, up], dim=-1).flatten(-2))  # gpt-oss alternates the two


def _warn_of_unreached(by_layer: Mapping[int, Statistics]) -> None:
    for layer, statistics in by_layer.items():
        if statistics.unreached:
            names = ", ".join(map(str, statistics.unreached))
            warnings.warn(
                f"layer {layer}: no calibration token reaches expert {names} "
                f"({statistics.tokens:,} tokens of {statistics.source}); measured on all tokens of the layer instead",
                ResmoeWarning,
                stacklevel=3,
            )
