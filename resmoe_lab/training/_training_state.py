"""The state of an unfinished training, in safetensors: nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .._core.errors import CheckpointError
from .._core.files import atomic_write
from .._core.parsing import parse_json

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainingState:
    """One phase's state on disk: weights, AdamW's moments, the log, and how many steps are done.

    Parameters
    ----------
    path
        The file.
    fingerprint
        Identifies what decides the training; a state with another one is not used.
    """

    def __init__(self, path: Path, *, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint

    def save(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, log: list[dict[str, Any]], *, step: int
    ) -> None:
        """Write the state, whole or not at all."""
        tensors = {f"model.{name}": tensor.detach().clone() for name, tensor in model.state_dict().items()}
        for number, parameter in enumerate(_parameters(optimizer)):
            tensors |= {f"optimizer.{number}.{key}": optimizer.state[parameter][key] for key in _MOMENTS}
        facts = {"fingerprint": self._fingerprint, "log": json.dumps(log), "step": str(step)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(part), metadata=facts)

    def load(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, log: list[dict[str, Any]]) -> int:
        """Load a saved state into model, optimizer and log; return its number of steps (0: there is none).

        Raises
        ------
        CheckpointError
            If it is damaged.
        """
        if not self._path.is_file():
            return 0
        try:
            return self._load(model, optimizer, log)
        except (SafetensorError, OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{self._path} is damaged ({reason}): remove it to begin again") from error

    def _load(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, log: list[dict[str, Any]]) -> int:
        with safe_open(str(self._path), framework="pt") as stored:
            facts = stored.metadata() or {}
            if facts["fingerprint"] != self._fingerprint:
                return 0
            names = [name for name in stored.keys() if name.startswith("model.")]  # noqa: SIM118 (not a dict)
            model.load_state_dict({name.removeprefix("model."): stored.get_tensor(name) for name in names})
            for number, parameter in enumerate(_parameters(optimizer)):
                optimizer.state[parameter] = {key: stored.get_tensor(f"optimizer.{number}.{key}") for key in _MOMENTS}
        log[:] = parse_json(facts["log"])
        return int(facts["step"])


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
