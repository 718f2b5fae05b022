"""Loss at equal true bytes: what each way to shrink experts costs, at bytes of files, in one run.

    python benchmarks/bits.py mixtral-tiny deepseek-tiny switch-tiny
    python benchmarks/bits.py smol-moe --text wikitext --tasks wikitext --limit 8

Bytes are those of safetensors files with headers. KL is that of the original to the compressed model, in
nats a token; its standard error is over windows of text. Quantizers round at 4, 3 and 2 bits, and coded forms get
no more than the bytes of each, and 4, 3, 2, 1.5 and 1 bits. Methods that need calibration see the last half of the same
text, of which the first is measured. Results are written to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save

from resmoe_lab import open_checkpoint
from resmoe_lab._core.machine import machine, versions
from resmoe_lab.experiments.divergence import divergence, predicting_states
from resmoe_lab.experiments.runner import VariantRunner
from resmoe_lab.experiments.variants import Variant
from resmoe_lab.experts import ExpertStack
from resmoe_lab.methods import METHODS, CompressedLayer
from resmoe_lab.runtime.packing import pack
from resmoe_lab.scoring.calibration import calibration_requests
from resmoe_lab.scoring.tasks import find_task
from resmoe_lab.scoring.zeroshot import evaluate_model

#: Bits at which everything that goes by them is measured, where it can.
BITS = (4.0, 3.0, 2.0, 1.5, 1.0)
QUANTIZERS = ("rtn", "hqq", "gptq", "mxfp4")
#: Those that the goals of the coded forms are about.
RIVALS = ("rtn", "hqq", "gptq")
CODED = ("coded", "resmoe-coded")
#: With calibration and error compensation, and the bits at which it is tried.
COMPENSATED, COMPENSATED_BITS = ("coded-gptq", "resmoe-coded-gptq"), (2.5, 2.0, 1.5)
#: What is stored of them without this benchmark's subject: (method, keep).
PRUNED = (("resmoe-up", 0.25), ("resmoe-up", 0.1))
#: The loss of the first of them is wanted at its bytes over these.
PARTS = (3, 4)
RESULTS = Path(__file__).parent / "results"


class Remembering(VariantRunner):
    """A runner that compresses a variant once: for its bytes, and for its scores."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._variant: Variant | None = None
        self._made: dict[int, CompressedLayer] = {}

    def compressed(self, variant: Variant, layer: int, *, stack: ExpertStack | None = None) -> CompressedLayer:
        """Compress a layer, or return it as it was for the same variant just now."""
        if variant != self._variant:
            self._variant, self._made = variant, {}
        if layer not in self._made:
            self._made[layer] = super().compressed(variant, layer, stack=stack)
        return self._made[layer]


def stored_bytes(runner: VariantRunner, variant: Variant) -> tuple[int, int]:
    """Bytes of the files that the variant's layers are stored in, and what headers are of them."""
    total = values = 0
    for layer in runner.layers:
        module = pack(runner.compressed(variant, layer), activation=torch.relu)
        tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        total += len(save(tensors))
        values += sum(tensor.nbytes for tensor in tensors.values())
    return total, total - values


def variants(
    runner: VariantRunner, weights: int, bits: Sequence[float], without: Sequence[str] = ()
) -> Iterator[tuple[Variant, int]]:
    """Every variant with its bytes; the coded ones also at the bytes of the quantizers."""
    sizes, parts = set[float](), set[float]()
    for name in (name for name in QUANTIZERS if name not in without):
        for value in bits:
            if METHODS[name].method.takes_bits(value):
                variant = runner.variant(name, value / 16)
                size = stored_bytes(runner, variant)[0]
                if name == "rtn":
                    sizes.add(8 * size / weights)
                yield variant, size
    for name, keep in PRUNED:
        variant = runner.variant(name, keep)
        size = stored_bytes(runner, variant)[0]
        if (name, keep) == PRUNED[0]:
            parts |= {8 * size / weights / part for part in PARTS}
        yield variant, size
    for names, wanted in ((CODED, {*bits, *sizes, *parts}), (COMPENSATED, {*COMPENSATED_BITS, *sizes})):
        for name in (name for name in names if name not in without):
            headers = 0
            for value in sorted(wanted, reverse=True):  # a file has no more than so many bits, its header included
                variant = runner.variant(name, (value - 8 * headers / weights) / 16)
                size, headers = stored_bytes(runner, variant)
                if 8 * size > value * weights:
                    variant = runner.variant(name, (value - 8 * headers / weights) / 16)
                    size, headers = stored_bytes(runner, variant)
                yield variant, size


def second_half(text: str, folder: Path, *, data_dir: str | None) -> Path:
    """Write the last half of a task's running text, of which only the first is measured, for calibration."""
    rows = find_task(text).rows(data_dir=data_dir)
    if len(rows) == 1:
        whole = rows[0]["text"]
        path = folder / "second_half.txt"
        path.write_text(whole[len(whole) // 2 :], "utf-8")
        return path
    path = folder / "second_half.jsonl"
    path.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows[len(rows) // 2 :]), "utf-8")
    return path


def measure(model_name: str, arguments: argparse.Namespace, calibration: Path) -> pd.DataFrame:
    """One row a variant of a model."""
    checkpoint = open_checkpoint(model_name)
    data: dict[str, Any] = {"data_dir": arguments.data_dir}
    rows = []
    with Remembering(checkpoint, calibration=str(calibration), tokens=arguments.calibration_tokens, **data) as run:
        requests = calibration_requests(*run.loaded, text=arguments.text, tokens=arguments.tokens, **data)
        scored = {"tasks": arguments.tasks, "limit": arguments.limit, **data}
        with run.running(run.original) as (model, tokenizer):
            original = predicting_states(model, requests)
            scores = evaluate_model(model, tokenizer, **scored)
        weights = sum(run.stack(layer).weights.numel() for layer in run.layers)
        rows.append(_row("original", 1.0, 2 * weights, weights, scores) | {"kl": 0.0})
        begun = time.perf_counter()
        for variant, nbytes in variants(run, weights, arguments.bits, arguments.without):
            with run.running(variant) as (model, tokenizer):
                found = divergence(model, original, predicting_states(model, requests))
                scores = evaluate_model(model, tokenizer, **scored)
            rows.append(_row(variant.method, variant.mean_keep, nbytes, weights, scores) | asdict(found))
            bits, seconds = 8 * nbytes / weights, time.perf_counter() - begun
            print(
                f"{Path(model_name).name} {variant.method} {bits:.3f} bits: KL {found.kl:.5f} ({seconds:.0f} s)",
                flush=True,
            )
            begun = time.perf_counter()
    return pd.DataFrame(rows)


def _row(method: str, keep: float, nbytes: int, weights: int, scores: Sequence[Any]) -> dict[str, Any]:
    row = {"method": method, "keep": keep, "bits": 8 * nbytes / weights, "file_bytes": nbytes}
    main = {score.task: score for score in reversed(scores)}
    for task, score in sorted(main.items()):
        row |= {task: score.value, f"{task} stderr": score.stderr}
    return row


def markdown(table: pd.DataFrame, tasks: Sequence[str]) -> str:
    """The table of one model, methods in the order of their bytes."""
    lines = [
        f"| method | bits a weight | bytes of files | KL | {' | '.join(tasks)} |",
        f"|---|---|---|---|{'---|' * len(tasks)}",
    ]
    for row in table.to_dict("records"):
        kl = f"{row['kl']:.5f}" + ("" if pd.isna(row.get("kl_stderr")) else f" ± {row['kl_stderr']:.5f}")
        scores = [f"{row[task]:.4g} ± {row[f'{task} stderr']:.2g}" for task in tasks]
        cells = [row["method"], f"{row['bits']:.2f}", f"{row['file_bytes']:,}", kl, *scores]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(table: pd.DataFrame) -> str:
    """At each quantizer's bytes, its KL over that of the best coded form of no more bytes; and at equal loss, bytes."""
    coded, rivals, lines = table[table.method.isin(CODED)], table[table.method.isin(RIVALS)], []
    for row in table[table.method.isin(QUANTIZERS)].sort_values("bits", ascending=False).to_dict("records"):
        best = coded[coded.file_bytes <= row["file_bytes"]].sort_values("kl").iloc[0]
        lines.append(f"{_named(row)}; {_named(best)}: ratio {row['kl'] / best.kl:.1f}")
    for row in coded.sort_values("bits", ascending=False).to_dict("records"):
        fitting = rivals[rivals.file_bytes >= row["file_bytes"]]
        if len(fitting):  # the closest size that they have
            near = fitting[fitting.file_bytes <= 1.002 * fitting.file_bytes.min()]
            best = near.sort_values("kl").iloc[0]
            ratio = best.kl / row["kl"]
            lines.append(f"{_named(row)}; best of the next larger size: {_named(best)}: ratio {ratio:.1f}")
    for row in table[table.method.isin([*QUANTIZERS, *(name for name, _ in PRUNED)])].to_dict("records"):
        fitting = coded[coded.kl <= row["kl"]]
        if len(fitting):
            best = fitting.sort_values("file_bytes").iloc[0]
            share = best.file_bytes / row["file_bytes"]
            lines.append(f"the loss of {_named(row)}: {_named(best)}: {share:.3f} of its bytes")
    return "\n".join(lines)


def _named(row: Any) -> str:
    return f"{row['method']} {row['bits']:.2f} bits, KL {row['kl']:.5f}"


def main() -> None:
    """Measure models one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--bits", type=float, nargs="+", default=BITS)
    parser.add_argument("--text", default="storyworld_perplexity", help="on which predictions are compared")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--tasks", nargs="+", default=["storyworld_perplexity", "storyworld_action"])
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--calibration-tokens", type=int, default=4096)
    parser.add_argument("--without", nargs="+", default=[], help="methods to leave out")
    parser.add_argument("--data-dir", default=None)
    arguments = parser.parse_args()
    for place in arguments.models:
        name, load = Path(place).name, os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            table = measure(place, arguments, second_half(arguments.text, Path(folder), data_dir=arguments.data_dir))
        settings = vars(arguments) | {"models": [name], "threads": torch.get_num_threads(), "load": load}
        RESULTS.mkdir(exist_ok=True)
        facts = {"model": name, "settings": settings, "machine": machine(), "versions": versions()}
        rows = json.loads(table.to_json(orient="records"))
        (RESULTS / f"bits-{name}.json").write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
        print(f"\n### {name}\n\n{markdown(table, arguments.tasks)}\n\n{ratios(table)}\n", flush=True)
        print(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
