"""The contract of a view: the charts of its report and the tables that can be taken away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pandas as pd


class View(ABC):
    """A computed result as panels draw it and reports show it.

    The living panel draws pictures from the same record that :meth:`charts` makes the report's charts of, so that the
    two cannot disagree.
    """

    @abstractmethod
    def charts(self) -> Mapping[str, Any]:
        """Altair charts by name, alive without a kernel."""

    @abstractmethod
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Tidy tables by name."""
