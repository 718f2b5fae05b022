"""Packed checkpoints in transformers: the same function, the same bits after every save, and no silent damage."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experts import ExpertStack, family_of
from resmoe_lab.methods import compress_layer
from resmoe_lab.runtime import restored_experts
from resmoe_lab.runtime.experts import ResMoEExperts
from resmoe_lab.runtime.packing import pack
from resmoe_lab.runtime.quantizer import INDEX_FILE, METHOD
from resmoe_lab.store import Encoding, Storage

from ..experts import pico

PACKABLE = [
    name for name in pico.PICO if name not in ("gpt_oss", "llama4_text")
]  # the others are called in ways of their own
KINDS = [
    ("resmoe-svd", None),
    ("resmoe-svd-separate", None),
    ("resmoe-up", "bitmask"),
    ("resmoe-up", "csr16"),
    ("sp", None),
    ("m-smoe", None),
]
FILE = "resmoe-00001-of-00001.safetensors"
TOKENS = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(1))


def whole(module: ResMoEExperts, stack: ExpertStack) -> ExpertStack:
    """The restored experts; one of fewer neurons computes the same with others that are zero."""
    weights = torch.zeros_like(stack.weights)
    for k, expert in enumerate(weights):
        matrix = module.restore(k if module.groups is None else module.groups[k])
        expert[: len(matrix)] = matrix
    return stack.with_weights(weights)


def pack_model(
    folder: Path, out: Path, *, method: str, form: str | None, values: str = "fp32"
) -> dict[int, ExpertStack]:
    """Write a checkpoint with every MoE layer packed; return the restored experts of each layer."""
    checkpoint = open_checkpoint(folder)
    family, tensors, layers, restored = family_of(checkpoint), {}, {}, {}
    model = load(folder)
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    for layer in family.layers(checkpoint):
        stack = family.load(checkpoint, layer)
        storage = Storage(encoding=Encoding.parse(values), format=form)
        compressed = compress_layer(stack, method=method, keep=0.5, center=find_center(stack), storage=storage)
        original = family.experts_module(model, layer)
        module = pack(compressed, activation=family.activation(original))
        restored[layer] = whole(module, stack)
        for key in family.expert_keys(layer, stack.num_experts):
            del tensors[key]
        name = f"{family.module_name(layer)}.experts"
        inner = f"{name}.experts" if family.routes_by_mask else name
        tensors |= {f"{inner}.{own}": tensor for own, tensor in module.state_dict().items()}
        layers[name] = module.layout.model_dump(mode="json")
    out.mkdir()
    for path in folder.glob("*.json"):
        if "safetensors" not in path.name:
            (out / path.name).write_bytes(path.read_bytes())
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"] = {"quant_method": METHOD, "version": 2, "layers": layers}
    (out / "config.json").write_text(json.dumps(config))
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, out / "resmoe-00001-of-00001.safetensors"
    )
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "resmoe-00001-of-00001.safetensors")}
    (out / INDEX_FILE).write_text(json.dumps(index))
    return restored


def load(folder: Path, **options):
    config = json.loads((folder / "config.json").read_text())
    auto = transformers.AutoModelForSeq2SeqLM if config.get("is_encoder_decoder") else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, **{"dtype": torch.float32} | options)


@pytest.fixture
def mixtral(tmp_path: Path) -> Path:
    return pico.save(pico.mixtral(), tmp_path / "mixtral")


@pytest.mark.parametrize(("method", "form"), KINDS)
@pytest.mark.parametrize("name", PACKABLE)
def test_a_packed_model_is_the_restored_one(name: str, method: str, form: str | None, tmp_path: Path) -> None:
    folder = pico.save(pico.PICO[name](), tmp_path / "original")
    restored = pack_model(folder, tmp_path / "packed", method=method, form=form)
    packed, info = load(tmp_path / "packed", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    dense = load(folder)
    with restored_experts(dense, open_checkpoint(folder), restored.values()):
        expected = pico.logits(dense, TOKENS)
    torch.testing.assert_close(pico.logits(packed, TOKENS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["bitmask", "csr16"])
@pytest.mark.parametrize("values", ["bf16", "int8"])
def test_saving_and_loading_again_keeps_every_bit(values: str, form: str, mixtral: Path, tmp_path: Path) -> None:
    pack_model(mixtral, tmp_path / "packed", method="resmoe-up", form=form, values=values)
    first = load(tmp_path / "packed")
    expected = pico.logits(first, TOKENS)
    for number in (1, 2):
        first.save_pretrained(tmp_path / f"again{number}")
        assert not list((tmp_path / f"again{number}").glob("model*"))
        first = load(tmp_path / f"again{number}")
        assert torch.equal(pico.logits(first, TOKENS), expected)


def test_generation_with_a_cache_is_the_restored_models(mixtral: Path, tmp_path: Path) -> None:
    restored = pack_model(mixtral, tmp_path / "packed", method="resmoe-svd", form=None)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    generated = load(tmp_path / "packed").generate(TOKENS, **options)
    dense = load(mixtral)
    with restored_experts(dense, open_checkpoint(mixtral), restored.values()):
        assert torch.equal(generated, dense.generate(TOKENS, **options))


def test_a_device_map_places_it(mixtral: Path, tmp_path: Path) -> None:
    pack_model(mixtral, tmp_path / "packed", method="resmoe-svd-separate", form=None)
    placed = load(tmp_path / "packed", device_map="auto")
    assert {parameter.device.type for parameter in placed.parameters()} == {"cpu"}
    assert torch.equal(pico.logits(placed, TOKENS), pico.logits(load(tmp_path / "packed"), TOKENS))


def test_a_model_of_sixteen_bits_stays_one(mixtral: Path, tmp_path: Path) -> None:
    pack_model(mixtral, tmp_path / "packed", method="resmoe-svd-separate", form=None, values="bf16")
    half = load(tmp_path / "packed", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    expected = pico.logits(load(tmp_path / "packed"), TOKENS)
    torch.testing.assert_close(pico.logits(half, TOKENS).float(), expected, rtol=0.1, atol=0.1)


def test_one_import_in_a_new_process_is_enough(mixtral: Path, tmp_path: Path) -> None:
    pack_model(mixtral, tmp_path / "packed", method="resmoe-svd", form=None)
    torch.save(pico.logits(load(tmp_path / "packed"), TOKENS), tmp_path / "expected.pt")
    torch.save(TOKENS, tmp_path / "tokens.pt")
    code = (
        "import sys, torch\n{first}"
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path / 'packed')!r}, dtype=torch.float32)\n"
        f"found = model(torch.load({str(tmp_path / 'tokens.pt')!r})).logits\n"
        f"assert torch.equal(found, torch.load({str(tmp_path / 'expected.pt')!r}))\n"
    )
    good, bad = (
        subprocess.run([sys.executable, "-c", code.format(first=first)], capture_output=True, text=True, check=False)
        for first in ("import resmoe_lab\n", "")
    )
    assert good.returncode == 0, good.stderr
    assert bad.returncode != 0
    assert "no file named" in bad.stderr, "without the package, transformers must not start from random experts"


def test_damage_is_refused_by_name(mixtral: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    pack_model(mixtral, out, method="resmoe-svd", form=None)
    file, config = out / FILE, json.loads((out / "config.json").read_text())
    tensors = load_file(file)
    name = "model.layers.1.mlp.experts.residual.right.0.data"

    save_file({key: value for key, value in tensors.items() if key != name}, file)
    with pytest.raises(CheckpointError, match=f"no tensor '{name}'"):
        load(out)
    save_file(tensors, file)

    layer = config["quantization_config"]["layers"]["model.layers.1.mlp.experts"]
    for key, value, words in (
        ("counts", [c + 1 for c in layer["counts"]], "has shape"),
        ("format", "zip", "unknown format 'zip'"),
        ("blocks", [["w1", 0, 8], ["w2", 9, 16]], "side by side"),
    ):
        damaged = json.loads(json.dumps(config))
        damaged["quantization_config"]["layers"]["model.layers.1.mlp.experts"][key] = value
        (out / "config.json").write_text(json.dumps(damaged))
        with pytest.raises(CheckpointError, match=words):
            load(out)
    config["quantization_config"]["version"] = 3
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="version 3 of the format, expected 1 or 2"):
        load(out)


@pytest.mark.parametrize("name", ["gpt_oss", "llama4_text"])
def test_experts_that_are_called_in_another_way_are_refused(name: str, tmp_path: Path) -> None:
    folder = pico.save(pico.PICO[name](), tmp_path / name)
    with pytest.raises(UsageError, match="cannot be packed"):
        pack_model(folder, tmp_path / "out", method="resmoe-svd", form=None)
