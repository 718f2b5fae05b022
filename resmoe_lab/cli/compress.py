"""The verb that compresses a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .._core.errors import UsageError
from ._app import app
from ._calibration import CalibrationText, calibrated
from ._options import DEFAULTS, CalibrationTask, CompressionOptions, DataDir, Device, Json, Seed, TokenCount, UsageFile
from ._output import progress_bar, show, show_facts


@app.command
def compress(
    checkpoint: str,
    *,
    out: Annotated[Path, Parameter(help="Folder of the result, new or of a stopped run.")],
    options: CompressionOptions = DEFAULTS,
    seed: Seed = 0,
    match_bytes: Annotated[
        int | None, Parameter(help="Bytes that all compressed layers may take; decides --keep.")
    ] = None,
    size: Annotated[str | None, Parameter(help="What all weights may take, such as 4GB; decides --keep.")] = None,
    like: Annotated[
        str | None, Parameter(help="No more bytes than another method takes, such as rtn4; decides --keep.")
    ] = None,
    allocate: Annotated[
        bool,
        Parameter(
            help="Give every layer bits of its own, by what it alone does to predictions of --calibration text, or to "
            "the experts that --usage tells of."
        ),
    ] = False,
    calibration: CalibrationTask = None,
    tokens: TokenCount = 4096,
    usage: UsageFile = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    discard: Annotated[
        bool,
        Parameter(negative=(), help="Of a hub checkpoint: delete each shard as soon as no further layer takes it."),
    ] = False,
    json: Json = False,
) -> None:
    """Compress layers and write them as a checkpoint with a manifest; resumes when run again."""
    from ..checkpoint import open_checkpoint
    from ..compress import Calibration, compress_checkpoint
    from ..compress.plan import resolve_layers
    from ..compress.stream import check_discard
    from ..scoring.usage_trace import read_usage
    from ..store.manifest import MANIFEST_FILE

    text = None if calibration is None else Calibration(source=calibration, tokens=tokens)
    opened = open_checkpoint(checkpoint)
    trace = None if usage is None else read_usage(usage, opened)
    config = options.config(seed=seed, calibration=text, usage=None if trace is None else trace.source)
    config = resolve_layers(opened, config)
    budget = _budget(opened, config, match_bytes=match_bytes, size=size, like=like)
    if budget is not None:
        config = config.model_copy(update={"keep": matched_keep(opened, config, budget)})
    if discard:
        check_discard(opened, config, scheduler=options.scheduler)
    _check(opened, config, out, scheduler=options.scheduler, allocate=allocate, data_dir=data_dir)
    statistics: dict[int, Any] = {}
    with progress_bar() as progress:
        if allocate:
            where = {"data_dir": data_dir, "device": device, "progress": progress}
            config = _allocated(opened, config, budget, text=calibration, tokens=tokens, usage=trace, **where)
        if calibration is not None:
            source = CalibrationText(calibration, tokens, data_dir, device)
            layers = list(config.layer_numbers)
            needs = {"fisher": config.needs_fisher, "moments": config.needs_moments}
            statistics = calibrated(opened, layers, source, **needs, progress=progress)
        if trace is not None:
            statistics = trace.statistics(config.layer_numbers, statistics)
        how: dict[str, Any] = {"scheduler": options.scheduler, "discard": discard, "progress": progress}
        manifest = compress_checkpoint(opened, out, config, statistics=statistics, **how)
    keys = ("approximation_error", "relative_error", "bytes", "paper_bytes", "original_bytes")
    facts = {
        "layers": list(config.layer_numbers),
        "keep": config.keep,
        **({"layer_keeps": config.layer_keeps} if config.layer_keeps else {}),
        **{key: manifest[key] for key in (*keys, "seconds", "peak_rss_bytes", "export")},
    }
    facts["manifest"] = str(out / MANIFEST_FILE)
    show(facts, json, lambda: show_facts(facts))


def _check(
    checkpoint: Any, config: Any, out: Path, *, scheduler: str | None, allocate: bool, data_dir: Path | None
) -> None:
    """Refuse whatever the settings, the checkpoint's headers and the folders tell, before the model runs."""
    from .._core.files import check_place
    from ..compress.plan import checked_config
    from ..compress.run import described_settings
    from ..experiments.layer_bits import check_allocatable
    from ..scoring.calibration import calibration_rows
    from ..store.manifest import found_manifest

    text = config.calibration
    if allocate:
        if text is None and config.usage is None:
            raise UsageError(
                "--allocate measures predictions of text and has none: name a task (--calibration TASK), or a routing "
                "trace (--usage FILE)"
            )
        check_allocatable(config.method)
    config.check_calibrated(text is not None or config.usage is not None, only_usage=text is None)
    if text is not None:
        calibration_rows(text.source, tokens=text.tokens, data_dir=data_dir)
    described = described_settings(checkpoint, checked_config(checkpoint, config, scheduler=scheduler))
    if allocate:  # what is kept of each layer is not known yet
        del described["keep"], described["layer_keeps"]
    found_manifest(out, described)
    check_place(out)


def _budget(checkpoint: Any, config: Any, *, match_bytes: int | None, size: str | None, like: str | None) -> int | None:
    """The bytes that all compressed layers may take, however they were asked for."""
    from ._budget import like_budget, size_budget

    given = {"--match-bytes": match_bytes, "--size": size, "--like": like}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)}, expected one of them")
    if size is not None:
        return size_budget(checkpoint, config, size)
    return like_budget(checkpoint, config, like) if like is not None else match_bytes


def _allocated(checkpoint: Any, config: Any, budget: int | None, *, text: Any, usage: Any, **where: Any) -> Any:
    """The settings with a kept fraction for each layer, in the bytes of a budget or of the kept fraction of all."""
    from ..experiments.layer_bits import allocate_bits, layer_budget, measure_layers, weigh_layers

    layers = list(config.layer_numbers)
    options = {"layers": layers, "center": config.center, "storage": config.storage, "seed": config.seed}
    options |= {"usage": usage, **where}
    if text is None:
        measured = weigh_layers(checkpoint, config.method, **options)
    else:
        measured = measure_layers(checkpoint, config.method, text=text, **options)
    allowed = budget if budget is not None else layer_budget(checkpoint, layers, config.keep)
    keeps = allocate_bits(measured, allowed)
    return config.model_copy(update={"layer_keeps": keeps, "keep": sum(keeps.values()) / len(keeps)})


def matched_keep(checkpoint: Any, config: Any, budget: int) -> float:
    """Return the kept fraction at which the layers take no more bytes than a budget, everything stored included."""
    from ..analysis.budget import match_bytes
    from ..experts import family_of

    if budget < 1:
        raise UsageError(f"--match-bytes is {budget}, expected at least 1")
    shape = family_of(checkpoint).layer_shape()
    share = budget / len(config.layer_numbers)
    return match_bytes(config.make_method(), share, shape, center=config.has_center, storage=config.storage)
