"""Checkpoints of the hub, shard by shard: the same result, each shard once, few at a time, and on after a kill."""

import json
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.compress.config import Calibration
from resmoe_lab.compress.stream import (
    SHARDS_FOLDER,
    check_discard,
    in_order_of_shards,
    most_shard_bytes,
    remove_shards,
    streamed,
)

from ..checkpoint.hub_server import ask, serve
from ..experts import pico

# Prints after each layer how many shards lie in the output folder; killed when so many layers are done.
_SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint

out, last = Path(sys.argv[1]), int(sys.argv[2])
kept = []

def watch(tick):
    kept.append(sorted(path.name for path in out.glob(".shards/*.safetensors")))
    if tick.done == last:
        os.kill(os.getpid(), signal.SIGKILL)

config = CompressionConfig(method="up", keep=0.4, export=sys.argv[4])
compress_checkpoint(open_checkpoint("someone/pico"), out, config, discard=sys.argv[3] == "discard", progress=watch)
print(json.dumps(kept))
"""


def _model(folder: Path) -> Path:
    """Eight layers in shards, of which some hold parts of two layers."""
    torch.manual_seed(0)
    return pico.save(pico.mixtral(num_hidden_layers=8), folder, shards=True)


def _tensors(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors*")}


@pytest.mark.parametrize("export", ["packed", "dense"])
def test_a_killed_run_goes_on_and_fetches_nothing_again(export: str, tmp_path: Path) -> None:
    folder, out = _model(tmp_path / "model"), tmp_path / "out"
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    with serve(folder, "someone/pico") as hub:
        killed = ask(_SCRIPT, hub.url, tmp_path / "home", str(out), "2", "discard", export)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        before = dict(hub.whole)
        there = {path.name for path in (out / SHARDS_FOLDER).glob("*.safetensors")}
        done = ask(_SCRIPT, hub.url, tmp_path / "home", str(out), "99", "discard", export)
        assert done.returncode == 0, done.stderr
    # What the killed run had fetched whole, and either used up or left behind, does not come again.
    latest = max(name for name in names if before.get(name))
    finished = [name for name in names if name in there or name < min({*there, latest})]
    assert finished
    assert all(hub.whole[name] == 1 for name in finished)
    assert max(hub.whole[name] for name in names) <= 2  # one that was on its way
    assert not (out / SHARDS_FOLDER).exists()
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    compress_checkpoint(
        open_checkpoint(folder), tmp_path / "local", CompressionConfig(method="up", keep=0.4, export=export)
    )
    assert _tensors(out) == _tensors(tmp_path / "local")
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "local").iterdir()}


def test_few_shards_lie_there_at_a_time(tmp_path: Path) -> None:
    folder, out = _model(tmp_path / "model"), tmp_path / "out"
    every = sorted(path.name for path in folder.glob("*.safetensors"))
    with serve(folder, "someone/pico", redirected=True) as hub:
        hub.busy, hub.dropped = 2, {every[1]}
        done = ask(_SCRIPT, hub.url, tmp_path / "home", str(out), "99", "discard", "packed")
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    assert len(every) > 5
    assert max(map(len, kept)) <= 4 < len(every)  # a layer has three at most, and one is fetched ahead
    assert every[0] not in kept[-1]
    assert {name: hub.whole[name] for name in every if name != every[1]} == {n: 1 for n in every if n != every[1]}


def test_without_discarding_the_cache_holds_all(tmp_path: Path) -> None:
    folder, out = _model(tmp_path / "model"), tmp_path / "out"
    every = {path.name for path in folder.glob("*.safetensors")}
    with serve(folder, "someone/pico") as hub:
        done = ask(_SCRIPT, hub.url, tmp_path / "home", str(out), "99", "keep", "packed")
        assert done.returncode == 0, done.stderr
        assert {path.name for path in (tmp_path / "home").rglob("*.safetensors")} == every
        # What is in the cache is used from there, and stays there.
        again = ask(_SCRIPT, hub.url, tmp_path / "home", str(tmp_path / "again"), "99", "discard", "packed")
        assert again.returncode == 0, again.stderr
    assert {name: hub.whole[name] for name in every} == dict.fromkeys(every, 1)
    assert {path.name for path in (tmp_path / "home").rglob("*.safetensors")} == every
    assert _tensors(out) == _tensors(tmp_path / "again")


@dataclass(frozen=True)
class _Errand:
    """Work that takes some tensors."""

    tensors: tuple[str, ...]

    def names(self, checkpoint: Checkpoint) -> Iterable[str]:
        return self.tensors


@pytest.fixture
def sharded(tmp_path: Path) -> Checkpoint:
    """A checkpoint that says it is of the hub; all of it lies in the cache."""
    return replace(open_checkpoint(_model(tmp_path / "model")), hub_id="someone/pico")


def _errands(checkpoint: Checkpoint) -> list[_Errand]:
    """One for each tensor pair, in an order that suits nobody."""
    names = list(checkpoint.tensors)
    return [_Errand((names[k], names[(7 * k) % len(names)])) for k in range(0, len(names), 3)]


def _files(checkpoint: Checkpoint, errand: _Errand) -> set[Path]:
    return {checkpoint.tensors[name].file for name in errand.tensors}


def test_shards_are_fetched_in_order_each_once_and_one_ahead(sharded: Checkpoint, tmp_path: Path) -> None:
    order = in_order_of_shards(sharded, _errands(sharded))
    assert sorted(order, key=repr) == sorted(_errands(sharded), key=repr)
    fetched: list[Path] = []
    ahead = threading.Event()

    def fetch(self: Checkpoint, file: Path) -> Path:
        fetched.append(file)
        ahead.set()
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "fetched", fetch)
        needed = list(dict.fromkeys(file for step in order for file in sorted(_files(sharded, step))))
        taken: set[Path] = set()
        for step in streamed(sharded, order):
            taken |= _files(sharded, step)
            due = min(len(taken) + 1, len(needed))
            while len(fetched) < due:
                assert ahead.wait(60)
                ahead.clear()
            assert fetched == needed[:due]
    assert needed == sorted(needed)


def test_the_forecast_of_shards_is_what_lies_there(sharded: Checkpoint, tmp_path: Path) -> None:
    order = in_order_of_shards(sharded, _errands(sharded))
    sizes = {file: sum(info.nbytes for info in sharded.tensors.values() if info.file == file) for file in sharded.files}
    most = 0
    for k, step in enumerate(order):
        come = {file for before in order[: k + 1] for file in _files(sharded, before)}
        later = {file for after in order[k:] for file in _files(sharded, after)}
        following = [file for file in sorted({f for s in order for f in _files(sharded, s)}) if file not in come]
        most = max(most, sum(sizes[file] for file in (come & later) | set(following[:1])))
        assert step in order
    assert most_shard_bytes(sharded, _errands(sharded)) == most


def test_what_goes_wrong_with_a_shard_is_raised_where_it_is_needed(
    sharded: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = in_order_of_shards(sharded, _errands(sharded))
    bad = sorted(_files(sharded, order[-1]))[-1]

    def fetch(self: Checkpoint, file: Path) -> Path:
        if file == bad:
            raise CheckpointError("the hub is gone")
        return file

    monkeypatch.setattr(Checkpoint, "fetched", fetch)
    done: list[_Errand] = []
    with pytest.raises(CheckpointError, match="the hub is gone"):
        done.extend(streamed(sharded, order))
    assert done == [step for step in order if bad not in _files(sharded, step)]


def test_discarding_is_refused_where_it_makes_no_sense(sharded: Checkpoint, tmp_path: Path) -> None:
    config = CompressionConfig(method="up")
    check_discard(sharded, config, scheduler=None)
    with pytest.raises(UsageError, match="on this machine: omit it"):
        compress_checkpoint(replace(sharded, hub_id=None), tmp_path / "out", config, discard=True)
    with pytest.raises(UsageError, match="in one process, found scheduler 'local:2'"):
        check_discard(sharded, config, scheduler="local:2")
    with pytest.raises(UsageError, match="a GGUF export needs all of them"):
        check_discard(sharded, CompressionConfig(method="up", export="gguf"), scheduler=None)
    with pytest.raises(UsageError, match="calibration text runs the whole model"):
        check_discard(sharded, CompressionConfig(method="up", calibration=Calibration(source="x")), scheduler=None)
    assert not (tmp_path / "out").exists()


def test_only_parts_of_shards_are_removed_before_a_run_goes_on(tmp_path: Path) -> None:
    part, shard = tmp_path / SHARDS_FOLDER / ".cache" / "part.incomplete", tmp_path / SHARDS_FOLDER / "a.safetensors"
    part.parent.mkdir(parents=True)
    part.touch()
    shard.touch()
    remove_shards(tmp_path, parts_only=True)
    assert (part.exists(), shard.exists()) == (False, True)
    remove_shards(tmp_path)
    assert not list(tmp_path.iterdir())
