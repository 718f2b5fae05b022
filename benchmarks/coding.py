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
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from resmoe_lab import CompressionConfig, compress_checkpoint, open_checkpoint
from resmoe_lab._core.machine import machine, peak_memory, release_memory
from resmoe_lab.compress.forecast import forecast_run
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


def write_layer(folder: Path, experts: int, p: int, neurons: int) -> None:
    """Write a Qwen3-MoE checkpoint of one layer in bfloat16, its experts permuted and noisy copies of one."""
    generator = torch.Generator().manual_seed(0)
    config = Qwen3MoeConfig(
        num_hidden_layers=1, hidden_size=p, moe_intermediate_size=neurons, num_experts=experts, num_experts_per_tok=8,
        vocab_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=64, decoder_sparse_step=1,
    )  # fmt: skip
    with torch.device("meta"):
        model = Qwen3MoeForCausalLM(config)
    tensors = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.bfloat16) * 0.02
        for name, value in model.state_dict().items()
        if ".experts." not in name
    }
    base = torch.randn(3, neurons, p, generator=generator) * 0.02
    for k in range(experts):
        order = torch.randperm(neurons, generator=generator)
        expert = (base[:, order] + 0.006 * torch.randn(base.shape, generator=generator)).bfloat16()
        prefix = f"model.layers.0.mlp.experts.{k}"
        tensors |= {f"{prefix}.gate_proj.weight": expert[0].clone(), f"{prefix}.up_proj.weight": expert[1].clone()}
        tensors[f"{prefix}.down_proj.weight"] = expert[2].T.contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config.architectures, config.dtype = ["Qwen3MoeForCausalLM"], "bfloat16"
    config.save_pretrained(folder)


def layer(experts: int, p: int, neurons: int, bits: float) -> None:
    """Compress a layer from a checkpoint to a packed one, and compare time and memory with what was forecast."""
    with TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "packed"
        source.mkdir()
        write_layer(source, experts, p, neurons)
        release_memory()
        checkpoint, config = open_checkpoint(source), CompressionConfig(method="resmoe-coded", bits=bits)
        forecast = forecast_run(checkpoint, out, config)
        with peak_memory() as peak:
            begun = time.perf_counter()
            manifest = compress_checkpoint(checkpoint, out, config)
            seconds = time.perf_counter() - begun
        [row] = manifest["layers"].values()
        stored = sum(path.stat().st_size for path in out.glob("*.safetensors"))
        print(
            f"{experts} experts of {neurons} x {3 * p}, {bits:g} bits: {seconds:.1f} s ({forecast.seconds:.1f} "
            f"forecast), peak {peak.nbytes / 1e9:.2f} GB ({forecast.peak_rss_bytes / 1e9:.2f}), files "
            f"{stored / 1e6:.1f} MB ({forecast.output_bytes / 1e6:.1f}); "
            f"{8 * row['bytes'] / (experts * neurons * 3 * p):.4f} bits stored, "
            f"relative error {row['relative_error']:.4f}, certified gap {row['certified_gap']:.1e}"
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
