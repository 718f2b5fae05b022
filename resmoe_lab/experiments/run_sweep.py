"""How a sweep is computed: every method at every keep, resumable, one finished score at a time."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .._core.errors import ResmoeWarning, UsageError
from .._core.files import folder_lock
from .._core.machine import machine, versions
from .._core.params import KEEP
from .._core.progress import Progress, Tick, silent, tracked
from ..analysis.approximation import error_curves
from ..analysis.equal_bytes import size_table
from ..analysis.similarity import expert_similarity
from ..centers import DEFAULT_CENTER, Center, Statistics, find_center
from ..checkpoint import Checkpoint
from ..checkpoint.writer import write_json
from ..experts import ExpertStack, Family, family_of
from ..methods import METHODS, Method
from ..runtime import load_model, restored_experts
from ..scoring.activation_cache import lower_states_kept
from ..scoring.calibration import TOKENS, calibration_requests
from ..scoring.calibration import calibrate as statistics_of
from ..scoring.routing import routing_shares
from ..scoring.tasks import EMBEDDED_TASKS, TASKS, find_task
from ..scoring.zeroshot import evaluate_model, model_windows
from ..store.manifest import MANIFEST_FILE, checkpoint_hash, open_output
from .sweep import CENTER_ONLY, ORIGINAL, TABLES, UNIT, Sweep

#: Keeps of the curves that cost nothing more than one sort or one spectrum.
CURVE_KEEPS: tuple[float, ...] = tuple(KEEP.grid())
DEFAULT_METHODS: tuple[str, ...] = ("up", "svd", "resmoe-up", "resmoe-svd")
DEFAULT_KEEPS: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class _Layer:
    stack: ExpertStack
    center: Center
    statistics: Statistics | None


def run_sweep(
    checkpoint: Checkpoint,
    out: str | Path,
    *,
    layers: Sequence[int],
    methods: Sequence[str] = DEFAULT_METHODS,
    keeps: Sequence[float] = DEFAULT_KEEPS,
    center: str = DEFAULT_CENTER,
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: int | None = None,
    calibrate: str | None = None,
    tokens: int = TOKENS,
    seed: int = 0,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Sweep:
    """Measure every method at every keep, and write the tables.

    Parameters
    ----------
    checkpoint
        The model.
    out
        Folder of the tables. Scores that a stopped or finished run with the same settings left there are reused.
    layers
        Which layers are compressed.
    methods, keeps, center, seed
        What is compared.
    tasks, limit, data_dir
        What is scored, on how many rows.
    calibrate, tokens
        Task whose running text tells how experts are used, for methods and centers that need or weigh by it, and how
        much of it is read.
    device
        Where the model runs.
    progress
        Told after every step; raising from it stops the sweep, and what is scored stays.

    Raises
    ------
    UsageError
        If an argument is not allowed; nothing is written then.
    OutputError
        If `out` holds something else, or another process is writing there.
    """
    out = Path(out)
    chosen = [METHODS[name](seed=seed) for name in methods]
    for method in chosen:
        if method.needs_statistics and calibrate is None:
            raise UsageError(f"method {method.name!r} needs calibration text: name a task with --calibrate")
    if calibrate in tasks:
        warnings.warn(
            f"task {calibrate!r} both calibrates and is scored: methods that use it have seen what they are scored on, "
            "name another text to calibrate on",
            ResmoeWarning,
            stacklevel=2,
        )
    for keep in keeps:
        KEEP.validate(keep)
    for name in tasks:
        find_task(name).check(limit=limit, data_dir=data_dir)
    settings: dict[str, Any] = {"checkpoint": checkpoint.name, "checkpoint_hash": checkpoint_hash(checkpoint)}
    settings |= {"layers": list(layers), "methods": list(methods), "keeps": list(keeps), "center": center}
    settings |= {"tasks": list(tasks), "limit": limit, "seed": seed}
    if calibrate is not None:
        settings |= {"calibrate": calibrate, "tokens": tokens}
    if open_output(out, settings)["finished"]:
        return Sweep.load(out)
    with folder_lock(out):
        return _measure(
            checkpoint, out, settings, chosen=chosen, data_dir=data_dir, device=device, tokens=tokens, progress=progress
        )


def _measure(
    checkpoint: Checkpoint,
    out: Path,
    settings: dict[str, Any],
    *,
    chosen: Sequence[Method],
    data_dir: str | Path | None,
    device: str,
    tokens: int,
    progress: Progress,
) -> Sweep:
    """Do what is not there yet, in a folder that nobody else writes into."""
    manifest = open_output(out, settings)
    write_json(out / MANIFEST_FILE, manifest)
    methods, keeps, center, seed = (settings[name] for name in ("methods", "keeps", "center", "seed"))
    family, running = family_of(checkpoint), load_model(checkpoint, device=device)
    reading: dict[str, Any] = {"tokens": tokens, "data_dir": data_dir, "progress": progress}
    known = _calibrated(running, family, settings, **reading)

    def opened_layer(layer: int) -> _Layer:
        """One layer with its center."""
        stack, statistics = family.load(checkpoint, layer, device=device), known.get(layer)
        fitted = find_center(stack, center=center, seed=seed, statistics=statistics, progress=progress)
        return _Layer(stack, fitted, statistics)

    opened = [opened_layer(layer) for layer in settings["layers"]]
    options: dict[str, Any] = {"methods": methods, "keeps": sorted({*CURVE_KEEPS, *keeps}), "seed": seed}
    errors = pd.concat(
        error_curves(layer.stack, center=layer.center, statistics=layer.statistics, **options)
        for layer in tracked(opened, "error curves", progress)
    )
    scores = _Scorer(running, checkpoint, opened, out, settings, data_dir).table(chosen, progress)
    sizes = {"layers": len(opened), "methods": methods, "keeps": options["keeps"], "centers": [center]}
    sweep = Sweep(
        facts=_facts(checkpoint, settings, opened),
        errors=errors[list(TABLES["errors"])],
        scores=scores[list(TABLES["scores"])],
        sizes=size_table(checkpoint, opened[0].stack, **sizes),
        centers=pd.DataFrame([_center_row(layer) for layer in opened], columns=list(TABLES["centers"])),
        routing=_routing(running, family, checkpoint),
        similarity={layer.stack.layer: expert_similarity(layer.stack, layer.center) for layer in opened},
        permutations={layer.stack.layer: layer.center.permutations.numpy() for layer in opened},
    )
    sweep.save(out)
    write_json(out / MANIFEST_FILE, manifest | {"finished": True})
    return sweep


def _calibrated(
    running: tuple[Any, Any],
    family: Family,
    settings: Mapping[str, Any],
    *,
    tokens: int,
    data_dir: str | Path | None,
    progress: Progress,
) -> dict[int, Statistics]:
    """What calibration text tells about each layer; nothing where none is named."""
    text = settings.get("calibrate")
    if text is None:
        return {}
    requests = calibration_requests(*running, text=text, tokens=tokens, data_dir=data_dir)
    how = {"layers": settings["layers"], "source": text, "fisher": settings["center"] == "wasserstein-fisher"}
    return statistics_of(running[0], family, requests, progress=progress, **how)


def _routing(running: tuple[Any, Any], family: Family, checkpoint: Checkpoint) -> pd.DataFrame:
    """Who receives the tokens of StoryWorld's text in the original model."""
    windows = model_windows(*running, [row["text"] for row in TASKS["storyworld_perplexity"].rows()])
    top_k = family.shape(checkpoint.config).top_k
    return routing_shares(running[0], windows, layers=family.layers(checkpoint), top_k=top_k)


@dataclass(frozen=True)
class _Scorer:
    """Runs the original model and every compressed one; scores that lie in the folder are not computed again."""

    running: tuple[Any, Any]
    checkpoint: Checkpoint
    opened: Sequence[_Layer]
    out: Path
    settings: Mapping[str, Any]
    data_dir: str | Path | None

    def table(self, chosen: Sequence[Method], progress: Progress) -> pd.DataFrame:
        """Scores of the original, of the centers alone, and of every method at every keep."""
        pairs: list[tuple[Method | str, float]] = [(ORIGINAL, 1.0), (CENTER_ONLY, 0.0)]
        pairs += [(method, keep) for method in chosen for keep in self.settings["keeps"]]
        with lower_states_kept(self.running[0], first=min(self.settings["layers"])):
            return pd.concat([self.rows(*pair, progress=progress) for pair in tracked(pairs, "scores", progress)])

    def rows(self, method: Method | str, keep: float, *, progress: Progress) -> pd.DataFrame:
        """Scores of one method at one keep."""
        name = method if isinstance(method, str) else method.name
        unit = self.out / f"{UNIT}{name}-{keep:g}.json"
        if not unit.is_file():
            options = {key: self.settings[key] for key in ("tasks", "limit")}
            with restored_experts(self.running[0], self.checkpoint, _restored(self.opened, method, keep)):
                found = evaluate_model(*self.running, data_dir=self.data_dir, progress=_indented(progress), **options)
            write_json(unit, [asdict(one) for one in found])
        rows = pd.DataFrame(json.loads(unit.read_text("utf-8")))
        uses_center = name == CENTER_ONLY or (isinstance(method, Method) and method.uses_center)
        return rows.assign(method=name, center=self.settings["center"] if uses_center else "none", keep=keep)


def _restored(opened: Sequence[_Layer], method: Method | str, keep: float) -> Iterator[ExpertStack]:
    """The experts to run with: those of a method at a keep, the center alone, or none at all (the model's own)."""
    if method == ORIGINAL:
        return
    for layer in opened:
        if isinstance(method, Method):
            compressed = method.compress(layer.stack, keep, layer.center, statistics=layer.statistics)
            yield layer.stack.with_weights(compressed.restore())
        else:
            yield layer.stack.with_weights(
                torch.stack([layer.center.expert(k) for k in range(layer.stack.num_experts)])
            )


def _indented(progress: Progress) -> Progress:
    """A renderer for work inside a larger step: the same ticks under names of their own."""

    def tick(inner: Tick) -> None:
        progress(Tick(f"  {inner.task}", inner.done, inner.total, inner.facts))

    return tick


def _center_row(layer: _Layer) -> tuple[Any, ...]:
    center, scale = layer.center, layer.stack.mean_squared_norm()
    bound = center.certificate
    return (
        *(layer.stack.layer, center.name, center.solver, center.objective, center.objective / scale if scale else 0.0),
        *((bound.lower_bound, bound.gap) if bound is not None else (None, None)),
        *(center.iterations, center.seconds),
    )


def _facts(checkpoint: Checkpoint, settings: dict[str, Any], opened: Sequence[_Layer]) -> dict[str, Any]:
    family = family_of(checkpoint)
    shape = family.shape(checkpoint.config)
    return {
        "settings": settings,
        "model": checkpoint.name,
        "family": family.name,
        "moe_layers": family.layers(checkpoint),
        "shape": asdict(shape),
        "width": opened[0].stack.width,
        "parameters": sum(math.prod(info.shape) for info in checkpoint.tensors.values()),
        "chance": {task.name: task.chance for task in map(find_task, settings["tasks"])},
        "versions": versions(),
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
