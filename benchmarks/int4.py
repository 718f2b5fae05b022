"""The four-bit product against transformers' own experts in bfloat16: ratios of one interleaved run.

    python benchmarks/int4.py                  # Mixtral's ratios at half its sides
    python benchmarks/int4.py --scale 1        # its own: needs about 7 GB
    python benchmarks/int4.py --scale 0.125    # a try in seconds

Contents are random, which cost what real ones cost; every way is run once in every round, and a ratio is that of the
shortest times: others' work only ever makes one longer. Wanted: at most 0.40 for one token, at most 1.1 for 256.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.runtime import Shape, original
from resmoe_lab._core.machine import machine
from resmoe_lab.runtime.experts import ResMoEExperts
from resmoe_lab.store import int4
from resmoe_lab.store.encodings import Encoding
from resmoe_lab.store.encodings.affine import AffineEncoder
from resmoe_lab.store.layout import Layout

WANTED = {1: 0.40, 256: 1.1}
MIXTRAL = Shape(experts=8, hidden=4096, neurons=14336, top_k=2, wanted=(1.1, 0.40))


def timings(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Shortest seconds of each way, all of them run once in every round."""
    seconds = dict.fromkeys(ways, float("inf"))
    for number in range(-1, rounds):  # the first round compiles and fills caches
        for name, work in ways.items():
            begun = time.perf_counter()
            work()
            if number >= 0:
                seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def packed(shape: Shape, *, group: int) -> ResMoEExperts:
    """A layer of random codes, without a center."""
    p, rows = shape.hidden, shape.neurons
    encoding = Encoding(kind="affine", bits=4, group=group, scale="bf16")
    blocks = (("w1", 0, p), ("w3", p, 2 * p), ("w2", 2 * p, 3 * p))
    layout = Layout(format="grouped", encoding=encoding, blocks=blocks, neurons=rows, counts=(4,) * shape.experts)
    module = ResMoEExperts.empty(layout, activation=nn.functional.silu, dtype=torch.bfloat16)
    for name, tensor in module.state_dict().items():
        if name.endswith("data"):
            tensor.random_(0, 256)
        else:
            tensor.fill_(7.5 if name.endswith("zero") else 0.004)
    return module


def compare(shape: Shape, tokens: int, rounds: int, ways: dict[str, nn.Module]) -> None:
    """Print the time of a number of tokens in each way against the fastest of transformers' own."""
    hidden = torch.randn(tokens, shape.hidden).bfloat16()
    index = torch.stack([torch.randperm(shape.experts)[: shape.top_k] for _ in range(tokens)])
    weights = torch.full((tokens, shape.top_k), 1 / shape.top_k).bfloat16()
    used = {name: way for name, way in ways.items() if tokens == 1 or name != "batched_mm"}
    with torch.inference_mode():
        found = timings({name: partial(way, hidden, index, weights) for name, way in used.items()}, rounds)
    fastest = min((name for name in used if name != "int4"), key=found.__getitem__)
    wanted = f"(wanted {WANTED[tokens]})" if tokens in WANTED else ""
    own = f"{fastest} {found[fastest] * 1e3:.2f} ms"
    print(f"  {tokens:4} tokens: {found['int4'] / found[fastest]:.2f} of the fastest, {own} {wanted}", flush=True)


def crossover(shape: Shape, *, group: int) -> None:
    """Print the time of one matrix as it is stored, unpacked first, and in bfloat16."""
    rows, columns = shape.neurons, shape.hidden
    encoding = Encoding(kind="affine", bits=4, group=group, scale="bf16")
    parts = AffineEncoder.encode(encoding, torch.randn(rows, columns))
    codes = AffineEncoder.codes(encoding, parts["data"], columns)
    matrix = int4.int4_matrix(codes, parts["scale"], parts["zero"], group=group)
    dense = AffineEncoder.decode(encoding, parts, torch.bfloat16, columns=columns)

    for tokens in (1, 2, 4, 8, 16, 32, 64):
        inputs = torch.randn(tokens, columns).bfloat16()
        ways = {
            "stored": partial(int4.multiply, inputs, matrix),
            "unpacked": partial(int4.multiply_unpacked, inputs, parts, group=group),
        }
        with torch.inference_mode():
            found = timings(ways | {"bf16": partial(torch.matmul, inputs, dense.T)}, 15)
        as_stored, first = (found[name] / found["bf16"] for name in ("stored", "unpacked"))
        print(f"  one matrix, {tokens:2} tokens: as stored {as_stored:.2f}, unpacked first {first:.2f} of bfloat16's")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scale", type=float, default=0.5)
    arguments.add_argument("--group", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=11)
    given = arguments.parse_args()
    torch.manual_seed(0)
    shape, begun = MIXTRAL.scaled(given.scale), time.perf_counter()
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, groups of {given.group}")
    print(f"mixtral-like: top-{shape.top_k} of {shape.experts}, p {shape.hidden}, p_I {shape.neurons}")
    crossover(shape, group=given.group)
    ways = {name: original(shape, name).bfloat16() for name in ("eager", "grouped_mm", "batched_mm")}
    first = next(iter(ways.values()))
    for way in ways.values():  # one copy of the weights is enough
        for name, parameter in first.named_parameters():
            setattr(way, name, parameter)
    ways["int4"] = packed(shape, group=given.group)
    for tokens in (1, 4, 16, 64, 256):
        compare(shape, tokens, given.rounds, ways)
    print(f"  {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
