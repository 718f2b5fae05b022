"""The packed export: as small as the ledger says, opened by from_pretrained, and refused where it cannot be."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from resmoe_lab._core.errors import CheckpointError, OutputError, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.checkpoint.weight_files import PACKED_INDEX_FILE
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.experts import family_of, load_stack, moe_layers
from resmoe_lab.methods import METHODS, compress_layer, storage_ledger
from resmoe_lab.runtime import restored_experts
from resmoe_lab.store import EXACT_STORAGE, Encoding, Storage

from ..experts import pico

TOKENS = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(1))
FAMILIES = [name for name in pico.PICO if name not in ("gpt_oss", "llama4_text")]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_packed_export_computes_what_the_restored_experts_do(name: str, tmp_path: Path) -> None:
    """One layer of several, of a sharded checkpoint, in 32 bits."""
    model = pico.PICO[name]()
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "pico", shards=True))
    layer = moe_layers(checkpoint)[-1]
    how = {"method": "resmoe-svd", "keep": 0.8}
    compress_checkpoint(
        checkpoint, tmp_path / "out", CompressionConfig(layers=[layer], **how, storage={"encoding": "fp32"})
    )
    assert {path.name[:7] for path in (tmp_path / "out").glob("*.safetensors*")} == {"resmoe-", "resmoe."}
    packed, info = type(model).from_pretrained(tmp_path / "out", dtype=torch.float32, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    stack = load_stack(checkpoint, layer=layer)
    restored = compress_layer(stack, center=find_center(stack), storage=EXACT_STORAGE, **how).restore()
    with restored_experts(model, checkpoint, [stack.with_weights(restored)]):
        expected = pico.logits(model, TOKENS)
    torch.testing.assert_close(pico.logits(packed.eval(), TOKENS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("values", ["bf16", "fp32", "int8"])
@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].needs_statistics])
def test_a_layer_is_as_large_as_the_ledger_says(
    method: str, values: str, pico_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """To the byte: the file without its header, the manifest, the forecast, and the ledger of the method's pieces."""
    how = {"method": method, "keep": 0.5}
    manifest = compress_checkpoint(
        pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[1], **how, storage={"encoding": values})
    )
    file = tmp_path / "out" / "resmoe-layer-00001.safetensors"
    with file.open("rb") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
    assert file.stat().st_size - header == manifest["bytes"]
    expected = manifest["forecast"]["layers"][0]["output_bytes"]
    if METHODS[method].method.variable_size:  # only coding tells: no more than forecast
        assert 0.8 * expected <= manifest["bytes"] <= expected
    else:
        assert expected == manifest["bytes"]
    if values != "int8":
        stack = load_stack(pico_checkpoint, layer=1)
        center = find_center(stack) if METHODS[method].uses_center else None
        storage = Storage(encoding=Encoding.parse(values))
        ledger = storage_ledger(compress_layer(stack, center=center, storage=storage, **how))
        in_config = sum(entry.nbytes for entry in ledger.entries if entry.item == "map")
        assert manifest["bytes"] == ledger.true_bytes - in_config
        assert manifest["original_bytes"] == family_of(pico_checkpoint).expert_bytes(pico_checkpoint, 1)
        assert manifest["paper_bytes"] == ledger.paper_bytes


def test_the_index_and_the_manifest_name_every_file(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    manifest = compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0, 1]))
    index = json.loads((tmp_path / "out" / PACKED_INDEX_FILE).read_text())
    files = {path.name for path in (tmp_path / "out").glob("*.safetensors")}
    assert set(manifest["files"]) == set(index["weight_map"].values()) == files
    tensors = [tensor for file in files for tensor in load_file(tmp_path / "out" / file).values()]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors)
    assert open_checkpoint(tmp_path / "out").packed
    assert manifest["export"].startswith("packed")


def test_another_form_is_another_result(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0], storage={"format": "csr16"}))
    for changed in ({}, {"storage": {"format": "csr16", "encoding": "fp32"}}, {"export": "dense"}):
        with pytest.raises(OutputError, match="holds another result"):
            compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0], **changed))


@pytest.mark.parametrize("name", ["gpt_oss", "llama4_text"])
def test_experts_that_cannot_be_packed_are_refused_before_any_work(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(pico.save(pico.PICO[name](), tmp_path / "pico"))
    with pytest.raises(UsageError, match=r"cannot be packed, .*: export its restored experts instead"):
        compress_checkpoint(checkpoint, tmp_path / "out", CompressionConfig(layers=moe_layers(checkpoint)[:1]))
    assert not (tmp_path / "out").exists()


def test_a_model_that_transformers_does_not_know_is_refused(pico_folder: Path, tmp_path: Path) -> None:
    """As DeepSeekMoE, which this package reads and transformers does not run."""
    from resmoe_lab.runtime.packable import empty_model

    path = pico_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "deepseek"}))
    with pytest.raises(UsageError, match=r"transformers cannot run model_type 'deepseek' .*export its restored"):
        empty_model(open_checkpoint(pico_folder))


def test_an_unregistered_name_is_what_a_plain_loader_looks_for(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0]))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    with pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_a_packed_checkpoint_is_not_compressed_again(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0]))
    with pytest.raises(CheckpointError, match="is packed, expected dense experts: use the original checkpoint"):
        compress_checkpoint(open_checkpoint(tmp_path / "out"), tmp_path / "again", CompressionConfig(layers=[1]))
    assert not (tmp_path / "again").exists()


def test_a_coded_run_that_was_stopped_goes_on_to_the_same_bytes(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    config = CompressionConfig(method="resmoe-coded", bits=6, layers=[0, 1])
    compress_checkpoint(pico_checkpoint, tmp_path / "whole", config)

    def stop(tick: Tick) -> None:
        if tick.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_checkpoint(pico_checkpoint, tmp_path / "stopped", config, progress=stop)
    assert not (tmp_path / "stopped" / "config.json").exists()
    compress_checkpoint(pico_checkpoint, tmp_path / "stopped", config)
    files = sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert len(files) == 3
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
