"""A sweep with plausible numbers and hostile names, made without any model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from resmoe_lab.experiments.sweep import TABLES, Sweep
from resmoe_lab.experiments.sweep_pictures import FormPicture, MapPicture, SweepPictures, TokenPicture

KEEPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
SCORED_KEEPS = (0.1, 0.25, 0.5, 0.75)
METHODS = {"up": 1.0, "svd": 1.9, "resmoe-up": 0.62, "resmoe-svd": 1.15}
#: Methods that go by bits: those that have curves, those that are scored, and what is stored beside each weight's bits.
BITS = {"rtn": ((2, 3, 4, 8), (2, 3), 0.5), "resmoe-coded": ((1, 1.5, 2, 3, 4, 8), (1, 2, 3), 0.0)}
#: A text that tries to be markup.
PIECES = ["One", " day", " <b>the", "</script>", " river", "\n", " froze", " &amp;", " over", "."]
TASKS = {
    "storyworld_perplexity": ("perplexity", 3.1, 90.0),
    "wikitext2": ("word_perplexity", 61.0, 4000.0),
    "storyworld_lastword": ("acc", 0.91, 0.04),
    "storyworld_activity": ("acc", 0.96, 0.52),
    "<b>storyworld</b> & co": ("acc", 0.95, 0.51),
}


def make_sweep(*, layers: int = 4, experts: int = 8, width: int = 96, tasks: bool = True, seed: int = 0) -> Sweep:
    """A sweep like `mixtral-tiny`'s, smaller."""
    rng = np.random.default_rng(seed)
    scores = _scores(rng) if tasks else pd.DataFrame(columns=list(TABLES["scores"]))
    return Sweep(
        facts=_facts(layers, experts, width),
        errors=_errors(range(layers)),
        scores=scores,
        sizes=_sizes(),
        centers=_centers(range(layers), rng),
        routing=_routing(range(layers), experts, rng),
        speed=_speed(),
        similarity={layer: _similarity(experts, rng) for layer in range(layers)},
        permutations={layer: _permutations(experts, width, rng, share=0.1 + 0.1 * layer) for layer in range(layers)},
        routing_shift=_routing_shift(range(layers)),
        predictions=_predictions(),
        pictures=_pictures(range(layers), experts),
    )


def _center(method: str) -> str:
    return "wasserstein" if method.startswith("resmoe") else "none"


def _error(scale: float, keep: float) -> float:
    return min(0.98, 0.55 * scale * (1 - keep) ** 1.7)


def _errors(layers: range) -> pd.DataFrame:
    rows = []
    for layer in layers:
        for method, scale in METHODS.items():
            for keep in KEEPS:
                relative = _error(scale, keep) * (1 + 0.08 * layer)
                rows.append((layer, method, _center(method), keep, 40.0 * relative, relative))
    return pd.DataFrame(rows, columns=list(TABLES["errors"]))


def _scores(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for task, (metric, best, worst) in TASKS.items():
        ends = [("original", "none", 1.0, best), ("center-only", "wasserstein", 0.0, worst)]
        for method, center, keep, value in ends:
            rows.append((method, center, keep, task, metric, value, 0.01 * abs(best), 500))
        for method, scale in METHODS.items():
            for keep in SCORED_KEEPS:
                loss = _error(scale, keep)
                value = best * (worst / best) ** min(1, loss) if best > 1 else best + (worst - best) * min(1, loss)
                value += 0.004 * best * rng.normal()
                rows.append((method, _center(method), keep, task, metric, value, 0.012 * abs(best), 500))
    return pd.DataFrame(rows, columns=list(TABLES["scores"]))


def _sizes() -> pd.DataFrame:
    original, model = 49_545_216, 53_000_000
    rows = []
    for method in METHODS:
        for keep in KEEPS:
            paper = round(original * keep)
            center = original // 8 if method.startswith("resmoe") else 0
            true = paper + center if "svd" in method else min(round(paper + original / 15), original) + center
            kind = "lowrank-joint" if "svd" in method else "bitmask"
            rows.append((method, _center(method), keep, kind, paper, true, original, model - original + true, model))
    return pd.DataFrame(rows, columns=list(TABLES["sizes"]))


def _speed() -> pd.DataFrame:
    rows = [
        ("original", 60_000_000, 61_000_000, 90_000_000, 0.21, 0.0461, 2777.0, 41.3),
        ("restored", 41_000_000, 42_000_000, 75_000_000, 0.33, 0.0723, 1770.0, 30.2),
        ("factored", 41_000_000, 42_000_000, 71_000_000, 0.32, 0.0314, 4076.0, 47.9),
    ]
    return pd.DataFrame(rows, columns=list(TABLES["speed"]))


def _centers(layers: range, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for layer in layers:
        bound = 30 + rng.random()
        for center, gap in (("wasserstein", 0.01), ("average", 0.3)):
            gap *= 1 + rng.random()
            objective = bound * (1 + gap)
            rows.append((layer, center, "lapx", objective, objective / 80, bound, gap, 5, 1.5 + rng.random()))
    return pd.DataFrame(rows, columns=list(TABLES["centers"]))


def _routing(layers: range, experts: int, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for layer in layers:
        share = rng.dirichlet(np.full(experts, 8.0))
        rows += [(layer, expert, float(share[expert])) for expert in range(experts)]
    return pd.DataFrame(rows, columns=list(TABLES["routing"]))


def _variants() -> list[tuple[str, str, float]]:
    scored = [(method, _center(method), keep) for method in METHODS for keep in SCORED_KEEPS]
    return [("center-only", "wasserstein", 0.0), *scored]


def _routing_shift(layers: range) -> pd.DataFrame:
    rows = []
    for method, center, keep in _variants():
        moved = 0.4 * _error(METHODS.get(method, 0.9), keep)
        rows += [(method, center, keep, layer, len(PIECES), moved, moved / 2, moved / 9) for layer in layers]
    return pd.DataFrame(rows, columns=list(TABLES["routing_shift"]))


def _predictions() -> pd.DataFrame:
    rows = []
    for method, center, keep in _variants():
        kl = 3 * _error(METHODS.get(method, 0.9), keep)
        rows.append((method, center, keep, len(PIECES), kl, 1 - kl / 4, 4 * kl))
    return pd.DataFrame(rows, columns=list(TABLES["predictions"]))


def _pictures(layers: range, experts: int) -> SweepPictures:
    forms = [
        FormPicture(method=method, center=_center(method), keep=0.25, tokens=_token_picture(layers, experts, scale))
        for method, scale in (("resmoe-up", 0.5), ("up", 1.0))
    ]
    return SweepPictures(
        task="<b>storyworld</b> & co", map=_map(layers, experts), method="resmoe-up", keep=0.25, forms=forms
    )


def _token_picture(layers: range, experts: int, scale: float) -> TokenPicture:
    count = len(PIECES)
    top = [[[word, 0.5 / 2**place] for place, word in enumerate(PIECES[:5])] for _ in PIECES]
    routed = [
        [[[token % experts, 1], [(token + layer % 2) % experts, 1]] for token in range(count)] for layer in layers
    ]
    return TokenPicture.model_validate(
        {
            "label": "other",
            "pieces": PIECES,
            "predicting": list(range(count)),
            "kl": [scale * token / count for token in range(count)],
            "top": [top, top],
            "next": [[0.25] * (count - 1) + [None]] * 2,
            "distance": [[0.1 * (layer + 1)] * count for layer in range(len(layers) + 1)],
            "layers": list(layers),
            "count": experts,
            "experts": routed,
        }
    )


def _map(layers: range, experts: int) -> MapPicture:
    def form(name: str, size: int) -> dict:
        cells = [
            {"part": "experts", "expert": k, "shape": "96x192", "stored": "bf16", "weights": 1000, "bytes": size}
            for k in range(experts)
        ]
        rows = [{"name": str(layer), "layer": layer, "bytes": size * experts, "cells": cells} for layer in layers]
        return {"name": name, "bytes": size * experts * len(layers), "rows": rows}

    errors = {str(layer): 0.1 + 0.02 * layer for layer in layers}
    forms = [form("as stored", 2000), form("resmoe-up", 700)]
    return MapPicture.model_validate({"name": "<b>mixtral</b>-tiny", "forms": forms, "errors": errors})


def _similarity(experts: int, rng: np.random.Generator) -> np.ndarray:
    points = rng.normal(size=(experts, 40)) * 0.5 + rng.normal(size=40)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points @ points.T


def _permutations(experts: int, width: int, rng: np.random.Generator, *, share: float) -> np.ndarray:
    result = np.tile(np.arange(width), (experts, 1))
    for expert in range(experts):
        moved = rng.choice(width, size=round(min(1, share) * width * expert / experts), replace=False)
        result[expert, moved] = rng.permutation(moved)
    return result


def _facts(layers: int, experts: int, width: int) -> dict:
    return {
        "settings": {"layers": list(range(layers)), "methods": list(METHODS), "keeps": list(SCORED_KEEPS), "seed": 0},
        "model": "<b>mixtral</b>-tiny",
        "family": "mixtral",
        "moe_layers": list(range(layers)),
        "shape": {"num_experts": experts, "hidden_size": 192, "intermediate_size": width, "top_k": 2},
        "width": 3 * 192,
        "parameters": 26_500_000,
        "chance": {"storyworld_activity": 0.5, "<b>storyworld</b> & co": 0.5, "storyworld_perplexity": None},
        "versions": {"python": "3.11.2", "resmoe-lab": "0.1.0", "torch": "2.13.0"},
        "machine": "x86_64 Linux, 2 cores",
        "date": "2026-11-22T02:30:00+00:00",
    }


def make_bits_sweep(*, by_keep: bool = True, layers: int = 2) -> Sweep:
    """The same with methods that go by bits, or with nothing but those."""
    sweep = make_sweep(layers=layers, experts=3, width=12)
    errors, scores, sizes = [], [], []
    whole, model = (int(sweep.sizes[name].iloc[0]) for name in ("original_bytes", "original_model_bytes"))
    for method, (curve, scored, beside) in BITS.items():
        for bits in curve:
            keep, relative = bits / 16, _bits_error(method, bits)
            center, true = _center(method), round(whole * (bits + beside) / 16)
            errors += [(layer, method, center, keep, 40 * relative, relative) for layer in range(layers)]
            kind, paper = "coded" if method == "resmoe-coded" else "grouped", round(0.9 * whole * keep)
            sizes.append((method, center, keep, kind, paper, true, whole, model - whole + true, model))
            if bits in scored:
                for task, (metric, best, worst) in TASKS.items():
                    value = best + (worst - best) * relative
                    scores.append((method, center, keep, task, metric, value, 0.01 * abs(best), 500))
    tables = {"errors": errors, "scores": scores, "sizes": sizes}
    frames = {name: pd.DataFrame(rows, columns=list(TABLES[name])) for name, rows in tables.items()}
    for name, frame in frames.items():
        old = getattr(sweep, name)
        old = old if by_keep else old[old["method"].isin(["original", "center-only"])] if name == "scores" else old[:0]
        frames[name] = pd.concat([old, frame], ignore_index=True)
    return replace(sweep, **frames)


def _bits_error(method: str, bits: float) -> float:
    return (0.9 if method == "rtn" else 0.3) * 4.0**-bits
