"""Every family, on a pico model of it: what is read, what is written, and what permuting neurons changes (nothing)."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import CheckpointError, UsageError, WeightError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.checkpoint.reader import read_tensors
from resmoe_lab.experts import FAMILIES, ExpertStack, family_of, family_of_config, load_stack, moe_layers
from resmoe_lab.runtime import restored_experts

from . import pico


@pytest.fixture(params=sorted(pico.PICO))
def family_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return pico.save(pico.PICO[request.param](), tmp_path / "pico")


def test_every_model_type_has_a_pico_model() -> None:
    """All but DeepSeekMoE-16B, which transformers cannot run."""
    model_types = [model_type for name in FAMILIES for model_type in FAMILIES[name].model_types]
    assert sorted(model_types) == sorted([*pico.PICO, "deepseek"])


def _gated(tokens: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    return (torch.nn.functional.silu(tokens @ w["w1"].T) * (tokens @ w["w3"].T)) @ w["w2"]


def _relu(tokens: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.relu(tokens @ w["w1"].T) @ w["w2"]


def _clamped(tokens: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    gate = (tokens @ w["w1"].T + w["b1"].T).clamp(max=7)
    up = (tokens @ w["w3"].T + w["b3"].T).clamp(-7, 7)
    return ((up + 1) * gate * torch.sigmoid(1.702 * gate)) @ w["w2"]


def _run_expert(experts: torch.nn.Module, tokens: torch.Tensor, expert: int, count: int) -> torch.Tensor:
    """The output of one expert of a transformers model, without what is added after its down-projection."""
    name = type(experts).__name__
    if name == "Llama4TextExperts":  # every expert gets its own tokens
        return experts(tokens.repeat(count, 1)).view(count, *tokens.shape)[expert]
    if name == "SwitchTransformersExperts":
        return experts[f"expert_{expert}"](tokens)
    output = experts(tokens, torch.full((len(tokens), 1), expert), torch.ones(len(tokens), 1))
    return output - experts.down_proj_bias[expert] if name == "GptOssExperts" else output


def test_the_stack_computes_what_the_expert_computes(family_folder: Path) -> None:
    """The activation between the design matrix's own rows (appendix B.3) against the running module."""
    checkpoint = open_checkpoint(family_folder)
    model = pico.PICO[checkpoint.model_type]()
    layer = moe_layers(checkpoint)[-1]
    stack = load_stack(checkpoint, layer=layer)
    tokens = torch.randn(6, family_of(checkpoint).shape(checkpoint.config).hidden_size)
    experts = family_of(checkpoint).experts_module(model, layer)
    compute = {"switch_transformers": _relu, "gpt_oss": _clamped}.get(checkpoint.model_type, _gated)
    for k in range(stack.num_experts):
        ours = compute(tokens, {block.name: stack.block(block.name)[k] for block in stack.blocks})
        torch.testing.assert_close(ours, _run_expert(experts, tokens, k, stack.num_experts))


@pytest.mark.parametrize("name", sorted(pico.PICO))
def test_a_family_tells_its_activation_or_that_its_experts_cannot_be_packed(name: str) -> None:
    model = pico.PICO[name]()
    family = family_of_config(model.config.to_dict(), where="the model")
    layers = {"switch_transformers": 1, "llama4_text": 1}
    module = family.experts_module(model, layers.get(name, 1 if "deepseek" in name else 0))
    values = torch.linspace(-2, 2, 9)
    if name in ("gpt_oss", "llama4_text"):
        with pytest.raises(UsageError, match=f"{type(module).__name__} cannot be packed, .*: export"):
            family.activation(module)
    else:
        expected = values.relu() if name == "switch_transformers" else torch.nn.functional.silu(values)
        torch.testing.assert_close(family.activation(module)(values), expected)


def test_experts_that_are_called_in_another_way_cannot_be_packed() -> None:
    with pytest.raises(UsageError, match="Linear cannot be packed"):
        FAMILIES["mixtral"]({}).activation(torch.nn.Linear(2, 2))


def test_disk_and_memory_give_the_same_stack(family_folder: Path) -> None:
    checkpoint = open_checkpoint(family_folder)
    family = family_of(checkpoint)
    model = pico.PICO[checkpoint.model_type]()
    for layer in family.layers(checkpoint):
        stored, running = family.load(checkpoint, layer), family.from_model(model, layer)
        assert torch.equal(stored.weights, running.weights)
        assert stored.blocks == running.blocks
        router = read_tensors(checkpoint, [family.router_key(layer)])[family.router_key(layer)]
        assert torch.equal(router, family.router_module(model, layer).weight)
        assert router.shape == (stored.num_experts, family.shape(checkpoint.config).hidden_size)


def test_split_gives_back_every_stored_tensor(family_folder: Path) -> None:
    checkpoint = open_checkpoint(family_folder)
    family = family_of(checkpoint)
    on_disk = load_file(family_folder / "model.safetensors")
    for layer in family.layers(checkpoint):
        split = family.to_tensors(family.load(checkpoint, layer), dtype=torch.float32)
        assert set(split) == set(family.expert_keys(layer, family.shape(checkpoint.config).num_experts))
        assert all(torch.equal(split[name], on_disk[name]) for name in split)
        assert sum(t.numel() * 4 for t in split.values()) == family.expert_bytes(checkpoint, layer)


def test_what_is_no_expert_is_none_of_ours(family_folder: Path) -> None:
    """Every stored tensor that is as large as all experts' rows and stands below 'experts' belongs to the stack."""
    checkpoint = open_checkpoint(family_folder)
    family = family_of(checkpoint)
    count = family.shape(checkpoint.config).num_experts
    ours = {key for layer in family.layers(checkpoint) for key in family.expert_keys(layer, count)}
    theirs = {name for name in checkpoint.tensors if ".experts." in name or "put_linear" in name}
    assert {name for name in theirs - ours if "down_proj_bias" not in name} == set()


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", sorted(pico.PICO))
def test_permuting_neurons_never_changes_the_logits(
    name: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = pico.PICO[name]()
    checkpoint = open_checkpoint(pico.save(model, tmp_path_factory.mktemp("pico")))
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 64, (2, 9), generator=generator)

    def shuffled(stack: ExpertStack) -> ExpertStack:
        order = torch.stack([torch.randperm(stack.intermediate_size, generator=generator) for _ in stack.weights])
        return stack.with_weights(torch.gather(stack.weights, 1, order[:, :, None].expand_as(stack.weights)))

    family = family_of(checkpoint)
    before = pico.logits(model, tokens)
    with restored_experts(model, checkpoint, [shuffled(family.from_model(model, n)) for n in moe_layers(checkpoint)]):
        during = pico.logits(model, tokens)
    torch.testing.assert_close(during, before, rtol=1e-4, atol=1e-5)
    assert torch.equal(pico.logits(model, tokens), before)
    zero = family.from_model(model, moe_layers(checkpoint)[-1])
    with restored_experts(model, checkpoint, [zero.with_weights(torch.zeros_like(zero.weights))]):
        assert not torch.allclose(pico.logits(model, tokens), before)


#: Every name that a config of some family has for N, p and p_I, and for the number of layers.
_SIZES = {
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "hidden": ("hidden_size", "d_model"),
    "neurons": ("intermediate_size", "moe_intermediate_size", "d_ff"),
    "layers": ("num_hidden_layers", "num_layers", "num_decoder_layers"),
}


@settings(max_examples=10, deadline=None)
@given(
    sizes=st.fixed_dictionaries({name: st.integers(1, 5) for name in ("experts", "hidden", "neurons", "layers")}),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@pytest.mark.parametrize("model_type", sorted([*pico.PICO, "deepseek"]))
def test_every_layout_comes_back_from_disk(
    model_type: str, sizes: dict[str, int], seed: int, dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = {key: size for name, size in sizes.items() for key in _SIZES[name]}
    config |= {"model_type": model_type, "num_experts_per_tok": 1}
    folder = tmp_path_factory.mktemp("layout")
    (folder / "config.json").write_text(json.dumps(config))
    [family] = [FAMILIES[name](config) for name in FAMILIES if model_type in FAMILIES[name].model_types]
    blocks, last = family.blocks(sizes["hidden"]), sizes["layers"] - 1
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(sizes["experts"], sizes["neurons"], blocks[-1].stop, generator=generator).to(dtype)
    save_file(family.to_tensors(ExpertStack(weights, blocks, last), dtype=dtype), folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert moe_layers(checkpoint) == [last]
    assert torch.equal(family_of(checkpoint).load(checkpoint, last, dtype=dtype).weights, weights)


def _rewrite(folder: Path, change: object) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)  # type: ignore[operator]
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_layer_and_expert(pico_folder: Path, value: float) -> None:
    _rewrite(pico_folder, lambda t: t["model.layers.1.block_sparse_moe.experts.2.w3.weight"].fill_(value))
    checkpoint = open_checkpoint(pico_folder)
    load_stack(checkpoint, layer=0)
    with pytest.raises(WeightError, match="layer 1, expert 2 holds NaN or infinite"):
        load_stack(checkpoint, layer=1)


def test_a_layer_that_does_not_exist(pico_checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match=r"layer 7 has no experts, expected one of \[0, 1\]"):
        load_stack(pico_checkpoint, layer=7)


def test_no_moe_layer(pico_folder: Path) -> None:
    def dense(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "block_sparse_moe" in name]:
            del tensors[name]

    _rewrite(pico_folder, dense)
    with pytest.raises(CheckpointError, match="has no MoE layer: expected tensors such as"):
        moe_layers(open_checkpoint(pico_folder))


def test_an_unknown_tensor_in_a_block_is_named(pico_folder: Path) -> None:
    name = "model.layers.0.block_sparse_moe.experts.0.w4.weight"
    _rewrite(pico_folder, lambda t: t.update({name: torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=f"{name!r} stands in an MoE block but is unknown"):
        moe_layers(open_checkpoint(pico_folder))


def test_a_missing_expert_is_named(pico_folder: Path) -> None:
    _rewrite(pico_folder, lambda t: t.pop("model.layers.0.block_sparse_moe.experts.3.w2.weight"))
    with pytest.raises(CheckpointError, match=r"experts.3.w2.weight', though its config promises 4 experts"):
        load_stack(open_checkpoint(pico_folder), layer=0)


def test_a_wrong_shape_is_told(pico_folder: Path) -> None:
    _rewrite(
        pico_folder, lambda t: t.update({"model.layers.0.block_sparse_moe.experts.1.w1.weight": torch.zeros(5, 8)})
    )
    with pytest.raises(WeightError, match=r"has shape \(5, 8\), expected \(12, 8\)"):
        load_stack(open_checkpoint(pico_folder), layer=0)


def _config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_unknown_family_lists_the_known(pico_folder: Path) -> None:
    _config(pico_folder, model_type="llama")
    with pytest.raises(CheckpointError, match=r"model_type 'llama', expected one of: .*mixtral"):
        moe_layers(open_checkpoint(pico_folder))


@pytest.mark.parametrize("value", [None, "8", 0, -1])
def test_a_config_without_a_number_is_told(pico_folder: Path, value: object) -> None:
    _config(pico_folder, num_local_experts=value)
    with pytest.raises(CheckpointError, match=r"num_local_experts = .*, expected a positive whole number"):
        load_stack(open_checkpoint(pico_folder), layer=0)


def test_a_config_that_promises_a_billion_experts_costs_nothing(pico_folder: Path) -> None:
    _config(pico_folder, num_local_experts=10**9)
    with pytest.raises(CheckpointError, match="config promises 1000000000 experts"):
        load_stack(open_checkpoint(pico_folder), layer=0)


@pytest.mark.parametrize("field", ["num_experts", "d_ff", "num_layers"])
def test_a_switch_config_without_a_number_is_told(field: str, tmp_path: Path) -> None:
    folder = pico.save(pico.switch_transformers(), tmp_path / "pico")
    _config(folder, **{field: None})
    with pytest.raises(CheckpointError, match=f"{field} = None, expected a positive whole number"):
        load_stack(open_checkpoint(folder), layer=1)


def test_the_gated_switch_is_refused(tmp_path: Path) -> None:
    folder = pico.save(pico.switch_transformers(), tmp_path / "pico")
    _config(folder, dense_act_fn="gated-gelu")
    with pytest.raises(CheckpointError, match="dense_act_fn = 'gated-gelu', expected 'relu'"):
        moe_layers(open_checkpoint(folder))


def test_layers_for_multi_token_prediction_are_left_alone(tmp_path: Path) -> None:
    """DeepSeek-V3 stores one more layer than its config counts."""
    folder = pico.save(pico.deepseek_v3(), tmp_path / "pico")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors |= {name.replace("layers.1.", "layers.2."): t.clone() for name, t in tensors.items() if "layers.1." in name}
    save_file(tensors, path, metadata={"format": "pt"})
    assert moe_layers(open_checkpoint(folder)) == [1]


def test_an_expert_beyond_the_configs_number_is_named(pico_folder: Path) -> None:
    _config(pico_folder, num_local_experts=3)
    with pytest.raises(CheckpointError, match=r"experts\.3\.w\d\.weight' stands in an MoE block but is unknown"):
        moe_layers(open_checkpoint(pico_folder))


def test_a_dense_tensor_in_a_layer_of_experts_is_named(tmp_path: Path) -> None:
    folder = pico.save(pico.qwen3_moe(), tmp_path / "pico")
    name = "model.layers.1.mlp.up_proj.weight"
    _rewrite(folder, lambda t: t.update({name: torch.zeros(16, 8)}))
    with pytest.raises(CheckpointError, match=f"{name!r} stands in an MoE block but is unknown"):
        moe_layers(open_checkpoint(folder))


def test_quantized_checkpoints_are_refused_by_name(pico_folder: Path) -> None:
    name = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    _config(pico_folder, quantization_config={"quant_method": "marlin"}, model_type="mixtral")
    _rewrite(pico_folder, lambda t: t.update({f"{name}_packed_words": torch.zeros(4, 4, dtype=torch.int32)}))
    with pytest.raises(CheckpointError, match=rf"is quantized \(marlin\): '{name}_packed_words' is I32 \(4, 4\)"):
        moe_layers(open_checkpoint(pico_folder))
    _config(pico_folder, model_type="unheard_of")
    with pytest.raises(CheckpointError, match=r"quantized \(marlin\).*besides, its model_type 'unheard_of'"):
        moe_layers(open_checkpoint(pico_folder))


def test_floats_under_a_config_that_says_quantized_are_read(pico_folder: Path) -> None:
    expected = load_stack(open_checkpoint(pico_folder), layer=0).weights
    _config(pico_folder, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert torch.equal(load_stack(open_checkpoint(pico_folder), layer=0).weights, expected)


def test_experts_of_eight_bits_are_refused(pico_folder: Path) -> None:
    name = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    _rewrite(pico_folder, lambda t: t.update({name: t[name].to(torch.float8_e4m3fn)}))
    with pytest.raises(CheckpointError, match=rf"its config does not say how\): {name!r} is F8_E4M3"):
        load_stack(open_checkpoint(pico_folder), layer=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_stack_comes_in_the_dtype_asked_for(pico_checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    family = family_of(pico_checkpoint)
    exact = family.load(pico_checkpoint, 0).weights
    assert torch.equal(family.load(pico_checkpoint, 0, dtype=dtype).weights, exact.to(dtype))
