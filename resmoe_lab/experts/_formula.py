"""Whether experts compute what packed ones do, found by trying: on small random weights, in float64."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ._layout import Part, Shape

#: Experts, inputs and neurons of the trial: sides that every implementation of transformers takes.
_SIZES = Shape(num_experts=3, hidden_size=8, intermediate_size=16, top_k=2)
_TOKENS = 16
_TOLERANCE = 1e-6
#: Names under which modules keep their sizes.
_NAMES = {
    "num_experts": _SIZES.num_experts,
    "num_local_experts": _SIZES.num_experts,
    "hidden_size": _SIZES.hidden_size,
    "hidden_dim": _SIZES.hidden_size,
    "intermediate_size": _SIZES.intermediate_size,
    "intermediate_dim": _SIZES.intermediate_size,
    "expert_dim": _SIZES.intermediate_size,
    "ffn_dim": _SIZES.intermediate_size,
}


def computes_formula(module: nn.Module, parts: tuple[Part, ...]) -> bool:
    """Whether a fused experts module computes ``W2 (act(W1 x) * W3 x)``, or ``W2 act(W1 x)`` where it has no W3.

    Clamps, offsets, scalings and orders that its attributes do not show are found: inputs are large enough for them.

    Parameters
    ----------
    module
        The module, on any device; it is not changed.
    parts
        Where the blocks lie in its parameters.
    """
    facts = {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str | None)}
    return _tried(_Key(module, tuple(sorted(map(repr, facts.items())))), parts)


class _Key:
    """A module by what decides its computation, so that equal ones are tried once."""

    def __init__(self, module: nn.Module, facts: tuple[str, ...]) -> None:
        self.module, self._facts = module, (type(module), repr(getattr(module, "act_fn", None)), facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._facts == other._facts

    def __hash__(self) -> int:
        return hash(self._facts)


@lru_cache(maxsize=256)
def _tried(key: _Key, parts: tuple[Part, ...]) -> bool:
    try:
        with torch.device("cpu"):  # models are loaded with another as the default
            return _agrees(key.module, parts)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
        return False  # what does not even run on small weights is not what is replaced


def _agrees(module: nn.Module, parts: tuple[Part, ...]) -> bool:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    trial = _small(module, parts, drawn)
    hidden = 10 * drawn(_TOKENS, _SIZES.hidden_size)
    index = torch.stack([torch.randperm(_SIZES.num_experts, generator=generator)[:2] for _ in range(_TOKENS)])
    weights = drawn(_TOKENS, 2).abs()
    with torch.no_grad():
        computed = trial(hidden, index, weights)
        expected = torch.zeros_like(hidden)
        for token, (experts, shares) in enumerate(zip(index.tolist(), weights, strict=True)):
            for expert, share in zip(experts, shares, strict=True):
                blocks = {part.block: part.view(trial.get_parameter(part.key), expert) for part in parts}
                neurons = trial.act_fn(blocks["w1"] @ hidden[token])  # type: ignore[operator]
                if "w3" in blocks:
                    neurons = neurons * (blocks["w3"] @ hidden[token])
                expected[token] += share * (neurons @ blocks["w2"])
    scale = float(expected.abs().max())
    return bool((computed.double() - expected).abs().max() <= _TOLERANCE * scale)


def _small(module: nn.Module, parts: tuple[Part, ...], drawn: Any) -> nn.Module:
    """A copy with small weights, computed as transformers' plainest implementation does."""
    trial: Any = copy.deepcopy(module)
    for name in [name for name, _ in trial.named_parameters()]:
        parent, _, leaf = name.rpartition(".")
        setattr(trial.get_submodule(parent), leaf, None)
    for part in parts:
        trial.register_parameter(part.key, nn.Parameter(drawn(*part.stored_shape(_SIZES)), requires_grad=False))
    for name, size in _NAMES.items():
        if isinstance(vars(trial).get(name), int):
            setattr(trial, name, size)
    config = vars(trial).get("config")
    if config is not None:
        trial.config = copy.copy(config)
        trial.config._experts_implementation = "eager"
    small: nn.Module = trial
    return small
