"""The base class of views: charts for reports, and tables to save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pandas as pd


class View(ABC):
    """A computed record, which panels draw and reports show.

    A panel draws its pictures from the same record that :meth:`charts` makes the report's charts of, so that the two
    cannot disagree.
    """

    @abstractmethod
    def charts(self) -> Mapping[str, Any]:
        """Return Altair charts by name, interactive without a kernel."""

    @abstractmethod
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return tidy tables by name."""
