"""A checkpoint of the hub: looked into without its weights, and only the shards that are needed come."""

import json
import re
from pathlib import Path

import pytest

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experts import load_stack

from ..experts import pico
from .hub_server import COMMIT, ask, serve

_SCRIPT = """
import json
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experts import family_of, load_stack, moe_layers
from resmoe_lab.store.manifest import checkpoint_hash

def shards():
    return sorted(path.name for path in checkpoint.folder.glob("*.safetensors"))

checkpoint = open_checkpoint("someone/pico")
facts = {"layers": moe_layers(checkpoint), "total": checkpoint.total_bytes, "hash": checkpoint_hash(checkpoint)}
facts["before"] = shards()
facts["sum"] = load_stack(checkpoint, layer=1).weights.double().sum().item()
facts["after"] = shards()
facts["again"] = len(open_checkpoint("someone/pico").tensors)
facts["source"] = checkpoint.source
checkpoint.complete_folder()
facts["whole"] = shards()
print(json.dumps(facts))
"""


def test_only_what_is_needed_is_fetched(tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral(), tmp_path / "model", shards=True)
    local = open_checkpoint(folder)
    needed = {info.file.name for name, info in local.tensors.items() if "layers.1." in name and ".experts." in name}
    every = {info.file.name for info in local.tensors.values()}
    assert needed < every
    with serve(folder, "someone/pico") as hub:
        done = ask(_SCRIPT, hub.url, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["layers"] == [0, 1]
    assert facts["total"] == local.total_bytes
    assert facts["before"] == []
    assert set(facts["after"]) == needed
    assert facts["sum"] == load_stack(local, layer=1).weights.double().sum().item()
    assert set(facts["whole"]) == every
    assert facts["again"] == len(local.tensors)
    assert (facts["hash"], facts["source"]) == (COMMIT, "someone/pico")
    # What was fetched before can be worked with when the hub is gone.
    offline = ask(_SCRIPT, "http://127.0.0.1:9", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout)["sum"] == facts["sum"], offline.stderr
    nothing = ask(_SCRIPT, "http://127.0.0.1:9", tmp_path / "other", HF_HUB_OFFLINE="1")
    assert "is no local folder, and the hub did not provide it (HF_HUB_OFFLINE is set" in nothing.stderr


_OPEN = """
import sys
from huggingface_hub import constants
from resmoe_lab import ResmoeError
from resmoe_lab.checkpoint import open_checkpoint

constants.DOWNLOAD_CHUNK_SIZE = 512  # as it is, only after 10 MB of a file is it gone on with from there
for name in sys.argv[1:]:
    try:
        checkpoint = open_checkpoint(name)
        for file in checkpoint.files:
            checkpoint.fetched(file)
    except ResmoeError as error:
        print(error)
"""


def test_what_the_hub_does_not_provide_is_one_line(tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral(), tmp_path / "model")
    with serve(folder, "someone/pico") as hub:
        done = ask(_OPEN, hub.url, tmp_path / "home", "someone/nothing", "someone/gated")
    expected = ["'someone/nothing' is no local folder, .*no such checkpoint, or a private one", "it is gated.*log in"]
    assert done.returncode == 0, done.stderr
    for line, pattern in zip(done.stdout.splitlines(), expected, strict=True):
        assert re.search(pattern, line), line
    done = ask(_OPEN, "http://127.0.0.1:9", tmp_path / "home", "someone/pico")
    assert re.search(r"the hub did not provide it \(.*\): check the name, the network and HF_ENDPOINT", done.stdout)
    assert len(done.stdout.splitlines()) == 1


def test_a_shard_that_is_not_in_the_cache_is_named(tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral(), tmp_path / "model", shards=True)
    with serve(folder, "someone/pico") as hub:
        assert (
            ask("from resmoe_lab.checkpoint import open_checkpoint as o; o('someone/pico')", hub.url, tmp_path).stdout
            == ""
        )
    done = ask(_OPEN, "http://127.0.0.1:9", tmp_path, "someone/pico", HF_HUB_OFFLINE="1")
    assert re.match(r"model-00001-of-\d+.safetensors of 'someone/pico' is not here.*HF_HUB_OFFLINE is set", done.stdout)


@pytest.mark.parametrize("redirected", [False, True])
def test_connections_that_break_and_hubs_that_are_busy_are_borne(redirected: bool, tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral(), tmp_path / "model", shards=True)
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    with serve(folder, "someone/pico", redirected=redirected) as hub:
        hub.busy, hub.dropped = 3, set(names[:2])
        done = ask(_OPEN, hub.url, tmp_path / "home", "someone/pico")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (hub.busy, hub.dropped) == (0, set())
    assert {name: hub.whole[name] for name in names} == dict.fromkeys(names, 1)
    assert hub.rest == dict.fromkeys(names[:2], 1)
    for name in names:
        fetched = next((tmp_path / "home").rglob(f"snapshots/*/{name}"))
        assert fetched.read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("redirected", [False, True])
def test_what_is_not_what_was_announced_is_removed(redirected: bool, tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral(), tmp_path / "model", shards=True)
    name = min(path.name for path in folder.glob("*.safetensors"))
    with serve(folder, "someone/pico", redirected=redirected) as hub:
        hub.false_tags.add(name)
        done = ask(_OPEN, hub.url, tmp_path / "home", "someone/pico")
        assert re.match(rf"{name} of 'someone/pico' came with SHA-256 .* expected .*: it was removed", done.stdout)
        assert not list((tmp_path / "home").rglob(name))
        hub.false_tags.clear()
        hub.false_sizes.add(name)
        done = ask(_OPEN, hub.url, tmp_path / "home", "someone/pico")
        assert re.match(rf"{name} of 'someone/pico' is not here.*size", done.stdout), done.stdout
        hub.false_sizes.clear()
        assert ask(_OPEN, hub.url, tmp_path / "home", "someone/pico").stdout == ""
