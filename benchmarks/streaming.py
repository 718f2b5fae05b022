"""Checkpoints larger than memory: a synthetic one in Mixtral's exact layout, read, inspected and compressed.

    python benchmarks/streaming.py FOLDER                          # layers of real size: 6.3 GB, and as much again
    python benchmarks/streaming.py FOLDER --scale 0.0625           # every side a sixteenth: a try in seconds
    python benchmarks/streaming.py FOLDER --experts unrelated      # nothing in common: the longest search
    python benchmarks/streaming.py FOLDER --center average         # no search at all

FOLDER is made and, but for what was there before, removed again. Reading is compared with `cat` into nowhere, both
from the page cache; memory is anonymous memory, since mapped pages cost nothing to give back.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from resmoe_lab._core.machine import machine
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.checkpoint.reader import read_tensors
from resmoe_lab.checkpoint.writer import write_index, write_json
from resmoe_lab.experts import family_of, moe_layers

EXPERTS, LAYERS = 8, 2
ROUNDS = 3


def sizes(scale: float) -> dict[str, int]:
    """Mixtral-8x7B's own sizes, or a share of them in every direction."""
    hidden = max(16, round(4096 * scale))
    return {"hidden_size": hidden, "intermediate_size": round(14336 * scale), "vocab_size": round(32000 * scale)}


def make(folder: Path, scale: float, kind: str, seed: int = 0) -> Checkpoint:
    """Write the checkpoint: `copies` are one expert, its neurons shuffled and a little changed, as upcycling does."""
    folder.mkdir(parents=True)
    side = sizes(scale)
    config = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": EXPERTS}
    config |= {"num_experts_per_tok": 2, "num_hidden_layers": LAYERS, "num_attention_heads": 32}
    write_json(folder / "config.json", config | {"num_key_value_heads": 8, "torch_dtype": "bfloat16"} | side)
    generator = torch.Generator().manual_seed(seed)
    files: dict[str, list[str]] = {}
    total = 0
    for number, tensors in enumerate(_shards(side, kind, generator)):
        file = f"model-{number:05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        files[file] = list(tensors)
        total += sum(tensor.numel() * 2 for tensor in tensors.values())
    write_index(folder, files, total_bytes=total)
    return open_checkpoint(folder)


def _shards(side: dict[str, int], kind: str, generator: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    p, neurons, vocabulary = side["hidden_size"], side["intermediate_size"], side["vocab_size"]

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.02).bfloat16()

    yield {"model.embed_tokens.weight": random(vocabulary, p), "lm_head.weight": random(vocabulary, p)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        attention = {name: random(p if name in "qo" else p // 4, p) for name in "qkvo"}
        yield {f"{at}.self_attn.{name}_proj.weight": tensor for name, tensor in attention.items()} | {
            f"{at}.block_sparse_moe.gate.weight": random(EXPERTS, p),
            f"{at}.input_layernorm.weight": random(p),
            f"{at}.post_attention_layernorm.weight": random(p),
        }
        parent = {name: random(neurons, p) for name in ("w1", "w3", "w2")}
        for k in range(EXPERTS):
            order = torch.randperm(neurons, generator=generator)
            expert = {name: random(neurons, p) for name in parent}
            if kind == "copies":
                expert = {name: (parent[name] + 0.1 * expert[name])[order] for name in parent}
            expert["w2"] = expert["w2"].T.contiguous()
            yield {f"{at}.block_sparse_moe.experts.{k}.{name}.weight": tensor for name, tensor in expert.items()}


def best(work: Callable[[], Any]) -> float:
    """The shortest of some times, after one that fills the page cache."""
    work()
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def reading(checkpoint: Checkpoint) -> None:
    """Read every byte of a layer, as `cat` does; then also turn it into design matrices, twice the bytes."""
    family = family_of(checkpoint)
    keys = list(family.expert_keys(0, EXPERTS))
    files = sorted({str(checkpoint.tensors[key].file) for key in keys})
    nbytes = family.expert_bytes(checkpoint, 0)
    cat = best(lambda: subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True))

    def touch() -> int:
        return sum(int(tensor.view(torch.int64).sum()) for tensor in read_tensors(checkpoint, keys).values())

    buffer = torch.empty(max(checkpoint.tensors[key].nbytes for key in keys) // 8, dtype=torch.int64)

    def copy() -> None:
        for tensor in read_tensors(checkpoint, keys).values():
            flat = tensor.flatten().view(torch.int64)
            buffer[: len(flat)].copy_(flat)

    print(f"layer of {nbytes / 1e9:.2f} GB: cat {nbytes / cat / 1e9:.2f} GB/s")
    ways = {
        "every byte looked at": touch,
        "copied": copy,
        "float32 design matrices": lambda: family.load(checkpoint, 0),
    }
    for name, work in ways.items():
        seconds = best(work)
        print(f"  {name:<30} {nbytes / seconds / 1e9:6.2f} GB/s, {cat / seconds:.2f} of cat")


_INSPECT = """
import time; begun = time.perf_counter()
import sys; from resmoe_lab import cli
def read(): return int(open('/proc/self/io').read().split()[1])
import resmoe_lab.checkpoint, resmoe_lab.experts; from resmoe_lab.experts import FAMILIES; FAMILIES.names()
own, before = time.perf_counter(), read()
sys.argv = ['resmoe-lab', 'inspect', sys.argv[1], '--json']
try: cli.main()
except SystemExit: pass
done = time.perf_counter()
print(done - own, done - begun, read() - before, file=sys.stderr)
"""


def inspecting(folder: Path) -> None:
    """Ask what is in it, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _INSPECT, folder], capture_output=True, text=True, check=True)
    seconds, with_imports, nbytes = (float(word) for word in done.stderr.split()[-3:])
    print(f"inspect: {seconds:.2f} s, {with_imports:.2f} s with imports, {nbytes / 1e6:.2f} MB read")


def compressing(folder: Path, out: Path, method: str, center: str, layers: str) -> dict[str, Any]:
    """Compress layers in a process of its own; set what it took beside what was forecast."""
    command = [sys.executable, "-m", "resmoe_lab", "compress", folder, "--out", out, "--layers", layers, "--json"]
    done = subprocess.run(
        [*map(str, command), "--method", method, "--center", center], stdout=subprocess.PIPE, text=True, check=True
    )
    manifest: dict[str, Any] = json.loads(Path(json.loads(done.stdout)["manifest"]).read_text())
    forecast = manifest["forecast"]
    for name, unit in (("seconds", 1), ("peak_rss_bytes", 1e9)):
        predicted, measured = forecast[name] / unit, manifest[name] / unit
        figures = f"forecast {predicted:9.2f}, measured {measured:9.2f}: {predicted / measured:.2f}"
        print(f"  layers {layers:<4} {name:<15} {figures}")
    return manifest


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--experts", choices=["copies", "unrelated"], default="copies")
    arguments.add_argument("--method", default="resmoe-up")
    arguments.add_argument("--center", default="wasserstein")
    given = arguments.parse_args()
    model, outs = given.folder / "model", [given.folder / name for name in ("one", "both")]
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, scale {given.scale:g}")
    try:
        checkpoint = make(model, given.scale, given.experts)
        print(f"{checkpoint.total_bytes / 1e9:.2f} GB, layers {moe_layers(checkpoint)}, experts: {given.experts}")
        inspecting(model)
        reading(checkpoint)
        print(f"compress with {given.method}, center {given.center}")
        for out, layers in zip(outs, ("0", "all"), strict=True):
            compressing(model, out, given.method, given.center, layers)
            shutil.rmtree(out)
    finally:
        for folder in (model, *outs):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
