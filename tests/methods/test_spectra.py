"""Spectra without singular vectors, against the whole decomposition."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from resmoe_lab.methods import _spectra
from resmoe_lab.methods._spectra import squared_spectrum


@pytest.mark.parametrize("shape", [(1, 7), (9, 9), (40, 25), (25, 40), (150, 70)])
@pytest.mark.parametrize(("exact", "tolerance"), [(1024, 1e-12), (0, 1e-5)])
def test_they_are_the_squared_singular_values(
    shape: tuple[int, int], exact: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_spectra, "_EXACT_SIDE", exact)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before = matrix.clone()
    wanted = torch.linalg.svdvals(matrix.double()).square().flip(0)
    spectrum = squared_spectrum(matrix)
    assert spectrum.dtype == torch.float64
    torch.testing.assert_close(spectrum, wanted, rtol=0, atol=tolerance * float(wanted[-1]))
    assert torch.equal(matrix, before)


def test_a_matrix_of_low_rank_has_no_negative_squares() -> None:
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(30, 2, generator=generator) @ torch.randn(2, 20, generator=generator)
    spectrum = squared_spectrum(matrix)
    assert (spectrum >= 0).all()
    assert float(spectrum[:-2].sum()) < 1e-10 * float(spectrum.sum())


def test_two_threads_get_each_its_own() -> None:
    matrices = [torch.randn(60, 50, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    with ThreadPoolExecutor(2) as pool:
        spectra = list(pool.map(squared_spectrum, matrices))
    for own, matrix in zip(spectra, matrices, strict=True):
        assert torch.equal(own, squared_spectrum(matrix))


def test_a_library_that_takes_other_integers_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _spectra._routine("dsterf", integers=2, others=2) is not None
    assert _spectra._routine("dsterf", integers=1, others=3) is None
    assert _spectra._routine("no_such_routine", integers=1, others=3) is None
    monkeypatch.setattr(_spectra, "_routines", lambda kind: None)
    matrix = torch.randn(9, 30, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.svdvals(matrix.double()).square().flip(0)
    torch.testing.assert_close(squared_spectrum(matrix), expected)
