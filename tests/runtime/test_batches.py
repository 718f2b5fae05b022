"""Batches hold every selection once, and little else."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from resmoe_lab.runtime.batches import batches, spans


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(1, 16))
def test_spans_hold_all_tokens_and_are_not_filled_up_much(counts: list[int], most: int) -> None:
    slices = list(spans(counts, most))
    places = [place for span in slices for place in range(span.start, span.stop)]
    assert places == sorted(set(places))
    assert sum(counts[place] for place in places) == sum(counts)
    for span in slices:
        batch_counts = counts[span]
        assert len(batch_counts) <= most
        assert len(batch_counts) == 1 or len(batch_counts) * max(batch_counts) <= 1.75 * sum(batch_counts)


@given(st.integers(0, 30), st.integers(1, 6), st.integers(1, 8), st.randoms(use_true_random=False))
def test_weights_arrive_where_they_were_sent(tokens: int, experts: int, most: int, random) -> None:
    """Each (token, expert) gets the sum of its weights, whatever fills up the batches; the last index is nobody."""
    index = torch.tensor(
        [[random.randrange(experts + 1) for _ in range(2)] for _ in range(tokens)], dtype=torch.int64
    ).view(tokens, 2)
    weights = torch.rand(tokens, 2, dtype=torch.float64)
    expected = torch.zeros(tokens, experts + 1, dtype=torch.float64).scatter_add_(1, index, weights)[:, :experts]
    totals = torch.zeros(tokens, experts, dtype=torch.float64)
    for batch in batches(index, weights, num_experts=experts, max_experts=most):
        assert batch.tokens.shape == batch.weights.shape[:2]
        for row, expert in enumerate(range(batch.experts.start, batch.experts.stop)):
            total = torch.zeros(tokens, 1, dtype=torch.float64)
            type(batch)(batch.experts, batch.tokens[row : row + 1], batch.weights).scatter_add(
                batch.weights[row : row + 1], total
            )
            totals[:, expert] += total[:, 0]
    torch.testing.assert_close(totals, expected)
