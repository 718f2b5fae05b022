import pytest
import torch

from resmoe_lab._core.errors import WeightError
from resmoe_lab._core.threads import map_with_buffers
from resmoe_lab.transport import objective, squared_distances
from resmoe_lab.transport.cost import add_products, matched_distances, nearest, row_norms

from .clouds import unrelated


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_squared_distances_agree_with_differences(dtype):
    a, b = unrelated(2, 30, 70).to(dtype)
    b = b[:20]
    expected = (a.double()[:, None] - b.double()[None]).square().sum(2)
    distances = squared_distances(a, b)
    assert distances.dtype == torch.float32
    torch.testing.assert_close(distances.double(), expected, rtol=1e-5, atol=1e-5)


def test_squared_distances_use_the_given_buffer_and_are_never_negative():
    a = 100 + unrelated(1, 40, 30)[0]
    out = torch.full((40, 40), float("nan"))
    distances = squared_distances(a, a, out=out)
    assert distances.data_ptr() == out.data_ptr()
    assert float(distances.min()) >= 0


def test_widths_must_agree():
    with pytest.raises(WeightError, match="cannot be compared"):
        squared_distances(torch.zeros(2, 3), torch.zeros(2, 4))


def test_bfloat16_products_are_summed_in_float32():
    a, b = unrelated(2, 8, 5000).bfloat16()
    before = torch.backends.mkldnn.matmul.fp32_precision
    products = add_products(torch.zeros(8, 8), a, b)
    torch.testing.assert_close(products.double(), a.double() @ b.double().T, rtol=1e-5, atol=1e-2)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_products_on_two_threads_leave_the_precision_as_it_was():
    before = torch.backends.mkldnn.matmul.fp32_precision
    a, b = unrelated(2, 64, 4000).bfloat16()
    jobs = [lambda buffer: add_products(buffer, a, b)] * 40
    map_with_buffers(jobs, [torch.zeros(64, 64), torch.zeros(64, 64)])
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_sums_of_squares_are_taken_in_float64():
    rows = torch.full((3, 10_000), 0.1)
    expected = 10_000 * float(rows[0, 0].double()) ** 2
    assert row_norms(rows).tolist() == pytest.approx([expected] * 3, rel=1e-12)


def test_nearest_and_matched_distances_name_the_same_partner():
    a, b = unrelated(2, 50, 6)
    cost = squared_distances(a, b)
    order = nearest(cost)
    assert torch.equal(order, cost.argmin(1))
    torch.testing.assert_close(matched_distances(a, b, order).float(), cost.amin(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_objective_is_the_formula(weights):
    stack, center = unrelated(3, 5, 4), unrelated(1, 5, 4, seed=3)[0]
    orders = torch.stack([torch.randperm(5) for _ in range(3)])
    shares = [1 / 3] * 3 if weights is None else [1 / 8, 2 / 8, 5 / 8]
    expected = sum(
        share * float((rows[order] - center).double().square().sum())
        for share, rows, order in zip(shares, stack, orders, strict=True)
    )
    assert objective(stack, orders, center, weights) == pytest.approx(expected, rel=1e-6)
