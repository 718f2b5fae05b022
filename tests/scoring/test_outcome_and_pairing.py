"""Error bars against brute force and other libraries."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import matthews_corrcoef

from resmoe_lab._core.errors import UsageError
from resmoe_lab.scoring.outcome import Outcome, Score, accuracy, matthews, perplexities
from resmoe_lab.scoring.pairing import mcnemar, paired_difference


def _answers(seed: int, n: int = 200, share: float = 0.7) -> list[bool]:
    return (np.random.default_rng(seed).random(n) < share).tolist()


def test_an_accuracy_s_error_is_that_of_a_mean() -> None:
    right = _answers(0)
    score = accuracy("t", right).main
    assert score.stderr == pytest.approx(stats.sem(np.array(right, dtype=float)))
    assert (score.value, score.n) == (np.mean(right), 200)


def test_one_row_has_no_error() -> None:
    assert math.isnan(accuracy("t", [True]).main.stderr)


def test_a_perplexity_s_error_is_near_its_bootstrap() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 100, 300).astype(float)
    losses = tokens * rng.normal(3, 0.4, 300)
    outcome = perplexities("t", losses, {"perplexity": tokens})
    picks = rng.integers(0, 300, size=(4000, 300))
    samples = [math.exp(losses[pick].sum() / tokens[pick].sum()) for pick in picks]
    assert outcome.main.value == pytest.approx(math.exp(losses.sum() / tokens.sum()))
    assert outcome.main.stderr == pytest.approx(np.std(samples), rel=0.1)
    assert outcome.value_of(picks[:5]) == pytest.approx(samples[:5])


def test_an_outcome_survives_a_file() -> None:
    outcome = perplexities("t", np.array([1.0]), {"perplexity": np.array([2.0])})
    again = Outcome.from_dict(outcome.as_dict())
    assert math.isnan(again.main.stderr)
    assert again.main.value == outcome.main.value
    assert again.weights == pytest.approx(outcome.weights)


def test_a_paired_difference_is_scipy_s_paired_bootstrap() -> None:
    first, other = accuracy("t", _answers(0)), accuracy("t", _answers(1, share=0.8))
    difference = paired_difference(first, other)
    expected = stats.bootstrap(
        (first.rows, other.rows), lambda a, b, axis: b.mean(axis) - a.mean(axis), paired=True, vectorized=True,
        method="percentile", n_resamples=4000, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert difference.value == pytest.approx(other.main.value - first.main.value)
    assert difference.low == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert difference.high == pytest.approx(expected.confidence_interval.high, abs=0.02)
    assert difference.stderr == pytest.approx(expected.standard_error, rel=0.1)


def test_rows_that_go_together_make_the_difference_more_certain() -> None:
    right = _answers(0)
    same = [answer if i else not answer for i, answer in enumerate(right)]
    paired = paired_difference(accuracy("t", right), accuracy("t", same))
    assert paired.stderr < 0.2 * math.hypot(accuracy("t", right).main.stderr, accuracy("t", same).main.stderr)


def test_mcnemar_counts_only_changed_answers() -> None:
    first = accuracy("t", [True] * 10 + [False] * 90)
    other = accuracy("t", [False] * 1 + [True] * 9 + [True] * 8 + [False] * 82)
    expected = sum(math.comb(9, k) for k in range(9 + 1) if math.comb(9, k) <= math.comb(9, 8)) / 2**9
    assert mcnemar(first, other) == pytest.approx(expected)
    assert mcnemar(first, first) == 1.0
    ratio = perplexities("t", np.ones(3), {"perplexity": np.ones(3)})
    assert math.isnan(mcnemar(ratio, ratio))


def test_other_rows_cannot_be_paired() -> None:
    with pytest.raises(UsageError, match="cannot be paired, expected the same rows"):
        paired_difference(accuracy("t", [True] * 3), accuracy("t", [True] * 4))


def test_matthews_is_that_of_sklearn_in_every_row() -> None:
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 2, (4, 50)), rng.integers(0, 2, (4, 50))
    expected = [matthews_corrcoef(*pair) for pair in zip(labels, answers, strict=True)]
    assert matthews(labels, answers) == pytest.approx(expected)
    assert matthews(np.array([0, 1, 1]), np.array([1, 1, 1])) == 0


def test_a_correlation_is_compared_as_a_correlation() -> None:
    """One model answers the larger class always, one answers well and misses as many rows: accuracies are equal."""
    labels = np.repeat([0, 1], [20, 60])
    well = labels.copy()
    well[10:30] = 1 - well[10:30]
    outcomes = []
    for answers in (np.ones_like(labels), well):
        outcome = replace(accuracy("cola", (answers == labels).tolist()), labels=labels)
        score = Score("cola", "mcc", float(matthews(labels, answers)), 0.1, len(labels))
        outcomes.append(replace(outcome, scores=(score, *outcome.scores)))
    difference = paired_difference(*outcomes)
    assert difference.value == pytest.approx(matthews_corrcoef(labels, well))
    assert difference.low < difference.value < difference.high
    assert difference.low > 0.05
    assert difference.p_value == 1
    assert np.array_equal(Outcome.from_dict(outcomes[0].as_dict()).labels, labels)
