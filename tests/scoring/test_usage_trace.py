"""Routing traces in files: what they tell equals a count token by token, and those of other models are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.centers import find_center
from resmoe_lab.centers._statistics import Statistics
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experts import family_of, load_stack
from resmoe_lab.methods import compress_layer
from resmoe_lab.runtime import load, load_tokenizer
from resmoe_lab.scoring.calibration import calibrate, calibration_requests
from resmoe_lab.scoring.traces import trace_tokens
from resmoe_lab.scoring.usage_trace import read_usage

from ..fuzzing import damaged, reads_or_refuses


def make_trace(*, tokens: int = 50, layers: int = 4, experts: int = 8, k: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.random((tokens, layers, experts)) + np.linspace(0, 1, experts)
    return weights.argsort(axis=2)[:, :, -k:].astype(np.int16)


def as_rows(experts: np.ndarray, numbers: list[int]) -> pd.DataFrame:
    token, layer, _ = (place.ravel() for place in np.indices(experts.shape))
    return pd.DataFrame({"token": token, "layer": np.array(numbers)[layer], "expert": experts.ravel()})


def test_shares_are_a_count_in_both_formats(tiny: Checkpoint, tmp_path: Path) -> None:
    experts = make_trace()
    experts[3, 1, 0] = -1
    np.savez(tmp_path / "trace.npz", experts=experts, other=np.zeros(3))
    np.savez_compressed(tmp_path / "packed.npz", anything=experts.astype(np.int64))
    as_rows(experts, [0, 1, 2, 3]).to_parquet(tmp_path / "trace.parquet")
    for name in ("trace.npz", "packed.npz", "trace.parquet"):
        trace = read_usage(tmp_path / name, tiny)
        assert trace.tokens == 50
        assert trace.source.startswith(f"routing trace {name} (")
        for layer in range(4):
            counts = Counter(int(expert) for token in experts for expert in token[layer] if expert >= 0)
            expected = [counts[expert] / sum(counts.values()) for expert in range(8)]
            assert trace.usage[layer].tolist() == pytest.approx(expected)
            assert trace.usage[layer].dtype == torch.float64


def test_a_trace_of_a_run_tells_what_calibration_tells(tiny: Checkpoint, tmp_path: Path) -> None:
    """The experts that a running model takes, written as a trace, against the calibration's own counts."""
    model, tokenizer, family = load("mixtral-tiny"), load_tokenizer("mixtral-tiny"), family_of(tiny)
    requests = calibration_requests(model, tokenizer, tokens=200)
    measured = calibrate(model, family, requests, layers=[0, 1, 2, 3])
    parts = [trace_tokens(model, family, request, layers=[0, 1, 2, 3]).routing for request in requests]
    experts = torch.cat([torch.stack([part[layer].experts for layer in range(4)], dim=1) for part in parts])
    np.savez(tmp_path / "trace.npz", experts.numpy())
    trace = read_usage(tmp_path / "trace.npz", tiny)
    for layer in range(4):
        assert trace.usage[layer].tolist() == pytest.approx(measured[layer].usage.tolist())
    both = trace.statistics([0], {0: measured[0]})[0]
    assert both.source == f"storyworld_perplexity, usage of {trace.source}"
    same = [field.name for field in fields(Statistics) if field.name not in ("usage", "source")]
    assert all(getattr(both, name) is getattr(measured[0], name) for name in same)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layers": 3}, "found 3 layers, expected 4 layers with experts"),
        ({"k": 3}, "found 3 experts a token, expected 2"),
        ({"experts": 9}, "found expert 8, expected numbers from 0 to 7"),
    ],
)
def test_traces_of_other_models_are_refused_by_name(
    tiny: Checkpoint, tmp_path: Path, change: dict[str, int], told: str
) -> None:
    np.savez(tmp_path / "theirs.npz", make_trace(**change))
    with pytest.raises(DataError, match=f"theirs.npz is of another model than mixtral-tiny: {told}") as caught:
        read_usage(tmp_path / "theirs.npz", tiny)
    assert len(str(caught.value).splitlines()) == 1


def test_rows_of_other_models_are_refused_by_name(tiny: Checkpoint, tmp_path: Path) -> None:
    rows = as_rows(make_trace(), [0, 1, 2, 3])
    wrong = {
        "found layer 4, expected layers with experts": rows.assign(layer=rows["layer"] + 1),
        "found expert 12, expected numbers from 0 to 7": rows.assign(expert=rows["expert"] + 5),
        "expected the same number in each, 2 a token": rows[1:],
        "found expert -2": rows.assign(expert=-2),
    }
    for told, table in wrong.items():
        table.to_parquet(tmp_path / "theirs.parquet")
        with pytest.raises(DataError, match=f"theirs.parquet is of another model than mixtral-tiny: .*{told}"):
            read_usage(tmp_path / "theirs.parquet", tiny)


def test_what_is_no_trace_is_one_line(tiny: Checkpoint, tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", np.zeros((3, 4), dtype=int))
    np.savez(tmp_path / "floats.npz", np.zeros((3, 4, 2)))
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez(tmp_path / "empty.npz", np.full((3, 4, 2), -1))
    pd.DataFrame({"layer": [0], "token": [1]}).to_parquet(tmp_path / "other.parquet")
    pd.DataFrame({"layer": [0.5], "expert": [1]}).to_parquet(tmp_path / "half.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    cases = {
        "flat.npz": r"expected whole numbers \(tokens, layers, k\)",
        "floats.npz": r"float64 of shape \(3, 4, 2\)",
        "two.npz": "expected one called 'experts'",
        "empty.npz": "has no token in layer 0",
        "other.parquet": r"has columns \['layer', 'token'\], expected whole numbers in \['layer', 'expert'\]",
        "half.parquet": "expected whole numbers",
        "text.parquet": "is damaged",
        "gone.npz": "cannot be read",
    }
    for name, told in cases.items():
        with pytest.raises(DataError, match=told):
            read_usage(tmp_path / name, tiny)
    with pytest.raises(UsageError, match=r"expected a file in .npz or .parquet"):
        read_usage(tmp_path / "trace.csv", tiny)


def test_layers_are_those_with_experts(tmp_path: Path) -> None:
    """The first layer of DeepSeek has none: the trace's first row is of the second layer."""
    checkpoint = open_checkpoint("deepseek-tiny")
    family = family_of(checkpoint)
    numbers, shape = family.layers(checkpoint), family.shape(checkpoint.config)
    assert numbers[0] == 1
    experts = make_trace(layers=len(numbers), experts=shape.num_experts, k=shape.top_k)
    np.savez(tmp_path / "trace.npz", experts)
    as_rows(experts, numbers).to_parquet(tmp_path / "trace.parquet")
    one, other = (read_usage(tmp_path / f"trace.{kind}", checkpoint) for kind in ("npz", "parquet"))
    assert list(one.usage) == numbers
    assert all(torch.equal(one.usage[layer], other.usage[layer]) for layer in numbers)


def test_a_center_is_weighted_by_it_and_what_needs_text_says_so(tiny: Checkpoint, tmp_path: Path) -> None:
    np.savez(tmp_path / "trace.npz", make_trace())
    statistics = read_usage(tmp_path / "trace.npz", tiny).statistics([1])[1]
    stack = load_stack(tiny, layer=1)
    center = find_center(stack, center="wasserstein-usage", statistics=statistics)
    mean = sum(
        float(share) * stack.weights[k][center.permutations[k]] for k, share in enumerate(statistics.usage.tolist())
    )
    assert torch.allclose(center.matrix, torch.as_tensor(mean).float(), atol=1e-5)
    merged = compress_layer(stack, method="meo", keep=0.5, statistics=statistics)
    assert merged.restore().shape == stack.weights.shape
    for method in ("resmoe-up-aware", "gptq"):
        options: dict[str, Any] = {"keep": 0.25, "statistics": statistics}
        options |= {"center": center} if method.startswith("resmoe") else {}
        with pytest.raises(UsageError, match=r"needs calibration|moments|text"):
            compress_layer(stack, method=method, **options)
    with pytest.raises(UsageError, match="needs calibration statistics and has none"):
        find_center(stack, center="wasserstein-fisher", statistics=statistics)


@settings(derandomize=True, max_examples=60)
@pytest.mark.parametrize("suffix", ["npz", "parquet"])
@given(data=st.data())
def test_a_damaged_trace_is_told(
    tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    experts = make_trace(tokens=5)
    if suffix == "npz":
        np.savez_compressed(path, experts)
    else:
        as_rows(experts, [0, 1, 2, 3]).to_parquet(path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    reads_or_refuses(lambda: read_usage(path, tiny), size=path.stat().st_size)
