"""The paper's Tables 5 (memory) and 7 (FLOPs) computed from their formulas, beside the printed values."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ..methods._choices import kept_rank

#: Tokens of the sequence in Table 7; the only length that gives its first row.
TOKENS = 128
#: Kept fraction in both tables.
KEEP = 0.25
#: Bytes of a value in Table 5.
VALUE_BYTES = 4


@dataclass(frozen=True)
class PublishedModel:
    """The shape of a model in the tables.

    Parameters
    ----------
    num_experts, top_k, hidden_size, intermediate_size
        N, experts per token, p and p_I.
    moe_layers, compressed_layers
        Layers with experts, and how many of them Table 7 compresses: three quarters of all layers.
    other_weights
        Weights that every token is multiplied with outside the routed experts and the routers.
    activations
        Values of the gate's activation function that a token needs, each of them one FLOP.
    index_bytes
        Bytes of a kept weight's index in the UP rows: a 16-bit column, or a 16-bit row and column.
    unit
        FLOPs of one unit of Table 7.
    """

    num_experts: int
    top_k: int
    hidden_size: int
    intermediate_size: int
    moe_layers: int
    compressed_layers: int
    other_weights: int
    activations: int
    index_bytes: int
    unit: float

    @property
    def expert(self) -> int:
        """Weights of one expert."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def router(self) -> int:
        """Weights of one router."""
        return self.num_experts * self.hidden_size

    @property
    def low_rank(self) -> int:
        """Multiplications of one token in an expert of rank k = s p_I 3p / (p_I + 3p) (appendix A.4)."""
        rank = kept_rank(self.intermediate_size, 3 * self.hidden_size, KEEP)
        return 3 * rank * (self.hidden_size + self.intermediate_size)


MIXTRAL = PublishedModel(
    num_experts=8,
    top_k=2,
    hidden_size=4096,
    intermediate_size=14336,
    moe_layers=32,
    compressed_layers=24,
    other_weights=32 * (2 * 4096 * 4096 + 2 * 4096 * 1024) + 32000 * 4096,
    activations=32 * 2 * 14336,
    index_bytes=2,
    unit=1e12,
)
DEEPSEEK_MOE = PublishedModel(
    num_experts=64,
    top_k=6,
    hidden_size=2048,
    intermediate_size=1408,
    moe_layers=27,
    compressed_layers=21,
    other_weights=28 * 4 * 2048 * 2048 + 27 * 2 * 3 * 2048 * 1408 + 3 * 2048 * 10944 + 102400 * 2048,
    activations=27 * 8 * 1408 + 10944,
    index_bytes=4,
    unit=1e9,
)
PUBLISHED = {"mixtral-8x7b": MIXTRAL, "deepseek-moe-16b": DEEPSEEK_MOE}

_ROWS = ("full", "up", "sp", "svd", "m-smoe", "git-rebasin", "meo", "mlp-fusion", "resmoe-up", "resmoe-svd")
_MEMORY = {
    "mixtral-8x7b": (5376, 2016, 1344, 1344, 1344, 1344, 1344, 1344, 2688, 2016),
    "deepseek-moe-16b": (2112, 1056, 528, 528, 528, 528, 528, 528, 1089, 561),
}
_FLOPS = {
    "mixtral-8x7b": (3.26, 1.64, 1.64, 2.21, 3.26, 3.26, 3.26, 1.64, 3.26, 2.73),
    "deepseek-moe-16b": (670.46, 460.24, 460.24, 480.52, 670.46, 670.46, 670.46, 460.24, 670.46, 526.93),
}
_UP_NOTE = {
    "mixtral-8x7b": "a 16-bit column for each kept weight, as in CSR, without row starts",
    "deepseek-moe-16b": "a 16-bit row and column for each kept weight (COO): not the format of the Mixtral column",
}
_REDUCED_NOTE = "printed lower by 28 routers, one more than the model has"
_LOW_RANK_NOTE = "printed with other ranks than appendix A.4 gives; no count of products gives the printed figure"


def memory_table(name: str) -> pd.DataFrame:
    """Table 5: megabytes (2^20) of the experts of one layer, at 32 bit.

    Parameters
    ----------
    name
        A key of :data:`PUBLISHED`.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, computed, printed, note``.

    Examples
    --------
    >>> from resmoe_lab.experiments.published import memory_table
    >>> table = memory_table("mixtral-8x7b")
    >>> table.loc[table["method"] == "resmoe-svd", ["computed", "printed"]].values.tolist()
    [[2016.0, 2016.0]]
    """
    model = PUBLISHED[name]
    expert = model.expert * VALUE_BYTES / 2**20
    full, kept = model.num_experts * expert, model.num_experts * expert * KEEP
    pruned = kept * (VALUE_BYTES + model.index_bytes) / VALUE_BYTES
    computed = dict.fromkeys(_ROWS, kept) | {"full": full, "up": pruned}
    computed |= {"resmoe-up": pruned + expert, "resmoe-svd": kept + expert}
    notes = {"up": _UP_NOTE[name], "resmoe-up": _UP_NOTE[name]}
    return _table(computed, _MEMORY[name], notes)


def flops_table(name: str) -> pd.DataFrame:
    """Table 7: FLOPs of one sequence of 128 tokens, in TFLOPs for Mixtral and GFLOPs for DeepSeekMoE.

    Merged experts and ResMoE (UP) run as whole experts; ResMoE (SVD) here also computes the center, once a token.

    Parameters
    ----------
    name
        A key of :data:`PUBLISHED`.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, computed, printed, note``.
    """
    model = PUBLISHED[name]

    def flops(expert: float, center: float = 0.0) -> float:
        """Cost where an expert of a compressed layer costs `expert` multiplications, and the center `center`."""
        whole = model.other_weights + model.moe_layers * (model.router + model.top_k * model.expert)
        changed = model.compressed_layers * (model.top_k * (expert - model.expert) + center)
        return TOKENS * (2 * (whole + changed) + model.activations) / model.unit

    computed = dict.fromkeys(_ROWS, flops(model.expert))
    computed |= dict.fromkeys(("up", "sp", "mlp-fusion"), flops(KEEP * model.expert))
    computed |= {"svd": flops(model.low_rank), "resmoe-svd": flops(model.low_rank, model.expert)}
    notes = dict.fromkeys(("svd", "resmoe-svd"), _LOW_RANK_NOTE)
    if name == "deepseek-moe-16b":
        notes |= dict.fromkeys(("up", "sp", "mlp-fusion"), _REDUCED_NOTE)
    return _table(computed, _FLOPS[name], notes)


def _table(computed: dict[str, float], printed: tuple[float, ...], notes: dict[str, str]) -> pd.DataFrame:
    rows = [(row, computed[row], value, notes.get(row, "")) for row, value in zip(_ROWS, printed, strict=True)]
    return pd.DataFrame(rows, columns=["method", "computed", "printed", "note"])
