"""Figure of a checkpoint's map, to save."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..model_map import PART_COLORS
from ..theme import drawing, new_figure


def map_figure(forms: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the bytes of a checkpoint by layer and part, the forms side by side.

    Parameters
    ----------
    forms
        Name -> columns ``row, part, bytes``, in the order in which rows are drawn.
    """
    rows = list(dict.fromkeys(next(iter(forms.values()))["row"]))
    with drawing():
        figure = new_figure(4.8 * len(forms), max(2.2, min(9.0, 0.22 * len(rows) + 1.2)))
        axes = figure.subplots(1, len(forms), squeeze=False, sharex=True, sharey=True)[0]
        for axis, (name, table) in zip(axes, forms.items(), strict=True):
            sums = table.pivot_table(index="row", columns="part", values="bytes", aggfunc="sum", fill_value=0)
            sums = sums.reindex(index=rows, columns=list(PART_COLORS), fill_value=0) / 2**20
            left = np.zeros(len(rows))
            for part, color in PART_COLORS.items():
                if sums[part].any():
                    axis.barh(rows, sums[part], left=left, color=color, label=part, height=0.8)
                left += sums[part].to_numpy()
            axis.set(xlabel="MiB", title=name)
        axes[0].invert_yaxis()
        axes[-1].legend(frameon=False, fontsize=7, loc="lower right")
    return figure
