"""How a certified gap is told: one that is not finite is a certificate that failed, not a large number."""

from __future__ import annotations

import math

#: What a center that has no lower bound says.
NO_BOUND = "no bound"
FAILED = "certificate failed"


def gap_text(gap: float | None) -> str:
    """Return a gap in percent, or that there is no bound, or that the certificate failed.

    Examples
    --------
    >>> gap_text(0.0123), gap_text(1e-9), gap_text(None), gap_text(float("inf"))
    ('1.23%', 'less than 0.01%', 'no bound', 'certificate failed')
    """
    if gap is None or math.isnan(gap):
        return NO_BOUND
    if not math.isfinite(gap):
        return FAILED
    return f"{gap:.2%}" if gap >= 5e-5 else "less than 0.01%"


def gap_facts(gap: float | None, kind: str | None) -> dict[str, float | str | None]:
    """Return what manifests and JSON say of a certificate: its gap, where it is a number, and what it is.

    Parameters
    ----------
    gap
        (objective - bound) / bound; infinite where the bound is 0 and the objective is not; None where there is none.
    kind
        ``"bound"`` or ``"estimate"``; None where there is none.

    Examples
    --------
    >>> gap_facts(0.5, "bound")
    {'certified_gap': 0.5, 'certificate': 'bound'}
    >>> gap_facts(float("inf"), "bound")
    {'certified_gap': None, 'certificate': 'failed'}
    """
    if gap is None or kind is None:
        return {"certified_gap": None, "certificate": None}
    return (
        {"certified_gap": gap, "certificate": kind}
        if math.isfinite(gap)
        else {"certified_gap": None, "certificate": "failed"}
    )
