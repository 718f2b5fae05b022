"""The main table: a model and every method at equal keep and at equal bytes, by both protocols, with error bars.

    python benchmarks/zeroshot.py table smol-moe --limit 100        # markdown; run again, it goes on
    python benchmarks/zeroshot.py table smol-moe --limit 100 --protocols lm-eval --equal bytes
    python benchmarks/zeroshot.py divergence smol-moe               # KL, agreement, and what each method writes
    python benchmarks/zeroshot.py speed smol-moe                    # cached activations and shared prefixes, on and off

A window of WikiText is as much work as a hundred rows of the other tasks: of the limit, protocol paper gives it
one in 16, and lm-eval, whose rows there are whole articles, one in 25.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch

from resmoe_lab import moe_layers, open_checkpoint
from resmoe_lab._core.machine import machine, versions
from resmoe_lab._core.progress import TqdmProgress, silent
from resmoe_lab.experiments.comparison import score_methods
from resmoe_lab.experiments.divergence import divergence_of_methods, generate_side_by_side
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring import likelihood
from resmoe_lab.scoring.activation_cache import cached_activations
from resmoe_lab.scoring.tasks import find_task
from resmoe_lab.scoring.zeroshot import task_outcome

#: The paper's methods, in its order.
METHODS = ("up", "sp", "svd", "m-smoe", "git-rebasin", "meo", "mlp-fusion", "resmoe-up", "resmoe-svd")
TASKS = ("wikitext", "lambada", "piqa", "winogrande")
#: Windows of WikiText a limit of 100 gives.
_SHARE = {"paper": 16, "lm-eval": 25}
KEEP = 0.25


def table(name: str, *, methods: list[str], limit: int, protocol: str, equal: str) -> pd.DataFrame:
    """Main figures of every task and method."""
    checkpoint, progress = open_checkpoint(name), TqdmProgress()
    options: dict[str, Any] = {"methods": methods, "keep": KEEP, "equal": equal, "protocol": protocol}
    limits = {task: max(2, limit // _SHARE[protocol]) if task == "wikitext" else limit for task in TASKS}
    scores = score_methods(checkpoint, tasks=TASKS, limit=limits, progress=progress, **options)
    progress.close()
    return scores[scores.main]


def markdown(scores: pd.DataFrame) -> str:
    """One row a method; a value, its standard error, and in brackets what the difference to the original is."""
    tasks = list(dict.fromkeys(scores.task))
    heads = []
    for task in tasks:
        first = scores[scores.task == task].iloc[0]
        heads.append(f"{task} ({first.metric}, n = {first.n})")
    lines = [f"| method | keep | experts, MB | {' | '.join(heads)} |", "|---" * (3 + len(tasks)) + "|"]
    for method in dict.fromkeys(scores.method):
        rows = scores[scores.method == method].set_index("task")
        first = rows.iloc[0]
        cells = [_cell(rows.loc[task]) for task in tasks]
        lines.append(f"| {method} | {first.keep:.3g} | {first.true_bytes / 2**20:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: pd.Series) -> str:
    error = "" if pd.isna(row.stderr) else f" ± {row.stderr:.2g}"
    if pd.isna(row.difference):
        return f"{row.value:.4g}{error}"
    p_value = "" if pd.isna(row.p_value) else f", p {row.p_value:.2g}"
    return f"{row.value:.4g}{error} ({row.difference:+.3g}: {row.low:+.3g} to {row.high:+.3g}{p_value})"


def _facts() -> str:
    installed = versions()
    parts = [machine(), f"{torch.get_num_threads()} threads", f"torch {installed['torch']}"]
    return ", ".join([*parts, f"transformers {installed['transformers']}", f"load {os.getloadavg()[0]:.1f}"])


def print_tables(options: argparse.Namespace) -> None:
    for protocol in options.protocols:
        for equal in options.equal:
            begun = time.perf_counter()
            scores = table(options.model, methods=options.methods, limit=options.limit, protocol=protocol, equal=equal)
            print(f"\n**{options.model}, protocol {protocol}, equal {equal}, limit {options.limit}**\n")
            print(markdown(scores))
            cached = "all known before" if scores.cached.all() else f"{time.perf_counter() - begun:.0f} s"
            print(f"\n{_facts()}; {cached}", flush=True)


def print_divergence(options: argparse.Namespace) -> None:
    checkpoint, how = open_checkpoint(options.model), {"methods": options.methods, "keep": KEEP}
    divergence = divergence_of_methods(checkpoint, text="wikitext", tokens=options.tokens, **how)
    print("| method | KL, nats a token | same likeliest token |\n|---|---|---|")
    for row in divergence.itertuples():
        print(
            f"| {row.method} | {row.kl:.4f} ± {row.kl_stderr:.2g} | {row.agreement:.1%} ± {row.agreement_stderr:.1%} |"
        )
    print(f"\n{divergence.tokens.iloc[0]} tokens of wikitext, keep {KEEP}; {_facts()}\n")
    written = generate_side_by_side(checkpoint, **how)
    for prompt, rows in written.groupby("prompt", sort=False):
        print(f"\n'{prompt}' goes on:\n")
        for row in rows.itertuples():
            print(f"- {row.method} ({row.same} tokens as the original): {' '.join(row.text.split())}")


@contextmanager
def _no_shared_prefixes() -> Iterator[None]:
    before, likelihood.has_full_attention = likelihood.has_full_attention, lambda config: False
    try:
        yield
    finally:
        likelihood.has_full_attention = before


def print_speed(options: argparse.Namespace) -> None:
    """Seconds of the same scores, one after the other in one run, as ratios."""
    checkpoint = open_checkpoint(options.model)
    model, tokenizer = load_pair(checkpoint)
    first = min(moe_layers(checkpoint))
    for name in ("piqa", "winogrande", "wikitext"):
        limit = max(2, options.limit // 20) if name == "wikitext" else options.limit
        task, seconds = find_task(name), {"plain": [], "shared prefixes": [], "and cached activations": []}
        with TemporaryDirectory() as folder, cached_activations(model, first=first, folder=Path(folder)):
            task_outcome(model, tokenizer, task, limit=limit, progress=silent)  # what the first method pays
            for _ in range(options.repeat):
                for way in ("and cached activations",):
                    seconds[way].append(_seconds(model, tokenizer, task, limit, nullcontext()))
        for _ in range(options.repeat):
            seconds["plain"].append(_seconds(model, tokenizer, task, limit, _no_shared_prefixes()))
            seconds["shared prefixes"].append(_seconds(model, tokenizer, task, limit, nullcontext()))
        medians = {way: statistics.median(times) for way, times in seconds.items()}
        ratios = ", ".join(f"{way} {medians['plain'] / value:.2f} x" for way, value in medians.items())
        print(f"{name}, {limit} rows: plain {medians['plain']:.1f} s; {ratios}", flush=True)
    print(_facts())


def _seconds(model: Any, tokenizer: Any, task: Any, limit: int, way: Any) -> float:
    begun = time.perf_counter()
    with way:
        task_outcome(model, tokenizer, task, limit=limit, progress=silent)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["table", "divergence", "speed"])
    parser.add_argument("model")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--protocols", nargs="+", default=["paper", "lm-eval"])
    parser.add_argument("--equal", nargs="+", default=["keep", "bytes"])
    options = parser.parse_args()
    {"table": print_tables, "divergence": print_divergence, "speed": print_speed}[options.what](options)


if __name__ == "__main__":
    main()
