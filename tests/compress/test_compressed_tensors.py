"""The export that the package compressed-tensors reads: packed as it packs, opened by transformers, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.utils import calculate_qparams
from compressed_tensors.utils.match import match_named_modules

from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, forecast, forecast_run
from resmoe_lab.compress.compressed_tensors import Scheme
from resmoe_lab.compress.speed import Curve, Speed
from resmoe_lab.experts import described_types, family_of, load_stack, moe_layers
from resmoe_lab.runtime import load

from ..architectures import logits_of, tiny_model
from ..experts import pico

#: Every weight is kept in 32 bits: nothing but this form's own rounding is lost.
LOSSLESS: dict[str, Any] = {"method": "up", "keep": 1.0, "storage": {"encoding": "fp32"}}
#: Types whose experts do not lie one by one on disk.
FUSED = {"aria_text", "gemma4_text", "gpt_oss", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared"}
FUSED |= {"hy_v4", "inkling_text", "inkling2_text", "minimax_m3_vl_text", "zaya"}
#: Types of which transformers joins other weights too.
JOINED = {"bailing_hybrid", "kimi_linear"}
OPENED = [name for name in described_types() if name not in FUSED]
TOKENS = torch.arange(12)[None] % 60


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is not timed for each of fifty shapes."""
    speed = Speed(Curve(1.0, 1.0, 2.0), Curve(1.0, 1.0, 2.0), 3.0, 1e-9)
    monkeypatch.setattr(forecast, "measured_speed", lambda *_, **__: speed)


def export(checkpoint: Checkpoint, out: Path, kind: str, **settings: Any) -> dict[str, Any]:
    config = CompressionConfig(export="compressed-tensors", compressed_type=kind, **{**LOSSLESS, **settings})
    return compress_checkpoint(checkpoint, out, config)


def decoded(model: transformers.PreTrainedModel, folder: Path) -> transformers.PreTrainedModel:
    """The model with the experts of a folder, as this package reads them."""
    checkpoint = open_checkpoint(folder)
    for layer in moe_layers(checkpoint):
        family_of(checkpoint).to_model(model, load_stack(checkpoint, layer=layer))
    return model


@pytest.mark.parametrize("name", OPENED)
def test_transformers_opens_every_type_that_is_not_refused(name: str, tmp_path: Path) -> None:
    """Logits are those of the weights that this package decodes; without the rounding they would be others."""
    model = tiny_model(name)
    original = logits_of(model)
    model.save_pretrained(tmp_path / "source")
    export(open_checkpoint(tmp_path / "source"), tmp_path / "out", "fp8" if name in JOINED else "int4")
    theirs, facts = type(model).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(facts.values()), facts
    expected = logits_of(decoded(model, tmp_path / "out"))
    assert torch.equal(logits_of(theirs.eval()), expected)
    assert not torch.equal(expected, original)


@pytest.mark.parametrize("name", sorted(FUSED))
def test_types_that_transformers_does_not_open_are_refused(name: str, tmp_path: Path) -> None:
    tiny_model(name).save_pretrained(tmp_path / "source")
    checkpoint = open_checkpoint(tmp_path / "source")
    for kind in ("int4", "fp8"):
        with pytest.raises(UsageError, match=f"no compressed-tensors experts of model_type '{name}'.*export dense"):
            export(checkpoint, tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()


def test_experts_that_are_modules_in_the_model_are_refused(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(pico.save(pico.switch_transformers(), tmp_path / "source"))
    with pytest.raises(UsageError, match="no compressed-tensors experts of model_type 'switch_transformers'"):
        export(checkpoint, tmp_path / "out", "fp8")


@pytest.mark.parametrize("name", sorted(JOINED))
def test_weights_that_transformers_would_lose_beside_int4_are_named(name: str, tmp_path: Path) -> None:
    tiny_model(name).save_pretrained(tmp_path / "source")
    with pytest.raises(UsageError, match=r"loses tensor '.*conv1d.weight' of .*choose --compressed-type fp8"):
        export(open_checkpoint(tmp_path / "source"), tmp_path / "out", "int4")


def test_rows_that_fill_no_words_are_refused(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(pico.save(pico.mixtral(), tmp_path / "source"))
    with pytest.raises(UsageError, match=r"packs 8 weights .* found experts with matrices \(8, 12\): choose --comp"):
        export(checkpoint, tmp_path / "out", "int4")


def test_some_layers_go_with_fp8_only(tmp_path: Path) -> None:
    model = pico.qwen3_moe()
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "source"))
    with pytest.raises(UsageError, match=r"found layers \[0\] left out: take all layers, or --compressed-type fp8"):
        export(checkpoint, tmp_path / "out", "int4", layers=[1])
    export(checkpoint, tmp_path / "out", "fp8", layers=[1])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(
        load_stack(open_checkpoint(tmp_path / "out"), layer=0).weights, load_stack(checkpoint, layer=0).weights
    )
    assert torch.equal(pico.logits(theirs, TOKENS), pico.logits(decoded(model, tmp_path / "out"), TOKENS))


@pytest.mark.parametrize("kind", ["int4", "fp8"])
@pytest.mark.parametrize("method", ["m-smoe", "resmoe-up", "resmoe-svd", "hqq"])
def test_every_kind_of_compression_goes_into_it(method: str, kind: str, tmp_path: Path) -> None:
    """Merged experts, residuals from a center and rounded ones: what is read is what was restored, rounded once."""
    model = pico.mixtral(intermediate_size=16)
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "source"))
    settings = {"method": method, "keep": 0.25 if method == "hqq" else 0.5}
    export(checkpoint, tmp_path / "out", kind, **settings)
    compress_checkpoint(checkpoint, tmp_path / "dense", CompressionConfig(**{**LOSSLESS, **settings}, export="dense"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ours = decoded(model, tmp_path / "out")
    assert torch.equal(pico.logits(theirs, TOKENS), pico.logits(ours, TOKENS))
    for layer in (0, 1):
        restored = load_stack(open_checkpoint(tmp_path / "dense"), layer=layer).weights
        read = load_stack(open_checkpoint(tmp_path / "out"), layer=layer).weights
        step = 1 / 15 if kind == "int4" else 1 / 16  # half a step of four bits, or of three bits of mantissa
        assert ((read - restored).abs() <= 1.01 * step * restored.abs().amax()).all()
        assert not torch.equal(read, restored)


@pytest.mark.parametrize("kind", ["int4", "fp8"])
def test_it_generates_and_opens_here_too(kind: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(pico.save(pico.mixtral(intermediate_size=16), tmp_path / "source"))
    export(checkpoint, tmp_path / "out", kind)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ours = load(tmp_path / "out")
    assert torch.equal(theirs.generate(TOKENS, **options), ours.generate(TOKENS, **options))
    assert theirs.generate(TOKENS, **options).shape == (1, 17)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["int4", "fp8"])
def test_errors_and_bytes_are_those_of_what_is_stored(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    pico.save(pico.qwen3_moe().to(dtype), tmp_path / "source")
    checkpoint = open_checkpoint(tmp_path / "source")
    manifest = export(checkpoint, tmp_path / "out", kind)
    after = open_checkpoint(tmp_path / "out")
    for layer in (0, 1):
        lost = load_stack(checkpoint, layer=layer).weights.double() - load_stack(after, layer=layer).weights.double()
        row = manifest["layers"][str(layer)]
        assert row["approximation_error"] == pytest.approx(float(lost.square().sum() / 4), rel=1e-6)
        assert row["bytes"] == family_of(after).expert_bytes(after, layer)
        assert row["bytes"] == manifest["forecast"]["layers"][layer]["output_bytes"]
    assert manifest["export"].startswith("compressed-tensors")
    assert after.encodings == (["pack-quantized"] if kind == "int4" else ["scaled"])
    config = CompressionConfig(export="compressed-tensors", compressed_type=kind, **LOSSLESS)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert forecast_run(checkpoint, tmp_path / "new", config).output_bytes == index["metadata"]["total_size"]


def test_everything_but_the_experts_is_ignored(tmp_path: Path) -> None:
    """In the running model and on disk: routers, attention, shared experts, and experts of layers that are left."""
    model = pico.qwen2_moe()
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "source"))
    export(checkpoint, tmp_path / "out", "fp8", layers=[2])
    said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(said)
    assert list(match_named_modules(model, ["Linear"], config.ignore)) == []
    rounded = {name.removesuffix("_scale") for name in open_checkpoint(tmp_path / "out").tensors if "scale" in name}
    assert rounded == set()  # the index tells what they are decoded to
    header = {name for path in (tmp_path / "out").glob("*.safetensors") for name in _names(path)}
    modules = {name.removesuffix(".weight_scale") for name in header if name.endswith(".weight_scale")}
    matrices = {name.removesuffix(".weight") for name, info in checkpoint.tensors.items() if len(info.shape) == 2}
    assert modules == {name for name in matrices if "layers.2.mlp.experts." in name}
    assert matrices - modules <= set(config.ignore)
    assert modules.isdisjoint(config.ignore)


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stream:
        return list(stream.keys())


def weights_of(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Rows of all sizes, one of which is zero."""
    rows = 10.0 ** torch.linspace(-6, 4, shape[0])[:, None]
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * rows
    weight[shape[0] // 2] = 0
    return weight


@pytest.mark.parametrize("scales", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "group", "shape"),
    [
        ("int4", 128, (6, 256)),
        ("int4", 16, (5, 48)),
        ("int4", None, (7, 24)),
        ("fp8", None, (9, 20)),
    ],
)
def test_a_matrix_is_packed_as_the_package_packs_it(
    kind: str, group: int | None, shape: tuple[int, int], scales: torch.dtype
) -> None:
    scheme, weight = Scheme(kind, group, scales), weights_of(shape)  # type: ignore[arg-type]
    stored = scheme.encode(weight)
    config = QuantizationConfig.model_validate(scheme.described([]))
    theirs, said = config.config_groups["group_0"], BaseCompressor.get_value_from_registry(config.format)
    assert theirs.weights is not None
    groups = weight.reshape(shape[0], -1, group or shape[1])
    expected, _ = calculate_qparams(groups.amin(dim=2), groups.amax(dim=2), theirs.weights)
    full = stored["weight_scale"].float()
    live = groups.abs().amax(dim=2) > 0
    torch.testing.assert_close(
        full[live], expected.reshape(full.shape)[live], rtol=1e-6 if scales == torch.float32 else 2**-8, atol=0
    )
    packed = said.compress({"weight": weight, "weight_scale": full}, theirs)
    for name in ("weight", "weight_packed", "weight_shape"):
        if name in stored:
            assert torch.equal(packed[name].float(), stored[name].float()), name
            assert packed[name].dtype == stored[name].dtype
    assert set(packed) == set(stored)
    read = said.decompress({**stored, "weight_scale": full}, theirs)["weight"]
    assert torch.equal(read, scheme.decode(stored))
    assert scheme.nbytes(shape) == sum(tensor.nbytes for tensor in stored.values())
    assert read.isfinite().all()
    assert torch.equal(read[shape[0] // 2], torch.zeros(shape[1]))


@pytest.mark.parametrize(("sizes", "group"), [((64, 32), 32), ((256, 128), 128), ((64, 48), 16), ((24, 16), None)])
def test_the_group_divides_all_widths(sizes: tuple[int, int], group: int | None, tmp_path: Path) -> None:
    model = pico.qwen3_moe(hidden_size=sizes[0], moe_intermediate_size=sizes[1])
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "source"))
    assert Scheme.of(checkpoint, "int4").group == group
    export(checkpoint, tmp_path / "out", "int4")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(pico.logits(theirs, TOKENS), pico.logits(decoded(model, tmp_path / "out"), TOKENS))


def test_its_type_belongs_to_this_export() -> None:
    with pytest.raises(UsageError, match="compressed type 'fp8' belongs to a compressed-tensors export"):
        CompressionConfig(method="up", compressed_type="fp8")
