"""Numbers as a report writes them."""

from __future__ import annotations

import pandas as pd


def number_text(value: float | None, as_percent: bool, missing: str = "not measured") -> str:
    """Return a score: three significant digits, or a percentage."""
    if value is None or pd.isna(value):
        return missing
    if as_percent:
        return percent(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value else "0"


def percent(value: float, digits: int = 1) -> str:
    """Return a share in percent."""
    return "not known" if pd.isna(value) else f"{value:.{digits}%}"
