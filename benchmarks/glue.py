"""GLUE: switch-tiny fine-tuned on each task with the published settings, then compressed by every method.

    python benchmarks/glue.py                        # sst2, mrpc and cola; minutes a task
    python benchmarks/glue.py --tasks cola --pairs 2000 --epochs 1

Rows of the test files are scored; what is trained on stands in the table's heading. MNLI has no training rows in the
data that this project comes with, so it is left out.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from resmoe_lab import moe_layers, open_checkpoint
from resmoe_lab._core.machine import machine, versions
from resmoe_lab._core.progress import TqdmProgress
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.runner import VariantRunner
from resmoe_lab.experts import ExpertStack
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring.glue import GlueTask, glue_outcome, glue_task
from resmoe_lab.scoring.outcome import Outcome
from resmoe_lab.scoring.pairing import paired_difference
from resmoe_lab.training.finetuning import FineTuning, fine_tune

#: The paper's methods, in its order; those that need calibration text take none here.
METHOD_NAMES = ("up", "sp", "svd", "m-smoe", "git-rebasin", "meo", "mlp-fusion", "resmoe-up", "resmoe-svd")


class FineTunedRunner(VariantRunner):
    """Runs the variants of a fine-tuned model, whose experts are not those of its checkpoint."""

    def __init__(self, checkpoint: Checkpoint, model: Any, tokenizer: Any, *, layers: list[int]) -> None:
        super().__init__(checkpoint, layers=layers)
        self._fine_tuned = model, tokenizer

    def _load_model(self) -> tuple[Any, Any]:
        return self._fine_tuned

    def stack(self, layer: int) -> ExpertStack:
        return self.family.from_model(self.loaded[0], layer)


def fine_tuned(checkpoint: Checkpoint, task: GlueTask, settings: FineTuning, *, pairs: int) -> tuple[Any, Any, int]:
    """A zoo model fine-tuned on a task, its tokenizer, and the number of training rows."""
    model, tokenizer = load_pair(checkpoint)
    rows = task.rows(train=True, limit=pairs)
    progress = TqdmProgress()
    texts = [(task.prompt(row), task.answer(row)) for row in rows]
    fine_tune(model, tokenizer, texts, settings=settings, progress=progress)
    progress.close()
    return model, tokenizer, len(rows)


def row_of(name: str, outcome: Outcome, before: Outcome) -> str:
    """A row of the table: each figure with its error, the difference of the main one with its interval."""
    figures = [f"{score.value:.3f} ± {score.stderr:.3f}" for score in outcome.scores]
    if outcome is before:
        return f"| {name} | {' | '.join(figures)} | |"
    difference = paired_difference(before, outcome)
    interval = f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
    return f"| {name} | {' | '.join(figures)} | {interval} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="switch-tiny")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc", "cola"])
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--keep", type=float, default=0.25)
    parser.add_argument("--methods", nargs="+", default=list(METHOD_NAMES))
    options = parser.parse_args()
    checkpoint = open_checkpoint(options.model)
    settings = FineTuning(epochs=options.epochs, learning_rate=options.learning_rate)
    layers = moe_layers(checkpoint)
    top = layers[len(layers) // 2 :]
    facts = f"{machine()}, torch {versions()['torch']}, {torch.get_num_threads()} threads"
    print(f"{facts}; {options.model}, layers {top} compressed, keep {options.keep:g}", flush=True)
    for name in options.tasks:
        task, begun = glue_task(name), time.perf_counter()
        model, tokenizer, num_rows = fine_tuned(checkpoint, task, settings, pairs=options.pairs)
        before = glue_outcome(model, tokenizer, task)
        schedule = f"{settings.epochs} epochs, peak learning rate {settings.learning_rate:g}"
        metrics = " | ".join(score.metric for score in before.scores)
        print(f"\n**{name}**: {num_rows} training rows, {schedule}; {before.scores[0].n} test rows\n")
        print(f"| method | {metrics} | difference |\n{'|---' * (2 + len(before.scores))}|")
        print(row_of("fine-tuned", before, before), flush=True)
        with FineTunedRunner(checkpoint, model, tokenizer, layers=top) as runner:
            for method in options.methods:
                with runner.running(runner.variant(method, options.keep)):
                    print(row_of(method, glue_outcome(model, tokenizer, task), before), flush=True)
        print(f"\n{time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
