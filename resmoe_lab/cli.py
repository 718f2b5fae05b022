"""The command line: one command per verb. Standard output is the result; everything else goes to standard error."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter

from . import __version__
from ._core.errors import Cancelled, ResmoeError, UsageError
from ._core.params import KEEP
from ._core.progress import TqdmProgress

app = App(
    name="resmoe-lab",
    version=__version__,
    help="Take a Mixture-of-Experts language model apart, find the expert its experts share, and make it small. "
    "CHECKPOINT is a zoo name (such as mixtral-tiny), a local folder, or a hub id.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)
zoo_app = App(name="zoo", help="Embedded models: list them, or train one again from nothing.")
app.command(zoo_app)

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print exactly one JSON object.")]
Layers = Annotated[str, Parameter(help="all, top:24, 8-31, or 0,2,4.")]
Names = Annotated[list[str], Parameter(consume_multiple=True, negative=())]
Keep = Annotated[float, Parameter(help=KEEP.doc)]
Keeps = Annotated[list[str], Parameter(name="--keep", consume_multiple=True, negative=(), help=KEEP.doc)]
DataDir = Annotated[Path | None, Parameter(help="Folder of data sets, searched first.")]
Solver = Annotated[str | None, Parameter(help="coordinate, alternating (the paper's) or pot.")]
Mode = Annotated[str | None, Parameter(help="direct, gram (keep all products: faster, takes more room) or auto.")]
Export = Annotated[
    Literal["packed", "dense"],
    Parameter(help="packed: small on disk and in memory; dense: restored weights for other programs, no memory saved."),
]
Form = Annotated[str | None, Parameter(help="How packed residuals are stored; the method's usual form if not given.")]
Values = Annotated[Literal["bf16", "fp16", "fp32", "int8"], Parameter(help="What packed values are stored as.")]
Scheduler = Annotated[
    str | None, Parameter(help="local:2 for two processes, or the address of a dask scheduler (tcp://host:8786).")
]
RunningText = Annotated[str, Parameter(help="Task whose running text the experts are watched on.")]
Calibrate = Annotated[str | None, Parameter(help="Task whose running text calibrates whoever needs it.")]
TokenCount = Annotated[int, Parameter(help="How much of the text is read.")]
Limit = Annotated[int | None, Parameter(help="Rows of each task; all if not given.")]


@zoo_app.command(name="list")
def zoo_list(*, json: Json = False) -> None:
    """List the embedded models."""
    from . import zoo

    models = [
        {"name": name, "built": zoo.is_built(name), "path": str(zoo.folder(name)), "seed": zoo.RECIPES[name].seed}
        for name in zoo.names()
    ]
    _show({"models": models}, json, lambda: _table("Zoo", models))


@zoo_app.command(name="build")
def zoo_build(name: str, *, out: Path | None = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Train an embedded model again from nothing, score it, and write its model card."""
    from .report.card import build_zoo_model

    with _progress() as progress:
        card = build_zoo_model(name, out=out, data_dir=data_dir, progress=progress)

    def human() -> None:
        print(f"{card['path']}: {card['bytes'] / 1e6:.1f} MB, see MODEL_CARD.md")  # noqa: T201
        for demand in card["unmet"]:
            print(f"demand of the zoo not met: {demand}")  # noqa: T201

    _show({"models": [card]}, json, human)


@app.command
def inspect(checkpoint: str, *, json: Json = False) -> None:
    """Tell a checkpoint's family, layers, shapes and bytes without loading a tensor."""
    from dataclasses import asdict

    from .checkpoint import open_checkpoint
    from .experts import family_of

    opened = open_checkpoint(checkpoint)
    family = family_of(opened)
    if opened.packed:
        from .runtime.packable import expert_bytes

        sizes = expert_bytes(opened)
    else:
        sizes = {layer: family.expert_bytes(opened, layer) for layer in family.layers(opened)}
    facts = {"checkpoint": opened.name, "family": family.name, "moe_layers": list(sizes), "packed": opened.packed}
    facts |= {**asdict(family.shape(opened.config)), "total_bytes": opened.total_bytes}
    facts["expert_bytes"] = sum(sizes.values())
    _show(facts, json, lambda: _facts(facts))


@app.command
def barycenter(
    checkpoint: str,
    *,
    layer: int,
    center: str = "wasserstein",
    solver: Solver = None,
    start: Annotated[int | None, Parameter(help="Expert that the search starts from.")] = None,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Find one layer's common expert and certify it."""
    from ._core.machine import peak_rss_bytes
    from .centers import find_center
    from .checkpoint import open_checkpoint
    from .experts import load_stack

    given: dict[str, Any] = {"solver": solver, "start": start}
    options = {name: value for name, value in given.items() if value is not None}
    if options and center != "wasserstein":
        raise UsageError(f"{', '.join(options)} belongs to center 'wasserstein', found center {center!r}")
    stack = load_stack(open_checkpoint(checkpoint), layer=layer)
    with _progress() as progress:
        common = find_center(stack, center=center, seed=seed, progress=progress, **options)
    bound = common.certificate
    facts = {
        "checkpoint": checkpoint,
        "layer": layer,
        "center": center,
        "objective": common.objective,
        "relative_objective": common.objective / (stack.mean_squared_norm() or 1.0),
        "lower_bound": bound.lower_bound if bound else None,
        "certified_gap": bound.gap if bound else None,
        "solver": common.solver,
        "iterations": common.iterations,
        "seconds": common.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
    }
    _show(facts, json, lambda: _facts(facts))


@app.command
def diagnose(
    checkpoint: str,
    *,
    layers: Layers = "all",
    centers: Names | None = None,
    keep: Keep = KEEP.default,
    routing: Annotated[bool, Parameter(help="Run the model on text to see who receives the tokens.")] = True,
    text: RunningText = "storyworld_perplexity",
    tokens: TokenCount = 4096,
    seed: int = 0,
    data_dir: DataDir = None,
    device: str = "cpu",
    json: Json = False,
) -> None:
    """Tell what a common expert would gain in each layer, before anything is compressed."""
    from dataclasses import asdict

    from .centers import CENTERS
    from .checkpoint import open_checkpoint
    from .compress import select_layers
    from .evaluate.diagnosis import DEFAULT_CENTERS, diagnose
    from .experts import load_stack, moe_layers

    opened = open_checkpoint(checkpoint)
    chosen = select_layers(layers, moe_layers(opened))
    names = _split(centers) or DEFAULT_CENTERS
    for name in names:
        CENTERS[name]
    known: dict[int, Any] = {}
    with _progress() as progress:
        if routing:
            fisher = "wasserstein-fisher" in names
            options: dict[str, Any] = {"text": text, "tokens": tokens, "data_dir": data_dir, "device": device}
            known = _calibrate(opened, chosen, fisher=fisher, progress=progress, **options)
        found = [
            diagnose(
                load_stack(opened, layer=layer, device=device),
                centers=names,
                keep=keep,
                statistics=known.get(layer),
                seed=seed,
                progress=progress,
            )
            for layer in chosen
        ]

    def human() -> None:
        rows = [{"layer": one.layer, **one.residual_gain} for one in found]
        _table(f"Share of the experts that a common expert explains in {checkpoint}", rows)
        for one in found:
            print(f"Layer {one.layer}. {one.advice}")  # noqa: T201

    _show({"checkpoint": checkpoint, "layers": [asdict(one) for one in found]}, json, human)


@app.command
def plan(
    checkpoint: str,
    *,
    out: Annotated[Path, Parameter(help="Folder that the result would go to: its disk is what counts.")] = Path("."),
    method: str = "resmoe-up",
    keep: Keep = KEEP.default,
    layers: Layers = "all",
    center: str = "wasserstein",
    solver: Solver = None,
    mode: Mode = None,
    export: Export = "packed",
    form: Form = None,
    values: Values = "bf16",
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Tell what compressing layers will take, before any work; fails where this machine has too little."""
    from dataclasses import asdict

    from .checkpoint import open_checkpoint
    from .compress import forecast_run, select_layers
    from .experts import moe_layers

    how = _how(method=method, keep=keep, center=center, solver=solver, mode=mode)
    opened = open_checkpoint(checkpoint)
    chosen = select_layers(layers, moe_layers(opened))
    stored: dict[str, Any] = {"export": export, "form": form, "values": values}
    found = forecast_run(opened, out, layers=chosen, scheduler=scheduler, **how, **stored)
    facts = found.facts()

    def human() -> None:
        _table(f"Forecast for {checkpoint}", [asdict(layer) for layer in found.layers])
        _facts({name: value for name, value in facts.items() if name != "layers"})

    _show(facts, json, human)
    found.check(out)


@app.command
def compress(
    checkpoint: str,
    *,
    out: Path,
    method: str = "resmoe-up",
    keep: Keep = KEEP.default,
    layers: Layers = "all",
    center: str = "wasserstein",
    solver: Solver = None,
    mode: Mode = None,
    seed: int = 0,
    match_bytes: Annotated[int | None, Parameter(help="Bytes that all chosen layers may take; decides --keep.")] = None,
    calibrate: Calibrate = None,
    tokens: TokenCount = 4096,
    data_dir: DataDir = None,
    export: Export = "packed",
    form: Form = None,
    values: Values = "bf16",
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Compress layers and write them as a checkpoint with a manifest; resumes when run again."""
    from .checkpoint import open_checkpoint
    from .compress import compress_checkpoint, select_layers
    from .experts import moe_layers
    from .store.manifest import MANIFEST_FILE

    opened = open_checkpoint(checkpoint)
    chosen = select_layers(layers, moe_layers(opened))
    if match_bytes is not None:
        keep = _matched_keep(opened, chosen, method=method, center=center, budget=match_bytes)
    how = _how(method=method, keep=keep, center=center, solver=solver, mode=mode, seed=seed)
    how |= {"export": export, "form": form, "values": values}
    with _progress() as progress:
        if calibrate is not None:
            text: dict[str, Any] = {"text": calibrate, "tokens": tokens, "data_dir": data_dir, "device": "cpu"}
            fisher = center == "wasserstein-fisher"
            how["statistics"] = _calibrate(opened, chosen, fisher=fisher, progress=progress, **text)
        manifest = compress_checkpoint(opened, out, layers=chosen, scheduler=scheduler, progress=progress, **how)
    keys = ("approximation_error", "relative_error", "bytes", "paper_bytes", "original_bytes")
    facts = {
        "layers": chosen,
        "keep": keep,
        **{key: manifest[key] for key in (*keys, "seconds", "peak_rss_bytes", "export")},
    }
    facts["manifest"] = str(out / MANIFEST_FILE)
    _show(facts, json, lambda: _facts(facts))


@app.command
def convert(checkpoint: str, *, out: Path, json: Json = False) -> None:
    """Write a DeepSeekMoE checkpoint, which transformers cannot open, as a Qwen2-MoE one that computes the same."""
    from .checkpoint import open_checkpoint
    from .checkpoint.conversion import deepseek_as_qwen2

    folder = deepseek_as_qwen2(open_checkpoint(checkpoint), out)
    facts = {"path": str(folder), "model_type": "qwen2_moe", "bytes": open_checkpoint(folder).total_bytes}
    _show(facts, json, lambda: _facts(facts))


@app.command
def evaluate(
    checkpoint: str,
    *,
    tasks: Names | None = None,
    protocol: Annotated[Literal["paper", "lm-eval"], Parameter(help="Whose scoring.")] = "paper",
    limit: Limit = None,
    data_dir: DataDir = None,
    device: str = "cpu",
    json: Json = False,
) -> None:
    """Score a checkpoint zero-shot; without --tasks, on StoryWorld's four tasks."""
    from .checkpoint import open_checkpoint
    from .evaluate.tasks import EMBEDDED_TASKS, TASKS
    from .evaluate.zeroshot import evaluate_model, tabulate
    from .runtime import load_model

    names = _split(tasks) or list(EMBEDDED_TASKS)
    for name in names:
        TASKS[name].check(limit=limit, data_dir=data_dir)
    model, tokenizer = load_model(open_checkpoint(checkpoint), device=device)
    score: Callable[..., Any] = evaluate_model
    if protocol == "lm-eval":
        from .evaluate.harness import evaluate_with_lm_eval as score
    with _progress() as progress:
        scores = score(model, tokenizer, tasks=names, limit=limit, data_dir=data_dir, progress=progress)
    table = tabulate(scores)
    facts = {"checkpoint": checkpoint, "protocol": protocol, "limit": limit, "tasks": table}
    _show(facts, json, lambda: _table("Zero-shot", [{"task": name, **row} for name, row in table.items()]))


@app.command
def sweep(
    checkpoint: str,
    *,
    out: Path,
    methods: Names | None = None,
    keep: Keeps | None = None,
    layers: Layers = "all",
    center: str = "wasserstein",
    tasks: Names | None = None,
    limit: Limit = None,
    calibrate: Calibrate = None,
    tokens: TokenCount = 4096,
    seed: int = 0,
    data_dir: DataDir = None,
    device: str = "cpu",
    json: Json = False,
) -> None:
    """Measure every method at every keep: the tables behind the sliders. Goes on where a stopped run left off."""
    options: dict[str, Any] = {"methods": _split(methods), "tasks": _split(tasks), "keeps": _numbers(keep)}
    options |= {"center": center, "limit": limit, "seed": seed, "data_dir": data_dir, "device": device}
    options |= {"calibrate": calibrate, "tokens": tokens}
    with _progress() as progress:
        found = _sweep(checkpoint, out, layers, progress=progress, **options)
    rows = found.scores.to_dict("records")
    _show({"out": str(out), "rows": rows}, json, lambda: _table(f"Scores of {checkpoint}", rows))


@app.command
def report(
    source: str,
    *,
    out: Path,
    layers: Layers = "all",
    limit: Limit = 200,
    data_dir: DataDir = None,
    device: str = "cpu",
    json: Json = False,
) -> None:
    """Write a standalone HTML report of a checkpoint, or of the folder of a finished sweep.

    For a checkpoint a sweep with default settings is made first, in a folder beside the report, and reused next time.
    """
    from .report import build_report
    from .report.summary import summary_rows

    with _progress() as progress:
        folder = Path(source)
        if not (folder / "sweep.json").is_file():
            folder = out.with_suffix(".sweep")
            _sweep(source, folder, layers, progress=progress, limit=limit, data_dir=data_dir, device=device)
        path = build_report(folder, out, progress=progress)
    facts = {"path": str(path), "bytes": path.stat().st_size, "sweep": str(folder)}

    def human() -> None:
        _table("At keep 0.25", summary_rows(folder))
        print(f"Report: {path}")  # noqa: T201

    _show(facts, json, human)


@app.command
def lab() -> None:
    """Open JupyterLab at the notebooks, on this machine only."""
    import subprocess

    notebooks = Path(__file__).resolve().parents[1] / "notebooks"
    if not notebooks.is_dir():
        raise ResmoeError(f"{notebooks} is missing: run this command from a checkout of the repository")
    command = [sys.executable, "-m", "jupyter", "lab", "--ip=127.0.0.1", f"--notebook-dir={notebooks}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers run as root, and the server listens to this machine only
    raise SystemExit(subprocess.call(command))


def _sweep(checkpoint: str, out: Path, layers: str, **options: Any) -> Any:
    from .checkpoint import open_checkpoint
    from .compress import select_layers
    from .evaluate.sweeping import run_sweep
    from .experts import moe_layers

    opened = open_checkpoint(checkpoint)
    given = {name: value for name, value in options.items() if value is not None}
    return run_sweep(opened, out, layers=select_layers(layers, moe_layers(opened)), **given)


def _how(*, solver: str | None, mode: str | None, **how: Any) -> dict[str, Any]:
    """What decides a layer's result, with the options of its center."""
    options = {name: value for name, value in (("solver", solver), ("mode", mode)) if value is not None}
    if options and how["center"] != "wasserstein":
        raise UsageError(f"{', '.join(options)} belongs to center 'wasserstein', found center {how['center']!r}")
    return {**how, "options": options}


def _matched_keep(checkpoint: Any, layers: list[int], *, method: str, center: str, budget: int) -> float:
    """The kept fraction at which the chosen layers weigh no more than a budget, everything stored included."""
    from .experts import family_of
    from .methods import METHODS
    from .store import match_bytes

    family = family_of(checkpoint)
    shape = family.shape(checkpoint.config)
    columns = family.blocks(shape.hidden_size)[-1].stop
    sizes = {"num_experts": shape.num_experts, "rows": shape.intermediate_size, "columns": columns}
    chosen = METHODS[method]()
    return match_bytes(chosen, budget / len(layers), center=chosen.uses_center and center != "none", **sizes)


def _calibrate(checkpoint: Any, layers: list[int], *, device: str, fisher: bool, progress: Any, **text: Any) -> Any:
    """Run the model on calibration text; what there is to warn of goes to standard error."""
    from .evaluate.calibration import calibrate, calibration_requests
    from .experts import family_of
    from .runtime import load_model

    model, tokenizer = load_model(checkpoint, device=device)
    requests = calibration_requests(model, tokenizer, **text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        options = {"layers": layers, "source": text["text"], "fisher": fisher, "progress": progress}
        known = calibrate(model, family_of(checkpoint), requests, **options)
    for warning in caught:
        print(f"resmoe-lab: {warning.message}", file=sys.stderr)  # noqa: T201
    return known


def _split(names: Iterable[str] | None) -> list[str] | None:
    """Names given as 'a b' or as 'a,b'."""
    return [name for text in names for name in text.split(",") if name] if names else None


def _numbers(texts: Iterable[str] | None) -> list[float] | None:
    names = _split(texts)
    try:
        return [float(name) for name in names] if names else None
    except ValueError as error:
        raise UsageError(f"--keep {' '.join(names or [])} is not a list of numbers: {KEEP.doc}") from error


@contextmanager
def _progress() -> Any:
    progress = TqdmProgress()
    try:
        yield progress
    finally:
        progress.close()


def _show(facts: dict[str, Any], as_json: bool, human: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(_plain(facts), allow_nan=False))  # noqa: T201
    else:
        human()


def _plain(value: Any) -> Any:
    """JSON's own types: what is not finite becomes null, a path becomes text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _facts(facts: dict[str, Any]) -> None:
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {_cell(value)}")  # noqa: T201


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, name in enumerate(rows[0] if rows else ()):
        # What a row is about stays readable in a narrow terminal, whatever becomes of the figures.
        table.add_column(Text("\n".join(name.replace("_", " ").split()), "bold"), no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    return str(value)


def main() -> None:
    """Run the command line: exit 0 done, 1 the work failed, 2 wrong usage, 130 interrupted."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        _exit(" ".join(str(error).split()), 2)
    except Cancelled as error:
        _exit(str(error), 130)
    except ResmoeError as error:
        _exit(str(error), error.exit_code)
    except KeyboardInterrupt:
        _exit("interrupted: run the same command again to go on", 130)
    except BrokenPipeError:
        # The reader of our output has gone (as 'head' does); that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit(message: str, code: int) -> None:
    print(f"resmoe-lab: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code)
