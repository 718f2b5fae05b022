"""The diagnosis of layers whose answer is known."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from resmoe_lab.analysis.diagnosis import diagnose, gain_table
from resmoe_lab.analysis.equal_bytes import keep_at_equal_bytes
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import METHODS, forecast_ledger

from ..methods.calibrated import statistics

BLOCKS = (Block("w1", 0, 16), Block("w2", 16, 32))
N, NEURONS = 4, 24


def _unrelated() -> ExpertStack:
    return ExpertStack(torch.randn(N, NEURONS, 32, generator=torch.Generator().manual_seed(0)), BLOCKS, layer=2)


def _near_duplicates(*, shuffled: bool, noise: float = 0.1) -> ExpertStack:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(NEURONS, 32, generator=generator)
    copies = [base + noise * torch.randn(NEURONS, 32, generator=generator) for _ in range(N)]
    if shuffled:
        copies = [copy[torch.randperm(NEURONS, generator=generator)] for copy in copies]
    return ExpertStack(torch.stack(copies), BLOCKS, layer=2)


def test_unrelated_experts_are_told_that_no_center_helps() -> None:
    """An average of N unrelated experts explains 1/N of them, and its bytes are better spent on themselves."""
    diagnosis = diagnose(_unrelated())
    assert diagnosis.residual_gain["average"] == pytest.approx(1 / N, abs=0.03)
    assert diagnosis.advice.startswith("A center will not help here")
    assert diagnosis.equal_bytes["resmoe_up"] > diagnosis.equal_bytes["up"]
    assert diagnosis.equal_bytes["matched_keep"] == pytest.approx(0.25 + 1 / N, abs=0.01)
    assert diagnosis.similarity["as_they_stand"] == pytest.approx(0.0, abs=0.1)


def test_alignment_is_advised_for_shuffled_near_duplicates() -> None:
    diagnosis = diagnose(_near_duplicates(shuffled=True))
    assert diagnosis.advice.startswith("A center helps here")
    assert "Alignment matters" in diagnosis.advice
    assert diagnosis.residual_gain["wasserstein"] > 0.98
    assert diagnosis.residual_gain["average"] < 0.5
    assert diagnosis.permutation_distance["wasserstein"] > 0.8
    assert diagnosis.permutation_distance["average"] == 0.0
    assert diagnosis.similarity["aligned"] > 0.98 > diagnosis.similarity["as_they_stand"]


def test_near_duplicates_in_order_need_no_alignment() -> None:
    diagnosis = diagnose(_near_duplicates(shuffled=False))
    assert "stand aligned already" in diagnosis.advice
    assert diagnosis.permutation_distance["wasserstein"] == 0.0


def test_the_gain_is_the_formula_s() -> None:
    stack = _near_duplicates(shuffled=True, noise=0.5)
    diagnosis = diagnose(stack, centers=["average", "wasserstein"])
    weights = stack.weights.double().numpy()
    average = 1 - ((weights - weights.mean(0)) ** 2).sum() / (weights**2).sum()
    assert diagnosis.residual_gain["average"] == pytest.approx(average, rel=1e-6)
    assert set(diagnosis.residual_gain) == {"average", "wasserstein"}


def test_spectra_are_the_singular_values_own() -> None:
    stack = _unrelated()
    diagnosis = diagnose(stack, centers=["average"])
    spectra = np.stack([np.linalg.svd(expert, compute_uv=False) ** 2 for expert in stack.weights.double().numpy()])
    half = spectra[:, NEURONS // 2 :].sum() / spectra.sum()
    assert diagnosis.spectrum["expert"][diagnosis.spectrum["rank_share"].index(0.5)] == pytest.approx(half, rel=1e-6)
    assert diagnosis.spectrum["residual"][0] < diagnosis.spectrum["expert"][0]


def test_routing_load_counts_and_names() -> None:
    usage = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    diagnosis = diagnose(_unrelated(), centers=["average"], statistics=replace(statistics(N, NEURONS, 16), usage=usage))
    assert diagnosis.routing_load is not None
    assert diagnosis.routing_load["effective_experts"] == pytest.approx(2.0)
    assert diagnosis.routing_load["unreached"] == [2, 3]
    assert diagnosis.advice.endswith("never reaches expert 2, 3.")
    json.dumps(asdict(diagnosis), allow_nan=False)


def test_a_layer_of_zeros_has_a_diagnosis() -> None:
    stack = ExpertStack(torch.zeros(N, NEURONS, 32), BLOCKS, layer=0)
    diagnosis = diagnose(stack)
    assert set(diagnosis.residual_gain.values()) == {0.0}
    json.dumps(asdict(diagnosis), allow_nan=False)


def test_at_equal_bytes_nobody_weighs_more_than_the_reference() -> None:
    stack = _near_duplicates(shuffled=True)
    budget = forecast_ledger(METHODS["resmoe-up"](), stack.shape, keep=0.25).true_bytes
    for name in ("up", "sp", "resmoe-up", "meo"):
        keep = keep_at_equal_bytes(name, 0.25, stack.shape)
        assert forecast_ledger(METHODS[name](), stack.shape, keep=keep).true_bytes <= budget
    assert keep_at_equal_bytes("resmoe-up", 0.25, stack.shape) == pytest.approx(0.25, abs=1e-3)
    assert keep_at_equal_bytes("up", 0.25, stack.shape) == pytest.approx(0.25 + 1 / N, abs=0.01)


def test_tables_of_a_diagnosis_hold_its_figures() -> None:
    diagnoses = [diagnose(_unrelated(), centers=["average", "none"])]
    gains = gain_table(diagnoses).set_index("center")
    assert gains.gain["none"] == pytest.approx(0.0, abs=1e-9)
    assert gains.gain["average"] == diagnoses[0].residual_gain["average"]
    assert set(gains.by_chance) == {1 / N}
