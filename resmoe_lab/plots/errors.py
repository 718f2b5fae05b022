"""The approximation error of the restored experts."""

from __future__ import annotations

from dataclasses import replace

import altair as alt
import pandas as pd

from ._curves import Across, Measure, curves_and_values, over_setting, small_axis, small_scale
from .series import add_series, goes_by_bits, mean_over_layers, order_series, round_significant
from .slider import bits_slider
from .theme import color_scale, dash_scale, series_legend, styled

_MEASURE = Measure("relative approximation error")
#: Coded and rounded weights may be a hundred times closer than pruned ones.
_SMALL_MEASURE = replace(_MEASURE, number=".2~g", small=True)
_AS_STORED = "of the experts as stored; 0 is exact, 1 is the error of all zeros"


def error_curves(errors: pd.DataFrame, *, layer: int | None = None) -> alt.HConcatChart:
    """Draw the relative error of each method against the kept fraction, or the bits where all methods go by those.

    Parameters
    ----------
    errors
        A sweep's ``errors`` table. Of methods that go by bits the kept fraction is that of 16 bits.
    layer
        The layer to draw; the mean over all by default.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> chart = error_curves(rl.error_curves(stack, methods=["up"], keeps=[0.25, 0.5]), layer=0)
    >>> chart.title.text
    'Relative approximation error, layer 0'
    """
    table = mean_over_layers(errors, layer)
    where = "mean over the layers" if layer is None else f"layer {layer}"
    measure = _SMALL_MEASURE if any(map(goes_by_bits, set(table["series"]))) else _MEASURE
    table, across, slider = over_setting(table)
    chart = curves_and_values(table, measure, slider, across=across)
    title = alt.TitleParams(f"Relative approximation error, {where}", subtitle=_AS_STORED)
    return styled(chart.properties(title=title))


def errors_by_bits(errors: pd.DataFrame, *, layer: int | None = None) -> alt.HConcatChart:
    """Draw the relative error of each method at equal bytes, with a slider of stored bits a weight.

    Parameters
    ----------
    errors
        As :func:`~resmoe_lab.errors_at_bits` returns it.
    layer
        The layer to draw; the mean over all by default.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> chart = errors_by_bits(rl.errors_at_bits(stack, methods=["rtn", "coded"], bits=[3, 5]), layer=0)
    >>> chart.title.text
    'Relative approximation error at equal bytes, layer 0'
    """
    table = add_series(errors if layer is None else errors[errors["layer"] == layer])
    table = table.groupby(["series", "bits"])["relative_error"].mean().rename("value").reset_index()
    across = Across("bits", "stored bits a weight", "~g", float(table["bits"].max()), "bits")
    where = "mean over the layers" if layer is None else f"layer {layer}"
    chart = curves_and_values(table, _SMALL_MEASURE, bits_slider(table["bits"]), across=across)
    subtitle = "each method with no more than so many bits a weight, center, indices and scales included"
    title = alt.TitleParams(f"Relative approximation error at equal bytes, {where}", subtitle=subtitle)
    return styled(chart.properties(title=title))


def errors_by_layer(errors: pd.DataFrame) -> alt.LayerChart:
    """Draw the relative error of each layer at the slider's kept fraction, or bits where all methods go by those.

    Examples
    --------
    >>> columns = ["layer", "method", "center", "keep", "relative_error"]
    >>> rows = [(0, "up", "none", 0.25, 0.3), (1, "up", "none", 0.25, 0.4)]
    >>> chart = errors_by_layer(pd.DataFrame(rows, columns=columns))
    """
    table, across, slider = over_setting(add_series(errors)[["layer", "series", "keep", "relative_error"]])
    table = round_significant(table)
    names = order_series(table["series"])
    layers = sorted(set(table["layer"]))
    ticks = alt.Axis(values=layers[:: max(1, len(layers) // 16)], format="d", grid=False)
    top = float(table["relative_error"].max())
    scale, axis = alt.Scale(domain=[0, 1.05 * top]), alt.Axis()
    if any(map(goes_by_bits, names)):
        scale = small_scale(top)
        axis = small_axis(scale)
    base = (
        alt.Chart(alt.Data(values=table.to_dict("records")))
        .transform_filter(slider.selects(across.field))
        .encode(
            x=alt.X("layer:Q", title="layer", axis=ticks, scale=alt.Scale(domain=[layers[0], layers[-1]], padding=14)),
            y=alt.Y("relative_error:Q", title=_MEASURE.title, scale=scale, axis=axis),
            color=alt.Color("series:N", scale=color_scale(names), sort=names, legend=series_legend()),
        )
    )
    lines = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("series:N", scale=dash_scale(names), legend=series_legend())
    )
    points = base.mark_circle(size=44, opacity=1).encode(
        tooltip=[
            alt.Tooltip("series:N", title="method"),
            alt.Tooltip("layer:Q"),
            alt.Tooltip("relative_error:Q", title="relative error", format=_MEASURE.number),
        ]
    )
    title = alt.TitleParams("Relative approximation error by layer", subtitle=_AS_STORED)
    chart = alt.LayerChart(layer=[lines, points]).properties(width=640, height=230, title=title)
    return styled(chart.add_params(*slider.params()))
