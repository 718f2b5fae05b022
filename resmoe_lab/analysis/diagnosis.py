"""What a center can gain in a layer, from its weights alone, before anything is compressed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from .._core.params import KEEP
from .._core.progress import Progress, silent
from ..centers import Center, Statistics, find_center
from ..experts import ExpertStack
from ..methods import METHODS, forecast_ledger
from ..methods._spectra import squared_spectrum
from ..methods._sums import first_sums
from ..methods.coded import center_saving
from .budget import match_bytes
from .similarity import expert_similarity

DEFAULT_CENTERS: tuple[str, ...] = ("wasserstein", "average", "git-rebasin", "ot-fusion")
#: Shares of the singular values at which spectra are tabulated.
RANK_SHARES: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75)
#: Least difference of gains at which the advice mentions alignment.
_NOTABLE = 0.01


@dataclass(frozen=True)
class Diagnosis:
    """What the weights of one layer, and calibration text if there is any, tell before it is compressed.

    Parameters
    ----------
    layer
        The layer's number.
    num_experts
        N. An average of N unrelated experts explains 1/N of them.
    residual_gain
        ``1 - sum_k ||W_k[T_k] - C||^2 / sum_k ||W_k||^2`` of every center.
    best_center
        The center with the largest gain.
    spectrum
        ``rank_share``, and the share of the experts' squared norm that the remaining singular values hold: of the
        experts (``expert``) and of the residuals from the best center (``residual``).
    permutation_distance
        Mean share of the neurons that the permutations onto each center move.
    similarity
        Mean cosine similarity of two different experts: ``as_they_stand``, and ``aligned`` with the best center.
    routing_load
        Smallest and largest share of the tokens, how many experts would share equally (exp of the entropy), and the
        experts that no token reaches; None without calibration text.
    equal_bytes
        At the kept fraction ``keep`` of ResMoE (UP) and the one of equal bytes of UP, the relative error of both.
    coding
        What the best center saves a coded layer, in bits a weight: ``rule``, 1/2 log2(1 / (1 - gain)) before its own
        bits; ``net``, from the curves of rates at 2 bits, its own bits paid; ``most``, what the rule says of the lower
        bound: no center whatever saves more (None: there is no bound).
    advice
        One or a few plain sentences.
    """

    layer: int
    num_experts: int
    residual_gain: dict[str, float]
    best_center: str
    spectrum: dict[str, list[float]]
    permutation_distance: dict[str, float]
    similarity: dict[str, float]
    routing_load: dict[str, Any] | None
    equal_bytes: dict[str, float]
    coding: dict[str, float | None]
    advice: str


def diagnose(
    stack: ExpertStack,
    *,
    centers: Sequence[str] = DEFAULT_CENTERS,
    keep: float = KEEP.default,
    statistics: Statistics | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Diagnosis:
    """Compute what a center would gain in one layer.

    Parameters
    ----------
    stack
        The experts of the layer.
    centers
        Names of the centers to try.
    keep
        Kept fraction at which ResMoE and plain pruning are compared, at equal bytes.
    statistics
        What calibration text tells about the layer.
    seed
        For whatever is random.
    progress
        Called with every step; raising from it cancels.

    Returns
    -------
    Diagnosis
        What was found, and advice in plain sentences.

    Raises
    ------
    UsageError
        If there is no such center, or `keep` is not in (0, 1].

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> diagnosis = rl.diagnose(stack, centers=["wasserstein", "average"])
    >>> {name: round(gain, 2) for name, gain in diagnosis.residual_gain.items()}
    {'wasserstein': 0.78, 'average': 0.13}
    """
    KEEP.validate(keep)
    scale = stack.mean_squared_norm()
    candidates = {
        name: find_center(stack, center=name, seed=seed, progress=progress, statistics=statistics)
        for name in dict.fromkeys(centers)
    }
    gains = {name: 1 - center.objective / scale if scale else 0.0 for name, center in candidates.items()}
    best = candidates[max(gains, key=lambda name: gains[name])]
    fields: dict[str, Any] = {
        "layer": stack.layer,
        "num_experts": stack.num_experts,
        "residual_gain": gains,
        "best_center": best.name,
        "spectrum": _spectrum(stack, best, scale),
        "permutation_distance": {name: permutation_distance(one.permutations) for name, one in candidates.items()},
        "similarity": {"as_they_stand": _mean_similarity(stack, None), "aligned": _mean_similarity(stack, best)},
        "routing_load": None if statistics is None else routing_load(statistics),
        "equal_bytes": _equal_bytes(stack, best, keep, scale),
        "coding": _coding(stack, best, list(candidates.values()), scale),
    }
    return Diagnosis(**fields, advice=advise(fields))


def permutation_distance(permutations: torch.Tensor) -> float:
    """Return the mean share of neurons that (N, p_I) permutations move, without the expert that is moved least."""
    moved = (permutations != torch.arange(permutations.shape[1])).double().mean(dim=1)
    others = moved.sort().values[1:]
    return float(others.mean()) if len(others) else 0.0


def routing_load(statistics: Statistics) -> dict[str, Any]:
    """Summarize how the router spreads the tokens over the experts."""
    usage = statistics.usage.cpu().numpy()
    entropy = -float((usage[usage > 0] * np.log(usage[usage > 0])).sum())
    return {
        "smallest": float(usage.min()),
        "largest": float(usage.max()),
        "effective_experts": float(np.exp(entropy)),
        "unreached": statistics.unreached,
        "source": statistics.source,
        "tokens": statistics.tokens,
    }


def advise(facts: Mapping[str, Any]) -> str:
    """Return advice in plain sentences, from the fields of a :class:`Diagnosis`."""
    best, gains, equal = facts["best_center"], facts["residual_gain"], facts["equal_bytes"]
    gain, by_chance = gains[best], 1 / facts["num_experts"]
    errors = f"{equal['resmoe_up']:.3f} against {equal['up']:.3f} of the experts' squared norm lost at equal bytes"
    if equal["resmoe_up"] < equal["up"]:
        text = f"A center helps here: {best} explains {gain:.1%} of the experts ({errors})."
        plain = gains.get("average")
        if plain is not None and gain - plain > _NOTABLE:
            text += f" Alignment matters: the plain average explains {plain:.1%}."
        elif plain is not None:
            text += " The experts stand aligned already: the plain average does as well."
    else:
        text = f"A center will not help here: {best} explains {gain:.1%} of the experts"
        if gain < 1.5 * by_chance:
            text += f", and an average of {facts['num_experts']} unrelated ones would explain {by_chance:.1%}"
        text += f"; its bytes are better spent on the experts themselves ({errors})."
    text += _coding_advice(facts["coding"])
    unreached = (facts["routing_load"] or {}).get("unreached")
    if unreached:
        text += f" The calibration text never reaches expert {', '.join(map(str, unreached))}."
    return text


def _spectrum(stack: ExpertStack, best: Center, scale: float) -> dict[str, list[float]]:
    rank = min(stack.intermediate_size, stack.width)
    tail_lengths = [rank - round(share * rank) for share in RANK_SHARES]

    def tail_shares(matrices: Iterable[torch.Tensor]) -> list[float]:
        """Mean share of the squared norm outside the first singular directions."""
        sums = [first_sums(squared_spectrum(matrix), tail_lengths) for matrix in matrices]
        return [sum(column) / len(sums) / scale if scale else 0.0 for column in zip(*sums, strict=True)]

    expert, residual = tail_shares(stack.weights), tail_shares(best.residuals(stack))
    return {"rank_share": list(RANK_SHARES), "expert": expert, "residual": residual}


def _mean_similarity(stack: ExpertStack, center: Center | None) -> float:
    similarity = expert_similarity(stack, center)
    count = len(similarity)
    return float((similarity.sum() - count) / (count * (count - 1))) if count > 1 else 1.0


def _equal_bytes(stack: ExpertStack, best: Center, keep: float, scale: float) -> dict[str, float]:
    """Compare ResMoE (UP) with UP at equal bytes."""
    residual, plain = METHODS["resmoe-up"](), METHODS["up"]()
    budget = forecast_ledger(residual, stack.shape, keep=keep, center=best.stored).true_bytes
    matched = match_bytes(plain, budget, stack.shape)
    errors = {
        "resmoe_up": residual.errors(stack, [keep], best)[0],
        "up": plain.errors(stack, [matched])[0],
    }
    relative = {name: error / scale if scale else 0.0 for name, error in errors.items()}
    return {"keep": keep, "matched_keep": matched, "bytes": budget, **relative}


def _coding(stack: ExpertStack, best: Center, candidates: Sequence[Center], scale: float) -> dict[str, float | None]:
    """What a center saves a coded layer: by the rule, by the curves, and at most."""
    bounds = [one.certificate.lower_bound for one in candidates if one.certificate is not None]

    def rule(left: float) -> float:
        return 0.5 * math.log2(scale / left) if scale and left > 0 else 0.0

    most = rule(max(bounds)) if bounds and max(bounds) > 0 else None
    return {"rule": rule(best.objective), "net": center_saving(stack, best), "most": most}


def _coding_advice(coding: Mapping[str, float | None]) -> str:
    rule, net, most = coding["rule"], coding["net"], coding["most"]
    bound = f", and no center could save more than {most:.2f}" if most is not None else ""
    if net is not None and net > 0:
        return f" Coded, it saves {net:.2f} bits a weight ({rule:.2f} before its own bits{bound})."
    return f" Coded, it would cost {-(net or 0.0):.2f} bits a weight ({rule:.2f} saved before its own bits{bound})."


def gain_table(diagnoses: Sequence[Diagnosis]) -> pd.DataFrame:
    """Return one row a layer and center: ``layer, center, gain, permutation_distance, by_chance``."""
    rows = [
        (one.layer, center, gain, one.permutation_distance[center], 1 / one.num_experts)
        for one in diagnoses
        for center, gain in one.residual_gain.items()
    ]
    return pd.DataFrame(rows, columns=["layer", "center", "gain", "permutation_distance", "by_chance"])
