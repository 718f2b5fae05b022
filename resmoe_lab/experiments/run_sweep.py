"""How a sweep is computed: every method at every keep, resumable, one finished score at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .._core.deprecation import renamed_arguments
from .._core.errors import ResmoeWarning
from .._core.files import check_place, folder_lock, remove_partial_files
from .._core.machine import machine, versions
from .._core.parsing import read_json
from .._core.progress import Progress, Tick, silent, tracked
from ..analysis.approximation import measured_curves
from ..analysis.equal_bytes import size_table
from ..analysis.similarity import expert_similarity
from ..centers import Center
from ..checkpoint import Checkpoint
from ..checkpoint.writer import write_json
from ..experts import ExpertStack
from ..scoring.outcome import Score
from ..scoring.scorer import TaskScorer, all_scores
from ..scoring.tasks import TASKS, find_task
from ..scoring.usage_trace import read_usage
from ..scoring.zeroshot import model_windows
from ..store.manifest import MANIFEST_FILE, found_manifest, open_output
from .record_pictures import TaskText, TextRecorder, shown_variants
from .runner import VariantRunner
from .sweep import ROUTING_TASK, TABLES, UNIT, Sweep
from .sweep_config import SweepConfig
from .variants import Variant


@renamed_arguments(calibrate="calibration")
def run_sweep(
    checkpoint: Checkpoint,
    out: str | Path,
    config: SweepConfig | None = None,
    *,
    usage: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    **settings: Any,
) -> Sweep:
    """Measure every method at every keep, and write the tables.

    Parameters
    ----------
    checkpoint
        The model.
    out
        Folder of the tables. Scores that a stopped or finished run with the same settings left there are reused.
    config
        What is measured. Scores that are in the user's cache are not computed again.
    usage
        File of a routing trace that tells how often experts are used: see
        :func:`~resmoe_lab.scoring.usage_trace.read_usage`.
    data_dir, device
        Searched first for data, and where the model runs.
    progress
        Called after every step; raising from it stops the sweep, and what is scored stays.
    settings
        In place of `config`, the settings that :class:`~.sweep_config.SweepConfig` is made of: ``layers=[0], ...``.

    Returns
    -------
    Sweep
        The tables, as :meth:`.Sweep.load` reads them from `out`.

    Raises
    ------
    UsageError
        If a setting is not allowed; nothing is written then.
    OutputError
        If `out` holds something else, or another process is writing there.

    Examples
    --------
    >>> import tempfile
    >>> import resmoe_lab as rl
    >>> checkpoint, folder = rl.open_checkpoint("mixtral-tiny"), tempfile.mkdtemp()
    >>> choices = {"methods": ["up"], "keeps": [0.25], "tasks": ["storyworld_action"], "limit": 4}
    >>> sweep = rl.run_sweep(checkpoint, folder, layers=[0], **choices)
    >>> sweep.scores[["method", "center", "keep", "task", "n"]]
            method       center  keep               task  n
    0     original         none  1.00  storyworld_action  4
    0  center-only  wasserstein  0.00  storyworld_action  4
    0           up         none  0.25  storyworld_action  4
    """
    config = SweepConfig.of(config, settings)
    out = Path(out)
    trace = None if usage is None else read_usage(usage, checkpoint)
    with VariantRunner(
        checkpoint,
        layers=config.layers,
        center=config.center,
        storage=config.storage,
        calibration=config.calibration,
        tokens=config.tokens,
        usage=trace,
        seed=config.seed,
        data_dir=data_dir,
        device=device,
        progress=progress,
    ) as runner:
        variants = _variants(runner, config)
        scorer = TaskScorer(config.tasks, limit=config.limit, data_dir=data_dir, progress=_indented(progress))
        told = config.manifest_settings(checkpoint, None if trace is None else trace.source)
        if found_manifest(out, told)["finished"]:
            return Sweep.load(out)
        check_place(out)
        if config.calibration in config.tasks:
            warnings.warn(
                f"task {config.calibration!r} both calibrates and is scored: methods that use it have seen what they "
                "are scored on, name another text to calibrate on",
                ResmoeWarning,
                stacklevel=3,
            )
        _ = runner.loaded  # a model that cannot run leaves nothing behind
        open_output(out, told)
        with folder_lock(out):
            manifest = found_manifest(out, told)  # as the last holder left it
            if manifest["finished"]:
                return Sweep.load(out)
            remove_partial_files(out)
            write_json(out / MANIFEST_FILE, manifest)
            sweep = _measure(runner, variants, scorer, config=config, out=out, told=told, progress=progress)
            write_json(out / MANIFEST_FILE, manifest | {"finished": True})
            return sweep


def _variants(runner: VariantRunner, config: SweepConfig) -> list[Variant]:
    """The original, the centers alone, and every method at all keeps or bits that it can have."""
    methods = [runner.variant(name, keep) for name in config.methods for keep in config.scored_keeps(name)]
    return [runner.original, runner.center_only, *methods]


@dataclass(frozen=True)
class _LayerTables:
    """What a sweep says about one layer's weights."""

    errors: pd.DataFrame
    center: tuple[Any, ...]
    similarity: np.ndarray
    permutations: np.ndarray


def _measure(
    runner: VariantRunner,
    variants: Sequence[Variant],
    scorer: TaskScorer,
    *,
    config: SweepConfig,
    out: Path,
    told: dict[str, Any],
    progress: Progress,
) -> Sweep:
    """Measure what is missing, in a folder that no other process writes to."""
    model, tokenizer = runner.loaded
    for layer in runner.layers:
        runner.center(layer)
    keeps = {name: config.curve_keeps(name) for name in config.methods}
    layers = {
        layer: _layer_tables(runner, layer, keeps=keeps) for layer in tracked(runner.layers, "error curves", progress)
    }
    stack = runner.stack(runner.layers[0])
    errors = pd.concat(tables.errors for tables in layers.values())
    options: dict[str, Any] = {"layers": len(layers), "centers": [runner.center_name], "storage": runner.storage}
    sizes = [
        size_table(runner.checkpoint, stack, methods=[name], keeps=keeps[name], stored=errors, **options)
        for name in config.methods
    ]
    all_sizes = pd.concat(sizes, ignore_index=True)
    text = TaskText.of(config.tasks, data_dir=scorer.data_dir)
    recorder = TextRecorder(runner, text, shown=shown_variants(variants, errors, all_sizes), out=out)
    measure = partial(_scores, runner, scorer=scorer, recorder=recorder, out=out)
    scores = pd.concat([measure(variant) for variant in tracked(variants, "scores", progress)])
    texts = [row["text"] for row in TASKS[ROUTING_TASK].rows(limit=config.limit)]
    routing_shift, predictions = recorder.tables()
    sweep = Sweep(
        facts=_facts(runner, stack, told),
        errors=errors[list(TABLES["errors"])],
        scores=scores[list(TABLES["scores"])],
        sizes=all_sizes,
        centers=pd.DataFrame([tables.center for tables in layers.values()], columns=list(TABLES["centers"])),
        routing=runner.routing_shares(model_windows(model, tokenizer, texts)),
        similarity={layer: tables.similarity for layer, tables in layers.items()},
        permutations={layer: tables.permutations for layer, tables in layers.items()},
        routing_shift=routing_shift,
        predictions=predictions,
        pictures=recorder.pictures(errors),
    )
    sweep.save(out)
    return sweep


def _layer_tables(runner: VariantRunner, layer: int, *, keeps: Mapping[str, Sequence[float]]) -> _LayerTables:
    stack, center = runner.stack(layer), runner.center(layer)
    options: dict[str, Any] = {"statistics": runner.statistics.get(layer), "seed": runner.seed}
    options |= {"storage": runner.storage, "center": center}
    curves = [measured_curves(stack, methods=[name], keeps=at, **options) for name, at in keeps.items()]
    return _LayerTables(
        errors=pd.concat(curves),
        center=_center_row(stack, center),
        similarity=expert_similarity(stack, center),
        permutations=center.permutations.numpy(),
    )


def _scores(
    runner: VariantRunner, variant: Variant, *, scorer: TaskScorer, recorder: TextRecorder, out: Path
) -> pd.DataFrame:
    """Scores of one variant, from its file in the folder where there is one; its reading of the text is recorded."""
    file = out / f"{UNIT}{variant.method}-{variant.mean_keep:g}.json"
    scores = _stored_scores(file)
    if scores is None:
        scores = all_scores(runner.score(variant, scorer, then=recorder.wanted(variant)))
        write_json(file, [asdict(score) for score in scores])
    # The model has not run where all scores were known.
    if (record := recorder.wanted(variant)) is not None:
        with runner.running(variant, skips_layers=False) as (model, _):
            record(model)
    rows = pd.DataFrame(map(asdict, scores))
    return rows.assign(method=variant.method, center=variant.center, keep=variant.mean_keep)


def _stored_scores(file: Path) -> list[Score] | None:
    """The scores of a file; None if it is missing or damaged: they are computed again then."""
    try:
        scores = [Score(**row) for row in read_json(file)]
    except (OSError, ValueError, TypeError):
        return None
    kinds = {"task": str, "metric": str, "value": float | int, "stderr": float | int, "n": int}
    right = all(isinstance(getattr(score, name), kind) for score in scores for name, kind in kinds.items())
    return scores if scores and right else None


def _indented(progress: Progress) -> Progress:
    """Report work inside a larger step: the same ticks with indented names."""

    def tick(inner: Tick) -> None:
        progress(Tick(f"  {inner.task}", inner.done, inner.total, inner.facts))

    return tick


def _center_row(stack: ExpertStack, center: Center) -> tuple[Any, ...]:
    scale, bound = stack.mean_squared_norm(), center.certificate
    return (
        *(stack.layer, center.name, center.solver, center.objective, center.objective / scale if scale else 0.0),
        *((bound.lower_bound, bound.gap) if bound is not None else (None, None)),
        *(center.iterations, center.seconds),
    )


def _facts(runner: VariantRunner, stack: ExpertStack, settings: dict[str, Any]) -> dict[str, Any]:
    checkpoint, family = runner.checkpoint, runner.family
    return {
        "settings": settings,
        "model": checkpoint.name,
        "family": family.name,
        "moe_layers": family.layers(checkpoint),
        "shape": asdict(family.shape(checkpoint.config)),
        "width": stack.width,
        "parameters": sum(math.prod(info.shape) for info in checkpoint.tensors.values()),
        "chance": {task.name: task.chance for task in map(find_task, settings["tasks"])},
        "versions": versions(),
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
