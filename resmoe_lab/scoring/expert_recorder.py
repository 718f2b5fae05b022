"""Sums over the tokens that pass a layer's experts, recorded while the model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from .._core.errors import CheckpointError
from ..centers import Statistics
from ..experts import Family


@contextmanager
def recording(recorders: Iterable[Recorder]) -> Iterator[None]:
    """Record what passes several layers while the block runs."""
    with ExitStack() as hooks:
        for recorder in recorders:
            hooks.enter_context(recorder.recording())
        yield


class Recorder:
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
