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
from .._core.errors import ResmoeWarning, UsageError
from .._core.files import check_place, folder_lock, remove_partial_files
from .._core.machine import machine, versions
from .._core.params import BITS, KEEP
from .._core.parsing import read_json
from .._core.progress import Progress, Tick, silent, tracked
from ..analysis.approximation import measured_curves
from ..analysis.equal_bytes import size_table
from ..analysis.similarity import expert_similarity
from ..centers import DEFAULT_CENTER, Center
from ..checkpoint import Checkpoint
from ..checkpoint.writer import write_json
from ..experts import ExpertStack
from ..methods import METHODS
from ..scoring.calibration import TOKENS
from ..scoring.outcome import Score
from ..scoring.scorer import TaskScorer, all_scores
from ..scoring.tasks import EMBEDDED_TASKS, TASKS, find_task
from ..scoring.usage_trace import read_usage
from ..scoring.zeroshot import model_windows
from ..store.layout import DEFAULT_STORAGE, Storage
from ..store.manifest import MANIFEST_FILE, checkpoint_hash, found_manifest, open_output
from .record_pictures import TaskText, TextRecorder, shown_variants
from .runner import VariantRunner
from .sweep import ROUTING_TASK, TABLES, UNIT, Sweep
from .variants import DEFAULT_BITS, Variant, curve_keeps, keeps_of

DEFAULT_METHODS: tuple[str, ...] = ("up", "svd", "resmoe-up", "resmoe-svd", "rtn", "resmoe-coded")
DEFAULT_KEEPS: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75)


@renamed_arguments(calibrate="calibration")
def run_sweep(
    checkpoint: Checkpoint,
    out: str | Path,
    *,
    layers: Sequence[int],
    methods: Sequence[str] = DEFAULT_METHODS,
    keeps: Sequence[float] = DEFAULT_KEEPS,
    bits: Sequence[float] = DEFAULT_BITS,
    center: str = DEFAULT_CENTER,
    storage: Storage = DEFAULT_STORAGE,
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: int | None = None,
    calibration: str | None = None,
    tokens: int = TOKENS,
    usage: str | Path | None = None,
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
    methods, center, seed
        What is compared.
    keeps, bits
        At which kept fractions, and at how many bits a weight the methods that go by bits; those that one cannot have
        are left out. In the tables the kept fraction of so many bits is their share of 16.
    storage
        How values are stored: errors, scores and bytes are those of what is stored.
    tasks, limit, data_dir
        What is scored, on how many rows; the routers' load is measured on as many rows of StoryWorld's running text.
        Scores that are in the user's cache are not computed again.
    calibration, tokens
        Task whose running text calibrates methods and centers that use it, and how many of its tokens.
    usage
        File of a routing trace that tells how often experts are used: see
        :func:`~resmoe_lab.scoring.usage_trace.read_usage`.
    device
        Where the model runs.
    progress
        Called after every step; raising from it stops the sweep, and what is scored stays.

    Returns
    -------
    Sweep
        The tables, as :meth:`.Sweep.load` reads them from `out`.

    Raises
    ------
    UsageError
        If an argument is not allowed; nothing is written then.
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
    out = Path(out)
    options: dict[str, Any] = {"layers": layers, "center": center, "storage": storage}
    trace = None if usage is None else read_usage(usage, checkpoint)
    options |= {"calibration": calibration, "tokens": tokens, "usage": trace}
    options |= {"seed": seed, "data_dir": data_dir, "device": device, "progress": progress}
    with VariantRunner(checkpoint, **options) as runner:
        variants = _variants(runner, methods, keeps=keeps, bits=bits)
        scorer = TaskScorer(tasks, limit=limit, data_dir=data_dir, progress=_indented(progress))
        settings: dict[str, Any] = {"checkpoint": checkpoint.name, "checkpoint_hash": checkpoint_hash(checkpoint)}
        settings |= {"layers": list(layers), "methods": list(methods), "keeps": list(keeps), "center": center}
        if any(METHODS[name].method.by_bits for name in methods):
            settings |= {"bits": list(bits)}
        settings |= {"tasks": list(tasks), "limit": limit, "seed": seed, "storage": storage.model_dump(mode="json")}
        if calibration is not None:
            settings |= {"calibration": calibration, "tokens": tokens}
        if trace is not None:
            settings |= {"usage": trace.source}
        if found_manifest(out, settings)["finished"]:
            return Sweep.load(out)
        check_place(out)
        if calibration in tasks:
            warnings.warn(
                f"task {calibration!r} both calibrates and is scored: methods that use it have seen what they are "
                "scored on, name another text to calibrate on",
                ResmoeWarning,
                stacklevel=3,
            )
        _ = runner.loaded  # a model that cannot run leaves nothing behind
        open_output(out, settings)
        with folder_lock(out):
            manifest = found_manifest(out, settings)  # as the last holder left it
            if manifest["finished"]:
                return Sweep.load(out)
            remove_partial_files(out)
            write_json(out / MANIFEST_FILE, manifest)
            sweep = _measure(runner, variants, scorer, out=out, settings=settings, progress=progress)
            write_json(out / MANIFEST_FILE, manifest | {"finished": True})
            return sweep


def _variants(
    runner: VariantRunner, methods: Sequence[str], *, keeps: Sequence[float], bits: Sequence[float]
) -> list[Variant]:
    """The original, the centers alone, and every method at all keeps or bits that it can have."""
    for keep in keeps:
        KEEP.validate(keep)
    for value in bits:
        BITS.validate(value)
    variants = [
        runner.variant(name, keep) for name in methods for keep in keeps_of(METHODS[name](), keeps=keeps, bits=bits)
    ]
    if not variants:
        asked = f"keeps {list(keeps)} and bits {list(bits)}"
        raise UsageError(
            f"methods {list(methods)} at {asked}: nothing to compare, expected some that a method can have"
        )
    return [runner.original, runner.center_only, *variants]


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
    out: Path,
    settings: dict[str, Any],
    progress: Progress,
) -> Sweep:
    """Measure what is missing, in a folder that no other process writes to."""
    model, tokenizer = runner.loaded
    for layer in runner.layers:
        runner.center(layer)
    choices: dict[str, Any] = {"keeps": settings["keeps"], "bits": settings.get("bits", ())}
    keeps = {name: curve_keeps(METHODS[name](), **choices) for name in settings["methods"]}
    layers = {
        layer: _layer_tables(runner, layer, keeps=keeps) for layer in tracked(runner.layers, "error curves", progress)
    }
    stack = runner.stack(runner.layers[0])
    errors = pd.concat(tables.errors for tables in layers.values())
    options: dict[str, Any] = {"layers": len(layers), "centers": [runner.center_name], "storage": runner.storage}
    sizes = [
        size_table(runner.checkpoint, stack, methods=[name], keeps=keeps[name], stored=errors, **options)
        for name in settings["methods"]
    ]
    all_sizes = pd.concat(sizes, ignore_index=True)
    text = TaskText.of(settings["tasks"], data_dir=scorer.data_dir)
    recorder = TextRecorder(runner, text, shown=shown_variants(variants, errors, all_sizes), out=out)
    measure = partial(_scores, runner, scorer=scorer, recorder=recorder, out=out)
    scores = pd.concat([measure(variant) for variant in tracked(variants, "scores", progress)])
    texts = [row["text"] for row in TASKS[ROUTING_TASK].rows(limit=settings["limit"])]
    routing_shift, predictions = recorder.tables()
    sweep = Sweep(
        facts=_facts(runner, stack, settings),
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
