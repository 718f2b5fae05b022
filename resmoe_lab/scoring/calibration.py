"""What a few thousand tokens tell about a layer's experts: who is used, by which inputs, and how much each matters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._core.errors import CheckpointError, ResmoeWarning, UsageError
from .._core.progress import Progress, silent, tracked
from ..centers import Statistics
from ..experts import ExpertStack, Family
from .likelihood import Request, model_inputs, model_window
from .tasks import RUNNING_TEXT, TASKS, find_task
from .zeroshot import text_windows

#: How much text is enough.
TOKENS = 4096
#: Text that every checkout has.
TEXT = "storyworld_perplexity"


def calibration_requests(
    model: Any, tokenizer: Any, *, text: str = TEXT, tokens: int = TOKENS, data_dir: str | Path | None = None
) -> list[Request]:
    """Cut the beginning of a text into windows that a model can read.

    Parameters
    ----------
    model, tokenizer
        Who reads.
    text
        A task whose rows are texts, such as ``"wikitext"``.
    tokens
        How many tokens at least, as far as the text has them.
    data_dir
        Searched first for the text.

    Raises
    ------
    UsageError
        If the task is not one of texts, or no token is asked for.
    DataError
        If the text is not found.
    """
    task = find_task(text)
    if task.kind not in RUNNING_TEXT:
        names = [name for name in TASKS if TASKS[name].kind in RUNNING_TEXT]
        raise UsageError(f"task {text!r} has no running text to calibrate with, expected one of {', '.join(names)}")
    if tokens < 1:
        raise UsageError(f"{tokens} calibration tokens, expected a positive whole number")
    window, halves = model_window(model, tokenizer), bool(model.config.is_encoder_decoder)
    requests: list[Request] = []
    read = 0
    for row in task.rows(data_dir=data_dir):
        # No more of a book than is needed: a word has more than one letter and rarely more than a few tokens.
        for request in text_windows(tokenizer, row["text"][: 20 * tokens], window, halves=halves):
            if read >= tokens:
                return requests
            requests.append(request)
            read += len(request.context) + len(request.continuation)
    return requests


def calibrate(
    model: Any,
    family: Family,
    requests: Sequence[Request],
    *,
    layers: Sequence[int],
    source: str = TEXT,
    fisher: bool = False,
    progress: Progress = silent,
) -> dict[int, Statistics]:
    """Run text through a model and record how the experts of some layers are used.

    Parameters
    ----------
    model
        A transformers model of the family.
    family
        Where its experts are.
    requests
        The text, as :func:`calibration_requests` cuts it.
    layers
        Numbers of the layers.
    source
        The text's name, for reports.
    fisher
        Also the mean squared gradient of the loss by each expert's weights, which takes a backward pass.
    progress
        Told after every window; raising from it cancels.

    Returns
    -------
    dict
        Layer to statistics. An expert that no token reaches is measured on all tokens of its layer instead, and a
        warning names it; its usage stays zero.

    Raises
    ------
    CheckpointError
        If the family's experts are not handed tokens and choices separately (Llama 4).
    """
    recorders = {layer: _Recorder(model, family, layer) for layer in layers}
    tokens = 0
    with ExitStack() as hooks:
        for recorder in recorders.values():
            hooks.enter_context(recorder.listening())
        for request in tracked(requests, "calibration", progress):
            _read(model, request, recorders, fisher=fisher)
            tokens += len(request.context) + len(request.continuation)
    found = {layer: recorder.statistics(source, tokens, fisher=fisher) for layer, recorder in recorders.items()}
    _warn_of_unreached(found)
    return found


def _read(model: Any, request: Request, recorders: Mapping[int, _Recorder], *, fisher: bool) -> None:
    """Run one window, backwards as well where gradients are wanted."""
    told = torch.tensor([request.continuation], device=model.device)
    with torch.set_grad_enabled(fisher):
        logits = model(**model_inputs(model, request), use_cache=False).logits
        if not fisher:
            return
        # A decoder-only model is handed the last token too; what it says after it is not asked for.
        logits = (logits if model.config.is_encoder_decoder else logits[:, :-1])[:, -told.shape[1] :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), told.flatten())
    weights = [weight for recorder in recorders.values() for weight in recorder.weights]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    by_weight = dict(zip(weights, gradients, strict=True))
    for recorder in recorders.values():
        recorder.add_gradients(by_weight)


class _Recorder:
    """Sums over the tokens that pass one layer's experts."""

    def __init__(self, model: Any, family: Family, layer: int) -> None:
        self.family, self.layer = family, layer
        self.experts = family.experts_module(model, layer)
        self.router: Tensor = family.router_module(model, layer).get_parameter("weight")
        self.stack = family.from_model(model, layer)
        count, neurons, p = self.stack.num_experts, self.stack.intermediate_size, self.router.shape[1]
        sums: dict[str, Any] = {"dtype": torch.float64, "device": self.stack.weights.device}
        self.counts, self.tokens = torch.zeros(count, **sums), 0
        self.inputs, self.neurons = torch.zeros(count, p, **sums), torch.zeros(count, neurons, **sums)
        self.everywhere = torch.zeros(count, neurons, **sums)
        self.moments, self.logits = torch.zeros(p, p, **sums), torch.zeros(count, count, **sums)
        self.squares = torch.zeros(count, **sums)

    @property
    def weights(self) -> list[Tensor]:
        """The running model's own parameters that hold the experts."""
        names = dict.fromkeys(
            part.key.format(k=k) for k in range(self.stack.num_experts) for part in self.family.module_parts
        )
        return [self.experts.get_parameter(name) for name in names]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record what the experts are handed, and let gradients reach their weights."""
        hook = self.experts.register_forward_pre_hook(self._record, with_kwargs=True)
        before = [weight.requires_grad for weight in self.weights]
        for weight in self.weights:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            hook.remove()
            for weight, wanted in zip(self.weights, before, strict=True):
                weight.requires_grad_(wanted)

    @torch.no_grad()
    def _record(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        handed = [*args, *kwargs.values()]
        if len(handed) < 2:
            raise CheckpointError(
                f"{type(module).__name__} is not told which tokens go to which expert: "
                f"family {self.family.name!r} cannot be calibrated"
            )
        hidden, index = handed[0].detach().flatten(0, -2).float(), handed[1]
        chosen = _chosen(index, self.stack.num_experts)
        wide = hidden.double()
        self.tokens += len(hidden)
        self.counts += chosen.sum(0)
        self.inputs += chosen.double().T @ wide.square()
        self.moments += wide.T @ wide
        logits = hidden @ self.router.detach().float().T
        self.logits += logits.double().T @ logits.double()
        for k in range(self.stack.num_experts):
            squares = neuron_values(module, self.stack, k, hidden).double().square()
            self.neurons[k] += squares[chosen[:, k]].sum(0)
            self.everywhere[k] += squares.sum(0)

    def add_gradients(self, gradients: Mapping[Tensor, Tensor | None]) -> None:
        """Add one window's squared gradients."""
        for k in range(self.stack.num_experts):
            for part in self.family.module_parts:
                found = gradients[self.experts.get_parameter(part.key.format(k=k))]
                if found is not None:
                    self.squares[k] += part.view(found, k).double().square().sum()

    def statistics(self, source: str, tokens: int, *, fisher: bool) -> Statistics:
        """Turn the sums into means."""
        reached = (self.counts > 0)[:, None]
        per_expert, per_token = self.counts.clamp(min=1)[:, None], max(1, self.tokens)
        inputs = torch.where(reached, self.inputs / per_expert, self.moments.diagonal() / per_token)
        neurons = torch.where(reached, self.neurons / per_expert, self.everywhere / per_token)
        norms = self.logits.diagonal().sqrt().clamp(min=1e-300)
        return Statistics(
            usage=self.counts / self.counts.sum().clamp(min=1),
            affinity=self.logits / norms / norms[:, None],
            inputs=inputs.float(),
            neurons=neurons.float(),
            moments=(self.moments / per_token).float(),
            fisher=self.squares / self.stack.weights[0].numel() if fisher else None,
            source=source,
            tokens=tokens,
        )


def _chosen(index: Tensor, num_experts: int) -> Tensor:
    """(T, N) bool: which experts each token goes to, from indices (T, k) or, as in Switch, from ones (T, 1, N)."""
    if index.dim() == 3:
        return index[:, 0].bool()
    # An index of N stands for no expert.
    return torch.nn.functional.one_hot(index, num_experts + 1).sum(1)[:, :num_experts].bool()


def neuron_values(module: Any, stack: ExpertStack, k: int, hidden: Tensor) -> Tensor:
    """What expert k's neurons hand on to W2 for (T, p) inputs, by the running module's own activation: (T, p_I)."""
    parts = {block.name: stack.block(block.name)[k] for block in stack.blocks}
    gate = hidden @ parts["w1"].T + (parts["b1"][:, 0] if "b1" in parts else 0.0)
    if "w3" not in parts:
        return module["expert_0"].act(gate)
    up = hidden @ parts["w3"].T + (parts["b3"][:, 0] if "b3" in parts else 0.0)
    if hasattr(module, "act_fn"):
        return module.act_fn(gate) * up
    return module._apply_gate(torch.stack([gate, up], dim=-1).flatten(-2))  # gpt-oss alternates the two


def _warn_of_unreached(found: Mapping[int, Statistics]) -> None:
    for layer, statistics in found.items():
        if statistics.unreached:
            names = ", ".join(map(str, statistics.unreached))
            warnings.warn(
                f"layer {layer}: no calibration token reaches expert {names} "
                f"({statistics.tokens:,} tokens of {statistics.source}); measured on all tokens of the layer instead",
                ResmoeWarning,
                stacklevel=3,
            )
