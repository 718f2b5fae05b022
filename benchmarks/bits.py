"""Loss at equal true bytes: what each way to shrink experts costs, at bytes of files, in one run.

    python benchmarks/bits.py mixtral-tiny deepseek-tiny switch-tiny
    python benchmarks/bits.py smol-moe --text wikitext2 --tasks wikitext2 --limit 8

Bytes are those of safetensors files with headers. KL is that of the original to the compressed model, in
nats a token; its standard error is over windows of text. Quantizers round at 4, 3 and 2 bits, and coded forms get
the bytes of each, and 4, 3, 2, 1.5 and 1 bits. Results are written to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
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
from resmoe_lab.methods import METHODS
from resmoe_lab.runtime.packing import pack
from resmoe_lab.scoring.calibration import calibration_requests
from resmoe_lab.scoring.zeroshot import evaluate_model

#: Bits at which everything that goes by them is measured, where it can.
BITS = (4.0, 3.0, 2.0, 1.5, 1.0)
QUANTIZERS = ("rtn", "hqq", "gptq", "mxfp4")
CODED = ("coded", "resmoe-coded")
#: What is stored of them without this benchmark's subject: (method, keep).
PRUNED = (("resmoe-up", 0.25), ("resmoe-up", 0.1))
RESULTS = Path(__file__).parent / "results"


def stored_bytes(runner: VariantRunner, variant: Variant) -> int:
    """Bytes of the files that the variant's layers are stored in."""
    total = 0
    for layer in runner.layers:
        module = pack(runner.compressed(variant, layer), activation=torch.relu)
        total += len(save({name: tensor.contiguous() for name, tensor in module.state_dict().items()}))
    return total


def variants(runner: VariantRunner, weights: int, bits: Sequence[float]) -> Iterator[tuple[Variant, int]]:
    """Every variant with its bytes; the coded ones also at the bytes of the quantizers."""
    sizes = set()
    for name in QUANTIZERS:
        for value in bits:
            if METHODS[name].method.takes_bits(value):
                variant = runner.variant(name, value / 16)
                size = stored_bytes(runner, variant)
                if name == "rtn":
                    sizes.add(8 * size / weights)
                yield variant, size
    for name, keep in PRUNED:
        variant = runner.variant(name, keep)
        yield variant, stored_bytes(runner, variant)
    for name in CODED:
        for value in sorted({*bits, *sizes}, reverse=True):
            variant = runner.variant(name, value / 16)
            yield variant, stored_bytes(runner, variant)


def measure(model_name: str, arguments: argparse.Namespace) -> pd.DataFrame:
    """One row a variant of a model."""
    checkpoint = open_checkpoint(model_name)
    data: dict[str, Any] = {"data_dir": arguments.data_dir}
    rows = []
    with VariantRunner(
        checkpoint, calibration=arguments.calibration, tokens=arguments.calibration_tokens, **data
    ) as run:
        requests = calibration_requests(*run.loaded, text=arguments.text, tokens=arguments.tokens, **data)
        scored = {"tasks": arguments.tasks, "limit": arguments.limit, **data}
        with run.running(run.original) as (model, tokenizer):
            original = predicting_states(model, requests)
            scores = evaluate_model(model, tokenizer, **scored)
        weights = sum(run.stack(layer).weights.numel() for layer in run.layers)
        rows.append(_row("original", 1.0, 2 * weights, weights, scores) | {"kl": 0.0})
        for variant, nbytes in variants(run, weights, arguments.bits):
            with run.running(variant) as (model, tokenizer):
                found = divergence(model, original, predicting_states(model, requests))
                scores = evaluate_model(model, tokenizer, **scored)
            rows.append(_row(variant.method, variant.mean_keep, nbytes, weights, scores) | asdict(found))
            print(f"{model_name} {variant.method} {8 * nbytes / weights:.3f} bits: KL {found.kl:.5f}", flush=True)
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
    """At each quantizer's bytes: its KL over that of the best coded form of no more bytes."""
    coded = table[table.method.isin(CODED)]
    lines = []
    for row in table[table.method.isin(QUANTIZERS)].to_dict("records"):
        fitting = coded[coded.file_bytes <= 1.003 * row["file_bytes"]]
        if len(fitting):
            best = fitting.loc[fitting.kl.idxmin()]
            lines.append(
                f"{row['method']} at {row['bits']:.2f} bits: KL {row['kl']:.5f}; {best.method} at {best.bits:.2f}: "
                f"{best.kl:.5f}; ratio {row['kl'] / best.kl:.1f}"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure models one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--bits", type=float, nargs="+", default=BITS)
    parser.add_argument("--text", default="storyworld_perplexity", help="on which predictions are compared")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--tasks", nargs="+", default=["storyworld_perplexity", "storyworld_action"])
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--calibration", default="wikitext2", help="running text that gptq sees")
    parser.add_argument("--calibration-tokens", type=int, default=4096)
    parser.add_argument("--data-dir", default=None)
    arguments = parser.parse_args()
    for name in arguments.models:
        table = measure(name, arguments)
        RESULTS.mkdir(exist_ok=True)
        facts = {"model": name, "settings": vars(arguments), "machine": machine(), "versions": versions()}
        rows = json.loads(table.to_json(orient="records"))
        (RESULTS / f"bits-{name}.json").write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
        print(f"\n### {name}\n\n{markdown(table, arguments.tasks)}\n\n{ratios(table)}\n", flush=True)


if __name__ == "__main__":
    main()
