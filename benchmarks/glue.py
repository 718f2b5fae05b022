"""GLUE: switch-tiny fine-tuned on each task with the published settings, then compressed by every method.

    python benchmarks/glue.py                        # sst2, mrpc and cola; minutes a task
    python benchmarks/glue.py --tasks cola --pairs 2000 --epochs 1

Rows of the test files are scored; what is trained on stands in the table's heading. MNLI has no training rows in the
data that this project comes with, so it is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import torch

from resmoe_lab import load_model, moe_layers, open_checkpoint
from resmoe_lab._core.machine import machine, versions
from resmoe_lab._core.progress import TqdmProgress
from resmoe_lab.centers import find_center
from resmoe_lab.experts import ExpertStack, family_of
from resmoe_lab.methods import METHODS
from resmoe_lab.runtime import restored_experts
from resmoe_lab.scoring.glue import GlueTask, glue_outcome, glue_task
from resmoe_lab.scoring.outcome import Outcome
from resmoe_lab.scoring.pairing import paired_difference
from resmoe_lab.training.finetuning import FineTuning, fine_tune

#: The paper's methods, in its order; those that need calibration text take none here.
METHOD_NAMES = ("up", "sp", "svd", "m-smoe", "git-rebasin", "meo", "mlp-fusion", "resmoe-up", "resmoe-svd")


def tuned(name: str, task: GlueTask, settings: FineTuning, *, pairs: int) -> tuple[Any, Any, int]:
    """A zoo model fine-tuned on a task, its tokenizer, and how many rows it has seen."""
    model, tokenizer = load_model(open_checkpoint(name))
    rows = task.rows(train=True, limit=pairs)
    progress = TqdmProgress()
    texts = [(task.prompt(row), task.answer(row)) for row in rows]
    fine_tune(model, tokenizer, texts, settings=settings, progress=progress)
    progress.close()
    return model, tokenizer, len(rows)


def compressed(model: Any, name: str, *, method: str, keep: float, layers: list[int]) -> Iterator[ExpertStack]:
    """The fine-tuned experts, compressed and restored."""
    family = family_of(open_checkpoint(name))
    how = METHODS[method](seed=0)
    for layer in layers:
        stack = family.from_model(model, layer)
        center = find_center(stack, center="wasserstein", seed=0) if how.uses_center else None
        yield stack.with_weights(how.compress(stack, keep, center).restore())


def row_of(name: str, outcome: Outcome, before: Outcome) -> str:
    """A row of the table: each figure with its error, the difference of the main one with its interval."""
    figures = [f"{score.value:.3f} ± {score.stderr:.3f}" for score in outcome.scores]
    if outcome is before:
        return f"| {name} | {' | '.join(figures)} | |"
    found = paired_difference(before, outcome)
    told = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    return f"| {name} | {' | '.join(figures)} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="switch-tiny")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc", "cola"])
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--keep", type=float, default=0.25)
    parser.add_argument("--methods", nargs="+", default=list(METHOD_NAMES))
    given = parser.parse_args()
    checkpoint, settings = (
        open_checkpoint(given.model),
        FineTuning(epochs=given.epochs, learning_rate=given.learning_rate),
    )
    layers = moe_layers(checkpoint)
    top = layers[len(layers) // 2 :]
    facts = f"{machine()}, torch {versions()['torch']}, {torch.get_num_threads()} threads"
    print(f"{facts}; {given.model}, layers {top} compressed, keep {given.keep:g}", flush=True)
    for name in given.tasks:
        task, begun = glue_task(name), time.perf_counter()
        model, tokenizer, seen = tuned(given.model, task, settings, pairs=given.pairs)
        before = glue_outcome(model, tokenizer, task)
        how = f"{settings.epochs} epochs, peak learning rate {settings.learning_rate:g}"
        metrics = " | ".join(score.metric for score in before.scores)
        print(f"\n**{name}**: {seen} training rows, {how}; {before.scores[0].n} test rows\n")
        print(f"| method | {metrics} | difference |\n{'|---' * (2 + len(before.scores))}|")
        print(row_of("fine-tuned", before, before), flush=True)
        for method in given.methods:
            stacks = compressed(model, given.model, method=method, keep=given.keep, layers=top)
            with restored_experts(model, checkpoint, list(stacks)):
                print(row_of(method, glue_outcome(model, tokenizer, task), before), flush=True)
        print(f"\n{time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
