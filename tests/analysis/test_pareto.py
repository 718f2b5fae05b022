from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from resmoe_lab.analysis.pareto import pareto_front

_POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(points=_POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    front = pareto_front(pd.DataFrame(points, columns=["bytes", "loss"]), cost="bytes", loss="loss")
    on_front = list(front.itertuples(index=False, name=None))

    def beaten(point: tuple[int, int]) -> bool:
        return any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in points)

    assert on_front == sorted({point for point in points if not beaten(point)})


def test_rows_without_a_score_are_left_out() -> None:
    table = pd.DataFrame({"name": ["a", "b"], "bytes": [1, 2], "loss": [None, 3.0]})
    assert pareto_front(table, cost="bytes", loss="loss")["name"].tolist() == ["b"]
