"""A checkpoint of the hub: looked into without its weights, and only the shards that are needed come."""

import json
import os
import subprocess
import sys
from pathlib import Path

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experts import load_stack

from ..experts import pico
from .hub_server import COMMIT, serve

# The hub's client reads its settings when it is imported, so it needs a process of its own.
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


def _ask(url: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", _SCRIPT]
    return subprocess.run(
        command, env=os.environ | settings | environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_only_what_is_needed_is_fetched(tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral(), tmp_path / "model", shards=True)
    local = open_checkpoint(folder)
    needed = {info.file.name for name, info in local.tensors.items() if "layers.1." in name and ".experts." in name}
    every = {info.file.name for info in local.tensors.values()}
    assert needed < every
    with serve(folder, "someone/pico") as hub:
        done = _ask(hub.url, tmp_path / "home")
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
    offline = _ask("http://127.0.0.1:9", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout)["sum"] == facts["sum"], offline.stderr
    nothing = _ask("http://127.0.0.1:9", tmp_path / "other", HF_HUB_OFFLINE="1")
    assert "is no local folder, and the hub did not provide it" in nothing.stderr
