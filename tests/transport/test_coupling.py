"""Couplings against brute force, POT and closed forms."""

import itertools

import numpy as np
import ot
import pytest
import torch

from resmoe_lab._core.errors import UsageError, WeightError
from resmoe_lab.transport import couple, identity_coupling


def _costs(n: int, m: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_masses_are_matched_one_to_one_and_best() -> None:
    cost = _costs(6, 6)
    coupling = couple(cost)
    best = min(sum(cost[row, column] for column, row in enumerate(p)) for p in itertools.permutations(range(6)))
    assert coupling.cost == pytest.approx(float(best) / 6, rel=1e-6)
    assert coupling.permutation is not None
    assert float(cost[coupling.permutation, torch.arange(6)].sum()) == pytest.approx(float(best))
    moved = coupling.to_columns().T @ cost
    torch.testing.assert_close(moved, cost[coupling.permutation])


@pytest.mark.parametrize("shape", [(4, 8), (8, 4), (5, 7)])
def test_unequal_numbers_keep_their_masses(shape: tuple[int, int]) -> None:
    cost = _costs(*shape)
    coupling = couple(cost)
    assert coupling.permutation is None
    torch.testing.assert_close(coupling.plan.sum(1), torch.full(shape[:1], 1 / shape[0], dtype=torch.float64))
    torch.testing.assert_close(coupling.to_columns().sum(0), torch.ones(shape[1], dtype=torch.float64))
    torch.testing.assert_close(coupling.to_rows().sum(1), torch.ones(shape[0], dtype=torch.float64))
    assert coupling.cost == pytest.approx(ot.emd2([], [], cost.numpy()))


def test_masses_of_ones_own() -> None:
    cost, rows, columns = _costs(5, 5), torch.arange(1.0, 6), torch.tensor([3.0, 1, 1, 1, 4])
    coupling = couple(cost, rows=rows, columns=columns)
    assert coupling.permutation is None
    torch.testing.assert_close(coupling.rows, rows.double() / 15)
    torch.testing.assert_close(coupling.columns, columns.double() / 10)
    assert coupling.cost == pytest.approx(ot.emd2(coupling.rows.numpy(), coupling.columns.numpy(), cost.numpy()))


def test_sinkhorn_has_the_form_of_its_solution() -> None:
    cost = _costs(5, 6)
    coupling = couple(cost, regularization=0.1)
    # plan = diag(u) exp(-cost / regularization) diag(v): the logarithm is a sum of a row's and a column's number.
    excess = (coupling.plan.log() + cost / 0.1).numpy()
    assert np.allclose(excess - excess[:1] - excess[:, :1] + excess[0, 0], 0, atol=1e-6)
    assert coupling.cost > couple(cost).cost
    assert couple(cost, regularization=0.01).cost == pytest.approx(couple(cost).cost, rel=0.02)
    torch.testing.assert_close(coupling.to_columns().sum(0), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_identity() -> None:
    same = identity_coupling(4)
    assert torch.equal(same.plan, torch.eye(4, dtype=torch.float64) / 4)
    assert torch.equal(same.to_columns(), torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("cost", "options", "kind", "said"),
    [
        (torch.tensor([[torch.nan]]), {}, WeightError, "finite"),
        (torch.zeros(0, 3), {}, WeightError, r"shape \(0, 3\)"),
        (torch.zeros(2, 2), {"rows": torch.tensor([0.0, 1])}, WeightError, "row masses"),
        (torch.zeros(2, 2), {"columns": torch.ones(3)}, WeightError, "column masses"),
        (torch.zeros(2, 2), {"regularization": 0.0}, UsageError, "positive"),
        (_costs(30, 31), {"regularization": 1e-5}, WeightError, "Sinkhorn has not converged"),
    ],
)
def test_what_cannot_be_coupled_is_said(
    cost: torch.Tensor, options: dict[str, object], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        couple(cost, **options)
