"""Every option of every verb with bad values: refused in one line, before a tensor is read or a byte is written."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resmoe_lab import cli
from resmoe_lab.checkpoint import reader
from resmoe_lab.cli import serve
from resmoe_lab.report import execute
from resmoe_lab.runtime import bench, loading

TINY = "mixtral-tiny"
STORY = "storyworld_perplexity"
#: Words that stand for places of the test: a new one, a folder of something else, a file, below a file, and nothing.
OUT, FULL, FILE, BELOW, MISSING = "OUT", "FULL", "FILE", "FILE/below", "MISSING"
#: Options that name places; that one is not there, or holds something else, is no wrong usage.
PLACES = ("--checkpoint", "--source", "--out", "--bench", "--host")
Case = tuple[str, ...]

#: What each verb is given when nothing is wrong.
GOOD: dict[str, Case] = {
    "inspect": (TINY,),
    "barycenter": (TINY, "--layer", "0"),
    "diagnose": (TINY,),
    "plan": (TINY,),
    "compress": (TINY, "--out", OUT, "--calibration", STORY),
    "evaluate": (TINY,),
    "sweep": (TINY, "--out", OUT, "--calibration", STORY, "--tasks", "storyworld_action"),
    "report": (TINY, "--out", OUT),
    "bench": (TINY,),
    "convert": (TINY, "--out", OUT),
    "app": (TINY,),
    "zoo build": (TINY, "--out", OUT),
}
_NUMBERS = (("nan",), ("-1",), ("x",))
_SEEDS: tuple[Case, ...] = (("-1",), ("99999999999999999999",), ("x",))
_TEXTS: tuple[Case, ...] = (("nope",), ("storyworld_action",), ("no/such.jsonl",), ("no/such.txt",), (FULL,))
_CHECKPOINTS: tuple[Case, ...] = ((MISSING,), (FULL,), (FILE,), ("",))
_OUTS: tuple[Case, ...] = ((FULL,), (FILE,), (BELOW,))
_ENCODINGS: tuple[Case, ...] = (("nope",), ("int99",), ("",))
_COUNTS: tuple[Case, ...] = (("0",), ("-3",), ("x",))
_DEVICES: tuple[Case, ...] = (("nope",), ("cuda:99",), ("meta",), ("",))
#: Options that several verbs share, with values that none of them takes; more words are further options.
SHARED: dict[str, tuple[Case, ...]] = {
    "--checkpoint": _CHECKPOINTS,
    "--layers": (("nope",), ("99",), ("3-1",), ("top:0",), ("top:99",), ("",)),
    "--center": (("nope",), ("",)),
    "--solver": (("nope",), ("pot", "--center", "average")),
    "--mode": (("nope",), ("gram", "--center", "average")),
    "--values": _ENCODINGS,
    "--center-values": _ENCODINGS,
    "--seed": _SEEDS,
    "--data-dir": ((MISSING,), (FILE,)),
    "--device": _DEVICES,
    "--limit": _COUNTS,
    "--tokens": _COUNTS,
    "--usage": (("no/such.npz",), ("no/such.parquet",), ("trace.csv",), ("",)),
    "--tasks": _TEXTS[:1] + _TEXTS[2:],
    "--json": (("--json=maybe",),),
}
_RUN: dict[str, tuple[Case, ...]] = {
    "--method": (("nope",), ("",)),
    "--keep": (("0",), ("1.5",), ("0.25", "--bits", "4"), ("1e-9", "--method", "svd"), *_NUMBERS),
    "--bits": (("4",), ("0", "--method", "rtn"), ("17", "--method", "rtn"), ("2.5", "--method", "rtn"), ("nan",)),
    "--export": (("nope",), ("compressed-tensors", "--layers", "1")),
    "--gguf-type": (("nope",), ("q8_0",), ("q8_0", "--export", "dense")),
    "--compressed-type": (("nope",), ("fp8",), ("fp8", "--export", "dense")),
    "--rest": (("nope",), ("int8", "--export", "dense")),
    "--format": (("nope",), ("csr16", "--method", "svd"), ("bitmask", "--export", "dense")),
    "--group": (("3",), ("100000", "--method", "rtn"), ("64", "--method", "up"), ("x",)),
    "--scheduler": (("yarn",), ("local:0",), ("",)),
}
_SWEEP: dict[str, tuple[Case, ...]] = {
    "--methods": (("nope",), ("up", "nope"), (",",)),
    "--keep": (
        ("0",),
        ("1.5",),
        ("0.25", "0"),
        (",",),
        ("1e-9", "--methods", "svd"),
        ("2", "--methods", "rtn"),
        *_NUMBERS,
    ),
    "--bits": (("0",), ("17",), ("nan",), ("x",), ("0.01", "--methods", "rtn")),
    "--center": (("nope",), ("",)),
    "--out": _OUTS,
    "--calibration": _TEXTS,
}
#: Options whose bad values are a verb's own.
OWN: dict[str, dict[str, tuple[Case, ...]]] = {
    "barycenter": {
        "--layer": (("99",), ("-1",), ("x",)),
        "--start": (("99",), ("-1",), ("0", "--center", "average")),
        "--center": (("nope",), ("",), ("wasserstein-usage",)),
    },
    "diagnose": {
        "--centers": (("nope",), ("average", "nope"), ("wasserstein-usage", "--no-routing"), (",",)),
        "--keep": (("0",), ("1.5",), *_NUMBERS),
        "--routing": (("--routing=maybe",),),
        "--calibration": _TEXTS,
    },
    "plan": {**_RUN, "--out": ((FILE,), (BELOW,))},
    "compress": {
        **_RUN,
        "--out": _OUTS,
        "--match-bytes": (("0",), ("-5",), ("1",), ("x",), ("99999", "--size", "9GB")),
        "--size": (("nope",), ("0",), ("1B",), ("",), ("4XB",)),
        "--like": (("nope",), ("up4",), ("rtn99",), ("rtn",), ("",)),
        "--allocate": (
            ("--allocate", "--method", "up"),
            ("--allocate", "--method", "rtn", "--match-bytes", "1"),
        ),
        "--discard": (("--discard",),),
        "--calibration": _TEXTS,
    },
    "evaluate": {"--protocol": (("nope",),), "--tasks": (*SHARED["--tasks"], ("sst2",), (",",))},
    "sweep": _SWEEP,
    "report": {
        "--source": _CHECKPOINTS,
        "--out": ((FULL,), (BELOW,)),
        "--bench": _CHECKPOINTS,
    },
    "bench": {
        "--ways": (("nope",), ("factored",), (",",)),
        "--original": (("nope",), (MISSING,), (FULL,)),
        "--prompt": _COUNTS,
        "--new": (("1",), ("x",)),
        "--rounds": _COUNTS,
    },
    "convert": {"--out": _OUTS},
    "app": {
        "--host": (("no.such.host.invalid",),),
        "--port": (("0",), ("70000",), ("x",)),
        "--browser": (("--browser=maybe",),),
    },
    "zoo build": {
        "--name": (("nope",), ("",)),
        "--out": _OUTS,
        "--dense": (("x",), (MISSING,)),
    },
}


def _lines() -> list[tuple[str, int]]:
    """All command lines with one thing wrong, and how they end: 1 if it is a place or a file, 2 if it is a word."""
    return [
        (shlex.join(_words(verb, argument, case)), 1 if argument in PLACES or _names_a_file(case) else 2)
        for verb in GOOD
        for argument in _arguments(verb)
        for case in {**SHARED, **OWN.get(verb, {})}.get(argument, ())
    ]


def _names_a_file(case: Case) -> bool:
    return Path(case[0]).suffix in (".jsonl", ".txt", ".npz", ".parquet")


def _arguments(verb: str) -> list[str]:
    command = cli.app
    for word in verb.split():
        command = command[word]
    return [argument.name for argument in command.assemble_argument_collection() if argument.name != "*"]


def _words(verb: str, option: str, case: Case) -> list[str]:
    """The command line: what is right, with one thing wrong."""
    good = list(GOOD[verb])
    if option in ("--checkpoint", "--source", "--name"):
        return [*verb.split(), *case, *good[1:]]
    for word in (option, *(word for word in case if word.startswith("--"))):
        if word in good:
            at = good.index(word)
            del good[at : at + 2]
    flag = case[0].startswith(option)
    return [*verb.split(), *good, *(case if flag else (option, *case))]


def _tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes time, or reads a tensor, fails the test."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    for module, name in (
        (reader, "_map"),
        (loading, "load_tokenizer"),
        (bench, "_in_a_process"),
        (execute, "run_notebook"),
        (serve, "run_server"),
    ):
        monkeypatch.setattr(module, name, refuse)


@pytest.fixture
def run_line(no_work: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run a command line that has to be refused, and return its exit code and what it says: one line."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["resmoe-lab", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        assert out == ""
        said = [line for line in err.replace("\r", "\n").splitlines() if line.strip()]
        assert [line.startswith("resmoe-lab: ") for line in said] == [True], err
        return int(stopped.value.code or 0), said[0]

    return run


@pytest.mark.parametrize(("line", "code"), _lines())
def test_a_bad_value_is_refused_before_any_work(
    line: str, code: int, run_line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FULL).mkdir()
    (tmp_path / FULL / "precious").write_text("mine")
    (tmp_path / FILE).write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = _tree(tmp_path)
    assert run_line(*shlex.split(line))[0] == code
    assert _tree(tmp_path) == before


def test_a_report_is_not_named_as_its_sweep(run_line, tmp_path: Path) -> None:
    code, said = run_line("report", TINY, "--out", tmp_path / "mine.sweep")
    assert (code, "is the name of the sweep's folder too" in said) == (2, True)
    assert not list(tmp_path.iterdir())


def test_other_settings_than_those_of_the_folder_are_refused_before_calibration(run_line, tmp_path: Path) -> None:
    from resmoe_lab.checkpoint import open_checkpoint
    from resmoe_lab.compress import CompressionConfig
    from resmoe_lab.compress.plan import resolve_layers
    from resmoe_lab.compress.run import described_settings
    from resmoe_lab.store.manifest import MANIFEST_FILE

    checkpoint, out = open_checkpoint(TINY), tmp_path / "out"
    settings = described_settings(checkpoint, resolve_layers(checkpoint, CompressionConfig(method="rtn", seed=1)))
    out.mkdir()
    (out / MANIFEST_FILE).write_text(json.dumps({"settings": settings, "layers": {}, "finished": False}))
    before = _tree(tmp_path)
    for more in ((), ("--allocate",)):
        code, said = run_line("compress", TINY, "--out", out, "--method", "rtn", "--calibration", STORY, *more)
        assert (code, "seed 1 (now 0)" in said) == (1, True), said
    assert _tree(tmp_path) == before


def test_every_option_has_bad_values() -> None:
    verbs = [name for name in cli.app if not name.startswith("-")]
    # Comparing needs compressed checkpoints, and what `run` runs judges its own words: they have tests of their own.
    assert {verb.split()[0] for verb in GOOD} >= set(verbs) - {"families", "lab", "compare", "run"}
    for verb in GOOD:
        assert set(_arguments(verb)) <= {*SHARED, *OWN.get(verb, {})}, verb


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has such a file")
def test_output_that_finds_no_room_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "resmoe_lab", "zoo", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "resmoe-lab: what was to be printed could not be written (No space left on device): what was finished before "
        "is valid; make room or name another place, and run again"
    ]
