"""Every method of the paper and every option beyond it on zoo models: what is lost, what is scored, what it weighs.

    python benchmarks/methods.py table mixtral-tiny switch-tiny deepseek-tiny   # the full table as markdown
    python benchmarks/methods.py table mixtral-tiny --equal-bytes               # each at the bytes of ResMoE (UP)
    python benchmarks/methods.py curves                       # a layer's whole curve at Switch-base size
    python benchmarks/methods.py curves --experts 64

Where anything is random, three seeds are run, and the mean stands beside the standard deviation. The paper's order is
printed beside whatever the order turns out to be.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch

from resmoe_lab import moe_layers, open_checkpoint
from resmoe_lab._core.machine import machine
from resmoe_lab._core.params import KEEP
from resmoe_lab.analysis.budget import match_bytes, model_ledger
from resmoe_lab.analysis.flops import layer_flops
from resmoe_lab.centers import CENTERS, Center, Statistics, find_center
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experts import Block, ExpertStack, family_of
from resmoe_lab.methods import METHODS, CompressedLayer, forecast_ledger, storage_ledger
from resmoe_lab.runtime import load_pair, restored_experts
from resmoe_lab.scoring.calibration import TOKENS, calibrate
from resmoe_lab.scoring.likelihood import Request, model_window
from resmoe_lab.scoring.outcome import tabulate
from resmoe_lab.scoring.tasks import EMBEDDED_TASKS
from resmoe_lab.scoring.zeroshot import evaluate_model, text_windows
from resmoe_lab.zoo.storyworld import story_row, worlds

SEEDS = (0, 1, 2)
TEXT = "StoryWorld, worlds of the training"
#: What draws anything from its seed.
RANDOM = {"mlp-fusion", "git-rebasin", "sampled"}
#: The paper's order by perplexity on DeepSeekMoE, best first (Table 2 of its appendix).
PAPER_ORDER = ("resmoe-up", "up", "svd", "meo", "m-smoe")
#: Methods whose whole curve comes from one sort, one spectrum or one set of inner products.
CURVE_METHODS = ("up", "sp", "svd", "resmoe-up", "resmoe-svd", "resmoe-up-pooled", "resmoe-svd-pooled")
#: The paper's methods that need no matching and no clustering.
FAST = ("up", "sp", "svd", "resmoe-up", "resmoe-svd", "meo")
MERGING = ("meo", "m-smoe", "git-rebasin")
KEEPS = KEEP.grid()[1:]


class Model:
    """A zoo model with its layers in memory, and the centers that were found for them."""

    def __init__(self, name: str, limit: int | None) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(name)
        self.family, self.limit = family_of(self.checkpoint), limit
        self.running, self.tokenizer = load_pair(self.checkpoint)
        layers = moe_layers(self.checkpoint)
        self.stacks = [self.family.load(self.checkpoint, layer) for layer in layers]
        self.statistics: dict[int, Statistics] = calibrate(
            self.running, self.family, self._stories(), layers=layers, source=TEXT, fisher=True
        )
        self._centers: dict[tuple[str, int], tuple[list[Center], float]] = {}

    def _stories(self) -> list[Request]:
        """Calibration text from the worlds of the training, so that nothing that is scored has been seen."""
        window, halves = model_window(self.running, self.tokenizer), bool(self.running.config.is_encoder_decoder)
        random, train_worlds, requests = Random(1), worlds("train", 1), list[Request]()
        while sum(len(request.context) + len(request.continuation) for request in requests) < TOKENS:
            requests += text_windows(
                self.tokenizer, story_row(next(train_worlds), random)["text"], window, halves=halves
            )
        return requests

    def centers(self, name: str, seed: int) -> tuple[list[Center], float]:
        """Centers of all layers, found once, and the seconds that it took."""
        if (name, seed) not in self._centers:
            begun = time.perf_counter()
            centers = [
                find_center(stack, center=name, seed=seed, statistics=self.statistics[stack.layer])
                for stack in self.stacks
            ]
            self._centers[name, seed] = (centers, time.perf_counter() - begun)
        return self._centers[name, seed]

    def matched(self, name: str, keep: float, center: str) -> float:
        """The kept fraction at which a method weighs what ResMoE (UP) weighs."""
        shape = self.stacks[0].shape
        budget = forecast_ledger(METHODS["resmoe-up"](), shape, keep=keep).true_bytes
        method = METHODS[name]()
        return match_bytes(method, budget, shape, center=method.uses_center and CENTERS[center].stored)

    def measure(self, name: str, center: str, keep: float, seed: int) -> dict[str, Any]:
        """One row: errors, scores, bytes, FLOPs of a token, seconds."""
        method = METHODS[name](seed=seed)
        centers, seconds = self.centers(center, seed) if method.uses_center else ([None] * len(self.stacks), 0.0)
        begun = time.perf_counter()
        pairs = list(zip(self.stacks, centers, strict=True))
        layers: list[CompressedLayer] = [
            method.compress(stack, keep, fitted, statistics=self.statistics[stack.layer]) for stack, fitted in pairs
        ]
        seconds += time.perf_counter() - begun
        error = sum(
            method.errors(stack, [keep], fitted, statistics=self.statistics[stack.layer])[0] / stack.mean_squared_norm()
            for stack, fitted in pairs
        ) / len(pairs)
        return {"error": error, **self.scores(layers), **self._costs(layers), "seconds": seconds}

    def scores(self, layers: Sequence[CompressedLayer]) -> dict[str, float]:
        """Each task's main score with these layers restored; with none, the original model's."""
        restored = (stack.with_weights(layer.restore()) for stack, layer in zip(self.stacks, layers, strict=False))
        with restored_experts(self.running, self.checkpoint, restored):
            scores = evaluate_model(self.running, self.tokenizer, tasks=EMBEDDED_TASKS, limit=self.limit)
        return {task.removeprefix("storyworld_"): row["value"] for task, row in tabulate(scores).items()}

    def _costs(self, layers: Sequence[CompressedLayer]) -> dict[str, float]:
        ledgers = {stack.layer: storage_ledger(layer) for stack, layer in zip(self.stacks, layers, strict=True)}
        whole = model_ledger(self.checkpoint, ledgers)
        top_k = self.family.shape(self.checkpoint.config).top_k
        original = 2 * top_k * self.stacks[0].weights[0].numel() * len(layers)
        flops = sum(layer_flops(layer, top_k=top_k) for layer in layers)
        experts = sum(ledger.true_bytes for ledger in ledgers.values())
        return {
            "experts' bytes": experts / sum(ledger.original_bytes for ledger in ledgers.values()),
            "model's bytes": whole.true_bytes / whole.original_bytes,
            "experts' FLOPs": flops / original,
        }


def combinations() -> Iterator[tuple[str, str]]:
    """Every method, each residual one with every center; what stores whole experts has none."""
    for name in METHODS:
        if not METHODS[name].uses_center:
            yield name, "none"
    for name in METHODS:
        if METHODS[name].uses_center:
            yield from ((name, center) for center in CENTERS if center != "none")


def measured(model: Model, method: str, center: str, keep: float) -> dict[str, Any]:
    """One combination: the mean over the seeds, and the standard deviation where anything is drawn."""
    seeds = SEEDS if {method, center} & RANDOM else SEEDS[:1]
    runs = [model.measure(method, center, keep, seed) for seed in seeds]
    row: dict[str, Any] = {"method": method, "center": center, "keep": f"{keep:.3g}", "seeds": len(seeds)}
    row["rank"] = statistics.mean(run["perplexity"] for run in runs)
    for key in runs[0]:
        values = [run[key] for run in runs]
        row[key] = f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(seeds) > 1 else "")
    return row


def table(names: Sequence[str], *, keep: float, limit: int | None, equal_bytes: bool) -> None:
    for name in names:
        model = Model(name, limit)
        rows = [
            measured(model, method, center, model.matched(method, keep, center) if equal_bytes else keep)
            for method, center in combinations()
        ]
        rows.sort(key=lambda row: row.pop("rank"))
        where = f"at the bytes of ResMoE (UP) at keep {keep:g}" if equal_bytes else f"at keep {keep:g}"
        original = ", ".join(f"{task} {value:.3f}" for task, value in model.scores([]).items())
        print(f"\n### {name}, {where} ({machine()})\n\nOriginal: {original}. Calibration text: {TEXT}.\n")
        print("\n".join(markdown(rows)))
        ours = dict.fromkeys(row["method"] for row in rows if row["center"] in ("none", "wasserstein"))
        print(f"\nOrder by perplexity: {' < '.join(method for method in ours if method in PAPER_ORDER)}.")
        print(f"The paper's on DeepSeekMoE (Table 2): {' < '.join(PAPER_ORDER)}.", flush=True)


def markdown(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of a table."""
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|" + "---|" * len(rows[0])
    for row in rows:
        yield "| " + " | ".join(map(str, row.values())) + " |"


def curves(experts: int, neurons: int = 3072, p: int = 768) -> None:
    """Time each method's errors at all kept fractions of a layer of unrelated experts, the center known."""
    weights = torch.randn(experts, neurons, 2 * p, generator=torch.Generator().manual_seed(0))
    stack = ExpertStack(weights, (Block("w1", 0, p), Block("w2", p, 2 * p)), layer=0)
    center = find_center(stack, center="average")
    print(
        f"Curves of {experts} experts, p_I {neurons}, p {p}, at {len(KEEPS)} kept fractions "
        f"({machine()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f})\n"
    )
    totals = [0.0, 0.0]
    for name in (*CURVE_METHODS, *MERGING):
        wall, processor = time.perf_counter(), time.process_time()
        METHODS[name]().errors(stack, KEEPS, center)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        totals[0] += wall if name in FAST else 0.0
        totals[1] += processor if name in FAST else 0.0
        print(f"{name:<20}{wall:7.2f} s (cpu {processor:6.2f} s)", flush=True)
    print(f"{', '.join(FAST)}: {totals[0]:.2f} s (cpu {totals[1]:.2f} s)")
    print(
        "m-smoe and git-rebasin first match neurons, as finding a center does; mlp-fusion clusters anew at every keep."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="what", required=True)
    of_models = verbs.add_parser("table")
    of_models.add_argument("models", nargs="+")
    of_models.add_argument("--keep", type=float, default=KEEP.default)
    of_models.add_argument("--limit", type=int, help="rows of each task")
    of_models.add_argument("--equal-bytes", action="store_true")
    verbs.add_parser("curves").add_argument("--experts", type=int, default=8)
    given = parser.parse_args()
    if given.what == "table":
        table(given.models, keep=given.keep, limit=given.limit, equal_bytes=given.equal_bytes)
    else:
        curves(given.experts)


if __name__ == "__main__":
    main()
