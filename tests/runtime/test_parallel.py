"""Shares of packed experts add up to the whole, in one process and in two."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import silu

from resmoe_lab._core.errors import UsageError
from resmoe_lab.centers import find_center
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import compress_layer
from resmoe_lab.runtime.experts import ResMoEExperts
from resmoe_lab.runtime.packing import pack
from resmoe_lab.runtime.parallel import (
    parallelize,
    shard_experts,
    shard_neurons,
)
from resmoe_lab.store import Encoding, Storage

N, P, P_I, TOP_K = 6, 16, 20, 2
BLOCKS = (Block("w1", 0, P), Block("w3", P, 2 * P), Block("w2", 2 * P, 3 * P))
FORMS = [
    ("resmoe-svd", None),
    ("resmoe-svd-separate", None),
    ("resmoe-svd-pooled", None),
    ("resmoe-up", "bitmask"),
    ("resmoe-up", "csr16"),
    ("sp", None),
    ("meo", None),
    ("mlp-fusion", None),
]


def layer_of(method: str, form: str | None, values: str = "fp32", *, common: float = 0.0) -> ResMoEExperts:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(N, P_I, 3 * P, generator=generator)
    weights += common * torch.randn(P_I, 3 * P, generator=generator)
    stack = ExpertStack(weights, BLOCKS, layer=0)
    storage = Storage(encoding=Encoding.parse(values), format=form)
    layer = compress_layer(stack, method=method, keep=0.5, center=find_center(stack), storage=storage)
    return pack(layer, activation=silu)


def some_tokens(count: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    index = torch.stack([torch.randperm(N, generator=generator)[:TOP_K] for _ in range(count)])
    return torch.randn(count, P, generator=generator), index, torch.rand(count, TOP_K, generator=generator)


@pytest.mark.parametrize("values", ["fp32", "int8"])
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize(("method", "form"), FORMS)
def test_shares_of_neurons_add_up(method: str, form: str | None, world: int, values: str) -> None:
    block = layer_of(method, form, values)
    expected = block(*some_tokens())
    total = sum(shard_neurons(block, rank, world)(*some_tokens()) for rank in range(world))
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("method", ["rtn", "resmoe-rtn", "mxfp4", "coded", "resmoe-coded"])
def test_shares_of_rounded_experts_add_up(method: str, world: int) -> None:
    block = layer_of(method, None, common=10.0)
    assert (block.stored_center() is not None) == (method in ("resmoe-rtn", "resmoe-coded"))
    expected, (hidden, index, weights) = block(*some_tokens()), some_tokens()
    total = sum(shard_neurons(block, rank, world)(hidden, index, weights) for rank in range(world))
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("values", ["fp32", "int8"])
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize(("method", "form"), FORMS)
def test_shares_of_experts_add_up(method: str, form: str | None, world: int, values: str) -> None:
    block = layer_of(method, form, values)
    hidden, index, weights = some_tokens()
    expected, total = block(hidden, index, weights), torch.zeros(len(hidden), P)
    for rank in range(world):
        first, count = N * rank // world, N * (rank + 1) // world - N * rank // world
        local_index = torch.where((index >= first) & (index < first + count), index - first, count)
        total += shard_experts(block, rank, world)(hidden, local_index, weights)
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("form", "least"), [("bitmask", 0.5), ("csr16", 0.5)])
def test_half_of_the_neurons_are_half_of_the_bytes(form: str, least: float) -> None:
    block = layer_of("resmoe-up", form)
    sizes = [nbytes(shard_neurons(block, rank, 2)) for rank in range(2)]
    assert sum(sizes) == pytest.approx(nbytes(block), rel=0.01)
    assert max(sizes) < 1.1 * least * nbytes(block)


def nbytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def test_more_processes_than_experts_are_refused() -> None:
    with pytest.raises(UsageError, match="6 cannot be shared by 7 processes"):
        shard_experts(layer_of("resmoe-svd", None), 0, 7)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _work(rank: int, port: int, out: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    outputs = {}
    for method, form in FORMS[:2] + FORMS[3:4]:
        for split in ("neurons", "experts"):
            model = torch.nn.ModuleDict({"experts": layer_of(method, form)})
            total_bytes = nbytes(model)
            parallelize(model, split)
            key = f"{method}.{split}"
            with torch.inference_mode():
                outputs[key] = model["experts"](*some_tokens()).clone()
            outputs[f"{key}.share"] = torch.tensor(nbytes(model) / total_bytes)
    torch.save(outputs, f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    mp.spawn(_work, (_free_port(), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for method, form in FORMS[:2] + FORMS[3:4]:
        expected = layer_of(method, form)(*some_tokens())
        for split in ("neurons", "experts"):
            for outputs in (first, second):
                torch.testing.assert_close(outputs[f"{method}.{split}"], expected, rtol=1e-5, atol=1e-5)
        shares = [float(outputs[f"{method}.neurons.share"]) for outputs in (first, second)]
        assert max(shares) < (0.55 if method == "resmoe-up" else 0.78)  # both hold the right factors, wide ones here
