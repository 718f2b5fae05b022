"""The coder: speed against ``constriction`` in one run, its distance from the entropy, and a layer of a large model.

    python benchmarks/coding.py                # coder alone; constriction if it is installed
    python benchmarks/coding.py layer          # a layer of Qwen3-30B-A3B's shape: needs about 6 GB

One thread; the shortest of interleaved rounds. Values are Gaussian, rounded to so many bits a symbol. Wanted at 2 bits:
decoding with a center added, into bfloat16, at 400 million weights a second and 5 times ``constriction``; encoding with
the rounding at 50 million; files within 1 % of the entropy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from resmoe_lab._core.machine import machine, peak_memory
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import compress_layer, storage_ledger
from resmoe_lab.store.coder import CodedMatrix, RateCurve, decode_into, encode, quantize

BITS = (4.0, 3.0, 2.0, 1.5, 1.0, 0.5)
ROUNDS = 25


def shortest(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each way, all of them run once in every round."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, work in ways.items():
            begun = time.perf_counter()
            work()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def constriction_ways(symbols: np.ndarray) -> dict[str, Callable[[], object]]:
    """Its range coder on the same symbols with the same kind of table; empty where it is not installed."""
    try:
        import constriction
    except ImportError:
        return {}
    flat = symbols.reshape(-1).astype(np.int32)
    share = np.bincount(flat).astype(np.float64)
    model = constriction.stream.model.Categorical(share / share.sum(), perfect=False)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(flat, model)
    words = coder.get_compressed()

    def write() -> object:
        fresh = constriction.stream.stack.AnsCoder()
        fresh.encode_reverse(flat, model)
        return fresh

    def read() -> object:
        return constriction.stream.stack.AnsCoder(words).decode(model, len(flat))

    return {"constriction encodes": write, "constriction decodes": read}


def coder(rows: int = 1024, p: int = 1024) -> None:
    """Print millions of weights a second, and bits over the entropy."""
    torch.set_num_threads(1)
    values = np.random.default_rng(0).normal(0, 0.03, (rows, 3 * p)).astype(np.float32)
    stops = [p, 2 * p, 3 * p]
    center, wide = np.zeros((3, rows, p), np.uint16), np.zeros((3, rows, p), np.float32)
    half, single = np.zeros(values.shape, np.uint16), np.zeros(values.shape, np.float32)
    curve = RateCurve(values)
    for bits in BITS:
        step = curve.step_for(bits)
        quantized = quantize(values, stops, [step] * 3)
        data = encode(quantized)
        coded = CodedMatrix.read(data, shape=values.shape)
        share = quantized.counts.sum(axis=0) / values.size
        entropy = -float(share[share > 0] @ np.log2(share[share > 0]))
        ways: dict[str, Callable[[], object]] = {
            "decode to bfloat16": lambda: decode_into(coded, half, center),  # noqa: B023
            "decode to float32": lambda: decode_into(coded, single, wide),  # noqa: B023
            "round and encode": lambda: encode(quantize(values, stops, [step] * 3)),  # noqa: B023
            **constriction_ways(quantized.symbols),
        }
        seconds = shortest(ways)
        rates = ", ".join(f"{name} {values.size / time_taken / 1e6:.0f}" for name, time_taken in seconds.items())
        over = 8 * len(data) / values.size / entropy - 1
        ratio = ""
        if "constriction decodes" in seconds:
            ratio = (
                f"; decoding {seconds['constriction decodes'] / seconds['decode to bfloat16']:.1f} times constriction's"
            )
        print(f"{bits:g} bits: entropy {entropy:.4f}, file {over:+.2%}; million weights a second: {rates}{ratio}")


def layer(experts: int, p: int, neurons: int, bits: float) -> None:
    """Time one layer of permuted, noisy copies from the stack to the coded form, center included."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(neurons, 3 * p, generator=generator) * 0.02
    weights = torch.empty(experts, neurons, 3 * p)
    for expert in weights:
        order = torch.randperm(neurons, generator=generator)
        torch.add(base[order], torch.randn(base.shape, generator=generator), alpha=0.006, out=expert)
    blocks = tuple(Block(name, k * p, (k + 1) * p) for k, name in enumerate(("w1", "w3", "w2")))
    stack = ExpertStack(weights, blocks, layer=0)
    from resmoe_lab.centers import find_center

    with peak_memory() as peak:
        begun = time.perf_counter()
        center = find_center(stack)
        found = time.perf_counter()
        coded = compress_layer(stack, method="resmoe-coded", keep=bits / 16, center=center)
        done = time.perf_counter()
    size = storage_ledger(coded).true_bytes
    print(
        f"{experts} experts of {neurons} x {3 * p}, {bits:g} bits: center {found - begun:.1f} s, coding "
        f"{done - found:.1f} s, {8 * size / weights.numel():.4f} bits stored, peak {peak.nbytes / 1e9:.2f} GB"
    )


def main() -> None:
    """Measure the coder, or a layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["coder", "layer"], default="coder")
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--neurons", type=int, default=768)
    parser.add_argument("--bits", type=float, default=2.0)
    arguments = parser.parse_args()
    print(machine())
    if arguments.what == "coder":
        coder()
    else:
        layer(arguments.experts, arguments.hidden, arguments.neurons, arguments.bits)


if __name__ == "__main__":
    main()
