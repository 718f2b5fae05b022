"""Packed experts against transformers' own: time, size on disk and memory, as ratios of one interleaved run.

    python benchmarks/runtime.py                   # both shapes in fp32
    python benchmarks/runtime.py --scale 0.0625    # every side a sixteenth: a try in seconds
    python benchmarks/runtime.py --shape deepseek --rounds 40

Time is that of one block of experts with random contents, which cost what real ones cost: every form is run once in
every round, and a ratio is that of the medians. Memory is what loading a one-layer model adds to a fresh process's
anonymous memory (RssAnon; mapped pages cost nothing to give back), beside the tensors' bytes in its files.

ResMoE's Tables 5 to 7 restore every expert densely, and report no gain in time or in memory while running.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from resmoe_lab._core.machine import machine
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.checkpoint.writer import write_index, write_json
from resmoe_lab.runtime.experts import ResMoEExperts
from resmoe_lab.runtime.quantizer import INDEX_FILE, ResMoEConfig
from resmoe_lab.store.bits import pack_mask
from resmoe_lab.store.encodings import FP32
from resmoe_lab.store.layout import Layout

KEEP = 0.25
TOKENS = (256, 1)
#: Slower than the others by far at many tokens: it gathers every token's weights.
_FEW_TOKENS_ONLY = "batched_mm"
_NAME = "model.layers.0.mlp.experts"


@dataclass(frozen=True)
class Shape:
    """N, p, p_I and k of a layer, and the ratios of time that were to be reached at each number of tokens."""

    experts: int
    hidden: int
    neurons: int
    top_k: int
    wanted: tuple[float, float]

    def scaled(self, scale: float) -> Shape:
        """The same with shorter sides."""
        hidden, neurons = (max(16, round(side * scale)) for side in (self.hidden, self.neurons))
        return Shape(self.experts, hidden, neurons, self.top_k, self.wanted)

    def config(self) -> MixtralConfig:
        """A model of one such layer and little else."""
        return MixtralConfig(
            hidden_size=self.hidden,
            intermediate_size=self.neurons,
            num_local_experts=self.experts,
            num_experts_per_tok=self.top_k,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=1,
            vocab_size=256,
        )

    def layout(self, form: str) -> Layout:
        """A packed layer at :data:`KEEP`, in fp32."""
        p, rows, width = self.hidden, self.neurons, 3 * self.hidden
        counts = {
            "lowrank-separate": int(KEEP * rows * p / (rows + p)),
            "lowrank-joint": int(KEEP * rows * width / (rows + width)),
            "bitmask": round(KEEP * rows * width),
        }
        blocks = (("w1", 0, p), ("w3", p, 2 * p), ("w2", 2 * p, width))
        ranks = (max(1, counts[form]),) * self.experts
        return Layout(format=form, encoding=FP32, center=FP32, blocks=blocks, neurons=rows, counts=ranks)


SHAPES = {
    "mixtral": Shape(experts=8, hidden=1024, neurons=3584, top_k=2, wanted=(0.72, 0.82)),
    "deepseek": Shape(experts=64, hidden=1024, neurons=704, top_k=6, wanted=(0.45, 0.58)),
}
FORMS = ("lowrank-separate", "lowrank-joint", "bitmask")


def packed(shape: Shape, form: str, *, mode: str, cache: int | None) -> ResMoEExperts:
    """A packed layer of random contents."""
    layout = shape.layout(form)
    module = ResMoEExperts.empty(layout, activation=nn.functional.silu, mode=mode, cache_experts=cache)
    for name, tensor in module.state_dict().items():
        if name.endswith("bits"):
            tensor.copy_(random_bits(shape, layout.counts[0]))
        else:
            tensor.normal_(0, 0.02)
    return module


def random_bits(shape: Shape, count: int) -> Tensor:
    """(N, p_I, ceil(D / 8)) masks with so many places each."""
    size = (shape.neurons, 3 * shape.hidden)
    masks = torch.zeros(shape.experts, size[0] * size[1], dtype=torch.bool)
    for mask in masks:
        mask[torch.randperm(len(mask))[:count]] = True
    return torch.stack([pack_mask(mask.view(size)) for mask in masks])


def original(shape: Shape, implementation: str) -> nn.Module:
    """Transformers' own experts, computed in one of its ways."""
    config = shape.config()
    config._experts_implementation = implementation
    module = MixtralExperts(config)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.02)
    return module.requires_grad_(False)


def timings(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way, all of them run once in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-1, rounds):  # the first round compiles and fills caches
        for name, work in calls.items():
            begun = time.perf_counter()
            work()
            if number >= 0:
                seconds[name].append(time.perf_counter() - begun)
    return {name: median(times) for name, times in seconds.items()}


def compare_time(shape: Shape, rounds: int) -> None:
    """Time of every form against the fastest of transformers' own."""
    baselines = {name: original(shape, name) for name in ("eager", "grouped_mm", "batched_mm")}
    modules: dict[str, nn.Module] = {
        "factored, separate": packed(shape, "lowrank-separate", mode="factored", cache=1),
        "factored, joint": packed(shape, "lowrank-joint", mode="factored", cache=1),
        "restored once": packed(shape, "lowrank-joint", mode="restored", cache=shape.experts),
        "bitmask, an eighth cached": packed(shape, "bitmask", mode="restored", cache=None),
    }
    for tokens, wanted in zip(TOKENS, shape.wanted, strict=True):
        hidden = torch.randn(tokens, shape.hidden)
        index = torch.stack([torch.randperm(shape.experts)[: shape.top_k] for _ in range(tokens)])
        weights = torch.full((tokens, shape.top_k), 1 / shape.top_k)
        compared = {name: module for name, module in baselines.items() if tokens == 1 or name != _FEW_TOKENS_ONLY}
        calls = {name: partial(module, hidden, index, weights) for name, module in (compared | modules).items()}
        with torch.inference_mode():
            seconds = timings(calls, rounds)
        fastest = min(compared, key=seconds.__getitem__)
        print(f"  {tokens} tokens; the fastest of transformers is {fastest}, {seconds[fastest] * 1e3:.2f} ms")
        for name in calls:
            goal = {"factored, separate": f"(goal {wanted})"}.get(name, "")
            goal = "(goal 1.5)" if name.startswith("bitmask") and tokens > 1 else goal
            print(f"    {name:<28} {seconds[name] / seconds[fastest]:7.2f} {goal}")


_LOAD = """
import sys, torch, resmoe_lab
from resmoe_lab._core.machine import anonymous_bytes, release_memory, peak_memory
import transformers.models.mixtral.modeling_mixtral
from resmoe_lab.runtime.loading import load
release_memory()
before = anonymous_bytes()
with peak_memory() as peak:
    model = load(sys.argv[1])
release_memory()
print(anonymous_bytes() - before, peak.nbytes - before)
"""


def write_model(shape: Shape, form: str | None, folder: Path) -> int:
    """Write a model of one layer, packed in a form or dense; return its tensors' bytes."""
    model = MixtralForCausalLM(shape.config())
    model.save_pretrained(folder)
    if form is None:
        return open_checkpoint(folder).total_bytes
    layout = shape.layout(form)
    module = packed(shape, form, mode="restored", cache=1)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if _NAME not in name}
    tensors |= {f"{_NAME}.{name}": tensor for name, tensor in module.state_dict().items()}
    for path in folder.glob("model*"):
        path.unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "resmoe-00000.safetensors")
    config = model.config.to_dict()
    config["quantization_config"] = ResMoEConfig({_NAME: layout.model_dump(mode="json")}).to_dict()
    write_json(folder / "config.json", config)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_index(folder, {"resmoe-00000.safetensors": tensors}, total_bytes=total, name=INDEX_FILE)
    return total


def compare_memory(shape: Shape) -> None:
    """Bytes on disk and in memory of every form against the dense layer."""
    dense: tuple[int, int] | None = None
    for form in (None, *FORMS):
        with TemporaryDirectory() as scratch:
            stored = write_model(shape, form, Path(scratch))
            command = [sys.executable, "-c", _LOAD, scratch]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        resident, peak = map(int, done.stdout.split())
        dense = dense or (stored, resident)
        print(
            f"    {form or 'dense':<28} on disk {stored / 1e6:8.2f} MB ({stored / dense[0]:.2f} of dense), resident "
            f"{resident / stored:.2f} of that ({resident / dense[1]:.2f} of dense), while loading {peak / stored:.2f}"
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", choices=[*SHAPES, "both"], default="both")
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    torch.manual_seed(0)
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, keep {KEEP}, fp32")
    for name in SHAPES if given.shape == "both" else [given.shape]:
        shape = SHAPES[name].scaled(given.scale)
        print(f"{name}-like: top-{shape.top_k} of {shape.experts}, p {shape.hidden}, p_I {shape.neurons}")
        compare_time(shape, given.rounds)
        compare_memory(shape)


if __name__ == "__main__":
    main()
