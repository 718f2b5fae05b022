"""The front: what nothing else beats in both ways at once."""

from __future__ import annotations

import pandas as pd


def pareto_front(table: pd.DataFrame, *, cost: str, loss: str) -> pd.DataFrame:
    """Return the rows of which no other is at least as cheap and at least as good, and better in one of both.

    Parameters
    ----------
    table
        Any table with these two columns; rows with a missing value are left out.
    cost, loss
        Columns where less is better.

    Returns
    -------
    pandas.DataFrame
        The rows of the front, cheapest first.
    """
    rows = table.dropna(subset=[cost, loss]).sort_values([cost, loss], kind="stable")
    best = rows[loss].cummin().shift()
    front = rows[best.isna() | (rows[loss] < best)]
    return front.reset_index(drop=True)
