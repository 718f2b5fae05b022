"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .._core.errors import UsageError
from .._core.params import KEEP

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print exactly one JSON object.")]
Layers = Annotated[str, Parameter(help="all, top:24, 8-31, or 0,2,4.")]
Method = Annotated[
    str, Parameter(help="Such as resmoe-up, resmoe-svd, up, svd, sp, m-smoe; `--method help` lists all.")
]
Center = Annotated[
    str,
    Parameter(help="The common expert: wasserstein, average, ot-fusion, git-rebasin, none; `--center help` lists all."),
]
Keep = Annotated[float, Parameter(help=KEEP.doc)]
Keeps = Annotated[list[str], Parameter(name="--keep", consume_multiple=True, negative=(), help=KEEP.doc)]
Seed = Annotated[int, Parameter(help="For whatever is random.")]
Device = Annotated[str, Parameter(help="Where the model runs: cpu, cuda, cuda:1.")]
DataDir = Annotated[Path | None, Parameter(help="Folder of data sets, searched first.")]
Solver = Annotated[
    str | None, Parameter(help="How center wasserstein is searched for: coordinate, alternating (the paper's) or pot.")
]
Mode = Annotated[
    str | None,
    Parameter(help="How it computes: direct, gram (keeps all products: faster, takes more room) or auto."),
]
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
Calibrate = Annotated[
    str | None,
    Parameter(help="Task whose running text tells how experts are used, for what goes by it."),
]
TokenCount = Annotated[int, Parameter(help="How many tokens of that text are read.")]
Limit = Annotated[int | None, Parameter(help="Rows of each task; all if not given.")]


def names(said: str) -> Parameter:
    """An option that takes several names."""
    return Parameter(consume_multiple=True, negative=(), help=said)


def split_names(names: Iterable[str] | None) -> list[str] | None:
    """Names given as 'a b' or as 'a,b'."""
    return [name for text in names for name in text.split(",") if name] if names else None


def split_numbers(texts: Iterable[str] | None) -> list[float] | None:
    names = split_names(texts)
    try:
        return [float(name) for name in names] if names else None
    except ValueError as error:
        raise UsageError(f"--keep {' '.join(names or [])} is not a list of numbers: {KEEP.doc}") from error


def wasserstein_options(center: str, **given: Any) -> dict[str, Any]:
    """The options that were given, which only center 'wasserstein' takes."""
    options = {name: value for name, value in given.items() if value is not None}
    if options and center != "wasserstein":
        raise UsageError(f"{', '.join(options)} belongs to center 'wasserstein', found center {center!r}")
    return options


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Compression:
    """Which layers are compressed, how, and as what they are stored: the options of a run and of its forecast."""

    method: Method = "resmoe-up"
    keep: Keep = KEEP.default
    layers: Layers = "all"
    center: Center = "wasserstein"
    solver: Solver = None
    mode: Mode = None
    export: Export = "packed"
    form: Form = None
    values: Values = "bf16"
    scheduler: Scheduler = None

    def keywords(self) -> dict[str, Any]:
        """All but the layers, as the library's functions take it."""
        options = wasserstein_options(self.center, solver=self.solver, mode=self.mode)
        apart = ("layers", "solver", "mode")
        return {"options": options} | {name: value for name, value in vars(self).items() if name not in apart}


#: Nothing chosen.
USUAL = Compression()
