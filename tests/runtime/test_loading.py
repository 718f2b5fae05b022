"""Opening a packed checkpoint: the same function in every mode, and refused by name where a byte is not its own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import resmoe_lab
from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.runtime import load_pair
from resmoe_lab.runtime.experts import ResMoEExperts
from resmoe_lab.scoring.outcome import tabulate
from resmoe_lab.scoring.zeroshot import evaluate_model

from ..checkpoint.gguf.converted import logits, make
from ..experts import pico

TOKENS = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def packed(pico_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    compress_checkpoint(
        pico_checkpoint, tmp_path / "packed", CompressionConfig(layers=[0, 1], method="resmoe-svd", keep=0.5)
    )
    return tmp_path / "packed"


def test_both_modes_compute_the_same(packed: Path) -> None:
    logits = []
    for mode in ("factored", "restored"):
        model = resmoe_lab.load(packed, mode=mode, dtype=torch.float64)
        assert {module.mode for module in model.modules() if isinstance(module, ResMoEExperts)} == {mode}
        logits.append(pico.logits(model, TOKENS))
    torch.testing.assert_close(*logits, rtol=1e-10, atol=1e-10)


def test_a_packed_model_takes_what_is_stored_and_no_more(packed: Path) -> None:
    """16 bit values stay 16 bit when they are asked for, and nothing of the dense experts is there."""
    model = resmoe_lab.load(packed, dtype=torch.bfloat16)
    layers = json.loads((packed / "resmoe_manifest.json").read_text())["bytes"]
    modules = [module for module in model.modules() if isinstance(module, ResMoEExperts)]
    assert sum(tensor.nbytes for module in modules for tensor in module.state_dict().values()) == layers
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_dense_results_and_originals_open_too(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert torch.equal(
        pico.logits(resmoe_lab.load(pico_checkpoint.folder), TOKENS), pico.logits(pico.mixtral(), TOKENS)
    )
    compress_checkpoint(pico_checkpoint, tmp_path / "dense", CompressionConfig(layers=[1], export="dense"))
    resmoe_lab.load(tmp_path / "dense")
    with pytest.raises(UsageError, match="mode 'factored' belongs to packed checkpoints"):
        resmoe_lab.load(tmp_path / "dense", mode="factored")


def test_scattered_entries_are_not_multiplied(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(
        pico_checkpoint, tmp_path / "packed", CompressionConfig(layers=[1], method="resmoe-up", keep=0.5)
    )
    assert torch.isfinite(pico.logits(resmoe_lab.load(tmp_path / "packed"), TOKENS)).all()
    with pytest.raises(UsageError, match="use the restored mode"):
        resmoe_lab.load(tmp_path / "packed", mode="factored")


@pytest.mark.parametrize("name", ["resmoe-layer-00001", "resmoe-rest-00000"])
def test_a_flipped_byte_is_refused_by_name(name: str, packed: Path) -> None:
    file = packed / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors is damaged"):
        resmoe_lab.load(packed)


def test_a_missing_tensor_is_refused_by_name(pico_folder: Path) -> None:
    """Otherwise transformers would start it at random and say so in a table."""
    file = pico_folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors are missing, such as 'model\.norm\.weight'"):
        resmoe_lab.load(pico_folder)


def test_a_packed_model_is_evaluated(tiny: Checkpoint, tmp_path: Path) -> None:
    """The embedded model with all kept scores as itself."""
    compress_checkpoint(
        tiny,
        tmp_path / "out",
        CompressionConfig(layers=[0], method="resmoe-up", keep=1.0, center="average", storage={"encoding": "fp32"}),
    )
    options = {"tasks": ["storyworld_action"], "limit": 8}
    scores = tabulate(evaluate_model(*load_pair(open_checkpoint(tmp_path / "out")), **options))
    assert scores == tabulate(evaluate_model(*load_pair(tiny), **options))


@pytest.mark.parametrize(
    ("files", "message"),
    [({"../pico/config.json": "0"}, "outside of the folder: refused"), ([1, 2], "is damaged"), ("x", "is damaged")],
)
def test_a_manifest_that_names_other_places_is_refused(files: object, message: str, packed: Path) -> None:
    path = packed / "resmoe_manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": files}))
    with pytest.raises(CheckpointError, match=message):
        resmoe_lab.load(packed)


@pytest.mark.parametrize("export", ["packed", "dense"])
def test_layers_that_predict_further_tokens_come_along(export: str, tmp_path: Path) -> None:
    """As GLM-4.5 and DeepSeek-V3 have one behind the others, with experts of its own: byte for byte, and not run."""
    source = tmp_path / "source"
    model = make("glm4moe", num_hidden_layers=2, num_nextn_predict_layers=1)
    model.save_pretrained(source)
    tensors = load_file(source / "model.safetensors")
    further = {name.replace(".1.", ".2.", 1): tensor * 2 for name, tensor in tensors.items() if "layers.1." in name}
    further["model.layers.2.enorm.weight"] = torch.ones(64)
    save_file(tensors | further, source / "model.safetensors", metadata={"format": "pt"})
    config = CompressionConfig(method="up", keep=1.0, export=export, storage={"encoding": "fp32"})
    compress_checkpoint(open_checkpoint(source), tmp_path / "out", config)
    stored = {
        name: tensor for path in (tmp_path / "out").glob("*.safetensors") for name, tensor in load_file(path).items()
    }
    for name, tensor in further.items():
        assert torch.equal(stored[name], tensor)
    torch.testing.assert_close(logits(resmoe_lab.load(tmp_path / "out")), logits(model), rtol=1e-5, atol=1e-5)
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps(told | {"num_nextn_predict_layers": 0}))
    with pytest.raises(CheckpointError, match=r"tensors are unexpected, such as 'model\.layers\.2\."):
        resmoe_lab.load(tmp_path / "out")
