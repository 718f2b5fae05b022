"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .._core.device import check_device
from .._core.errors import UsageError
from .._core.params import BITS, KEEP, Param, check_seed

if TYPE_CHECKING:
    from ..compress import CompressionConfig

#: As the library has them, which is not imported to show a help text.
DEFAULT_CENTER, DEFAULT_VALUES = "wasserstein", "bf16"


def _check_seed(kind: Any, value: int) -> None:
    check_seed(value)


def _check_device(kind: Any, value: str) -> None:
    check_device(value)


def _check_data_dir(kind: Any, value: Path | None) -> None:
    if value is not None and not value.is_dir():
        raise UsageError(f"--data-dir {str(value)!r} is no folder, expected one of data sets: check the path")


def _check_tokens(kind: Any, value: int) -> None:
    if value < 1:
        raise UsageError(f"--tokens is {value}, expected a positive whole number")


Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print exactly one JSON object.")]
Layers = Annotated[str, Parameter(help="all, top:24, 8-31, or 0,2,4.")]
Method = Annotated[
    str, Parameter(help="Such as resmoe-up, resmoe-svd, up, svd, sp, m-smoe; `--method help` lists all.")
]
Center = Annotated[
    str,
    Parameter(help="The center: wasserstein, average, ot-fusion, git-rebasin, none; `--center help` lists all."),
]
Keep = Annotated[float, Parameter(help=KEEP.doc)]
Keeps = Annotated[list[str], Parameter(name="--keep", consume_multiple=True, negative=(), help=KEEP.doc)]
BitsList = Annotated[
    list[str], Parameter(name="--bits", consume_multiple=True, negative=(), help=f"In place of --keep: {BITS.doc}.")
]
Seed = Annotated[int, Parameter(help="For whatever is random.", validator=_check_seed)]
Device = Annotated[str, Parameter(help="Where the model runs: cpu, cuda, cuda:1.", validator=_check_device)]
DataDir = Annotated[Path | None, Parameter(help="Folder of data sets, searched first.", validator=_check_data_dir)]
Solver = Annotated[
    str | None, Parameter(help="How center wasserstein is searched for: coordinate, alternating (the paper's) or pot.")
]
Mode = Annotated[
    str | None,
    Parameter(help="How it computes: direct, gram (keeps all products: faster, takes more room) or auto."),
]
Export = Annotated[
    Literal["packed", "dense", "gguf", "compressed-tensors"],
    Parameter(
        help="packed: small on disk and in memory; dense: restored weights for other programs, no memory saved; "
        "gguf: these as one file for llama.cpp; compressed-tensors: these with rounded experts."
    ),
]
GgufType = Annotated[
    Literal["f16", "q8_0", "q4_0", "mxfp4"],
    Parameter(help="What a GGUF export stores the compressed layers' experts in."),
]
CompressedType = Annotated[
    Literal["int4", "fp8"],
    Parameter(help="What a compressed-tensors export rounds the compressed layers' experts to."),
]
Rest = Annotated[
    Literal["int4", "int8", "16"],
    Parameter(help="Attention, embeddings and shared experts: left as they are (16), or rounded to int8 or int4."),
]
Format = Annotated[
    str | None,
    Parameter(
        name=("--format", "--form"),
        help="How packed experts are stored; the smallest form if not given.",
    ),
]
Values = Annotated[str, Parameter(help="How values are stored: bf16, fp16, fp32, int8, int4, int3, int2.")]
CenterValues = Annotated[
    str | None,
    Parameter(help="How the center's values are stored; if not given as the others, in bf16 beside integers."),
]
Group = Annotated[
    int | None, Parameter(help="Weights that share a scale, for methods that round weights in groups: 32, 64 or 128.")
]
Scheduler = Annotated[
    str | None, Parameter(help="local:2 for two processes, or the address of a dask scheduler (tcp://host:8786).")
]
RunningText = Annotated[
    str, Parameter(name=("--calibration", "--text"), help="Task whose running text the experts are watched on.")
]
CalibrationTask = Annotated[
    str | None,
    Parameter(
        name=("--calibration", "--calibrate"),
        help="Task whose running text tells how experts are used, for methods and centers that go by it.",
    ),
]
UsageFile = Annotated[
    Path | None,
    Parameter(
        help="Routing trace of the model (.npz of tokens, layers, k, or .parquet of layer, expert): how often experts "
        "are used, in place of what --calibration text tells."
    ),
]
TokenCount = Annotated[int, Parameter(help="How many tokens of that text are read.", validator=_check_tokens)]
Limit = Annotated[int | None, Parameter(help="Rows of each task; all if not given.")]


def several(text: str) -> Parameter:
    """Return an option that takes several names."""
    return Parameter(consume_multiple=True, negative=(), help=text)


def split_names(names: Iterable[str] | None) -> list[str] | None:
    """Return names given as 'a b' or as 'a,b', each once; None where none are given.

    Raises
    ------
    UsageError
        If there is nothing but commas.
    """
    if not names:
        return None
    texts = list(names)
    found = list(dict.fromkeys(name for text in texts for name in text.split(",") if name))
    if not found:
        raise UsageError(f"{' '.join(texts)!r} names nothing, expected a list such as 'a,b' or 'a b'")
    return found


def split_numbers(texts: Iterable[str] | None, param: Param = KEEP) -> list[float] | None:
    names = split_names(texts)
    try:
        return list(dict.fromkeys(float(name) for name in names)) if names else None
    except ValueError as error:
        raise UsageError(f"--{param.name} {' '.join(names or [])} is not a list of numbers: {param.doc}") from error


def center_options(**options: Any) -> dict[str, Any]:
    """Return the options of a center that were given."""
    return {name: value for name, value in options.items() if value is not None}


def storage_options(
    values: str, center_values: str | None, *, format: str | None = None, group: int | None = None
) -> Any:
    """Return how values are to be stored, as one object.

    Raises
    ------
    UsageError
        If there is no such encoding, or no such group.
    """
    from ..store import Encoding, Storage

    center = None if center_values is None else Encoding.parse(center_values)
    return Storage(encoding=Encoding.parse(values), center=center, format=format, group=group)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CompressionOptions:
    """Which layers are compressed, how, and as what they are stored: the options of a run and of its forecast."""

    method: Method = "resmoe-up"
    keep: Annotated[float | None, Parameter(help=f"{KEEP.doc}; {KEEP.default:g} if not given.")] = None
    bits: Annotated[float | None, Parameter(help=f"Instead of --keep: {BITS.doc}.")] = None
    layers: Layers = "all"
    center: Center = DEFAULT_CENTER
    solver: Solver = None
    mode: Mode = None
    export: Export = "packed"
    gguf_type: GgufType = "f16"
    compressed_type: CompressedType = "int4"
    rest: Rest = "16"
    format: Format = None
    values: Values = DEFAULT_VALUES
    center_values: CenterValues = None
    group: Group = None
    scheduler: Scheduler = None

    def config(self, **settings: Any) -> CompressionConfig:
        """Return the settings as the one object that the library takes.

        Raises
        ------
        UsageError
            If one is not allowed.
        """
        from ..compress import CompressionConfig

        kept: dict[str, Any] = {
            name: value for name, value in (("keep", self.keep), ("bits", self.bits)) if value is not None
        }
        return CompressionConfig(
            method=self.method,
            **kept,
            layers=self.layers,
            center=self.center,
            center_options=center_options(solver=self.solver, mode=self.mode),
            storage=storage_options(self.values, self.center_values, format=self.format, group=self.group),
            export=self.export,
            gguf_type=self.gguf_type,
            compressed_type=self.compressed_type,
            rest=self.rest,
            **settings,
        )


#: Nothing chosen.
DEFAULTS = CompressionOptions()
