"""Saving and loading of barycenters, so that a run over many layers can be resumed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .._core.errors import CheckpointError, OutputError
from .._core.files import atomic_write
from .._core.parsing import parse_json
from .result import Barycenter, Certificate, Step
from .search_config import SearchConfig

_KIND = "resmoe_lab barycenter"


def save_barycenter(result: Barycenter, path: str | Path) -> None:
    """Save a barycenter as one safetensors file, written atomically.

    Parameters
    ----------
    result
        The barycenter.
    path
        The file, in an existing folder.

    Raises
    ------
    OutputError
        If it cannot be written there.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from resmoe_lab.transport import barycenter
    >>> result = barycenter(torch.eye(3).expand(2, 3, 3))
    >>> with TemporaryDirectory() as folder:
    ...     save_barycenter(result, f"{folder}/layer-0.safetensors")
    ...     load_barycenter(f"{folder}/layer-0.safetensors").objective
    0.0
    """
    path = Path(path)
    facts = {
        "objective": result.objective,
        "history": [asdict(step) for step in result.history],
        "iterations": result.iterations,
        "seconds": result.seconds,
        "solver": result.solver,
        "certificate": None if result.certificate is None else asdict(result.certificate),
        "plan": asdict(result.plan),
    }
    tensors = {"center": result.center.cpu().contiguous(), "permutations": result.permutations.contiguous()}
    try:
        with atomic_write(path) as part:
            save_file(tensors, part, metadata={"kind": _KIND, "facts": json.dumps(facts)})
    except SafetensorError as error:
        raise OutputError(f"barycenter cannot be written to {path} ({error}): choose a folder with room") from error


def load_barycenter(path: str | Path, *, device: torch.device | str = "cpu") -> Barycenter:
    """Load a barycenter that :func:`save_barycenter` wrote.

    Parameters
    ----------
    path
        The file.
    device
        Device of the center.

    Returns
    -------
    Barycenter
        As it was saved.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a barycenter.

    Examples
    --------
    See :func:`save_barycenter`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != _KIND:
                raise CheckpointError(f"{path} is not a barycenter, expected a file that save_barycenter wrote")
            facts = parse_json(metadata["facts"])
            center, permutations = file.get_tensor("center"), file.get_tensor("permutations")
        certificate, config = facts.pop("certificate"), facts.pop("plan")
        if "lanes" in config:  # its name in version 0.1.0
            config["threads"] = config.pop("lanes")
        return Barycenter(
            center=center.to(device),
            permutations=permutations,
            history=tuple(Step(**step) for step in facts.pop("history")),
            certificate=None if certificate is None else Certificate(**certificate),
            plan=SearchConfig(**config),
            **facts,
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"barycenter {path} cannot be read ({error}): compute it again") from error
