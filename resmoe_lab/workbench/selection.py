"""The selection that panels share: one checkpoint, layer, expert, method, center and kept fraction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import traitlets

from .._core.errors import UsageError
from .._core.params import KEEP
from ..centers import CENTERS, DEFAULT_CENTER
from ..checkpoint import Checkpoint, open_checkpoint
from ..experts import family_of, moe_layers
from ..methods import METHODS


class Selection(traitlets.HasTraits):
    """A checkpoint, layer, expert, method, center and keep that several panels share: all follow a change in one.

    Parameters
    ----------
    source
        A checkpoint, or anything that names one.
    traits
        Initial values of the attributes below.

    Attributes
    ----------
    checkpoint
        The opened checkpoint; change it with :meth:`open`.
    layer, expert
        Indices of the layer and of the expert.
    method, center, keep
        How the experts are compressed.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> selection = workbench.Selection("mixtral-tiny", layer=2)
    >>> panels = [workbench.experts(selection, routing=False), workbench.transport(selection)]
    >>> selection.layer = 1  # moves both
    >>> [panel.wait().view.center for panel in panels]
    ['wasserstein', 'wasserstein']
    """

    checkpoint = traitlets.Any()
    layer = traitlets.Int()
    #: Not 0: the center often has the neuron order of the first expert, whose permutation is then the identity.
    expert = traitlets.Int(1)
    method = traitlets.Unicode("resmoe-up")
    center = traitlets.Unicode(DEFAULT_CENTER)
    keep = traitlets.Float(KEEP.default)

    def __init__(self, source: Checkpoint | str | Path, **traits: Any) -> None:
        super().__init__()
        self.open(source)
        for name, value in traits.items():
            if not self.has_trait(name) or name == "checkpoint":
                raise UsageError(f"a selection has no {name!r}, expected layer, expert, method, center or keep")
            setattr(self, name, value)

    def open(self, source: Checkpoint | str | Path) -> None:
        """Open another checkpoint; its first layer is selected where it lacks the current one.

        Raises
        ------
        CheckpointError
            If it cannot be opened; the selection does not change.
        """
        opened = source if isinstance(source, Checkpoint) else open_checkpoint(source)
        layers = moe_layers(opened)
        with self.hold_trait_notifications():
            self.checkpoint = opened
            if self.layer not in layers:
                self.layer = layers[0]
            if self.expert >= self.num_experts:
                self.expert = 0

    @property
    def layers(self) -> list[int]:
        """The checkpoint's layers with experts."""
        return moe_layers(self.checkpoint)

    @property
    def num_experts(self) -> int:
        """Experts in a layer."""
        return family_of(self.checkpoint).shape(self.checkpoint.config).num_experts

    @traitlets.validate("layer")
    def _check_layer(self, proposal: Any) -> int:
        if proposal["value"] not in self.layers:
            raise UsageError(f"layer {proposal['value']} has no experts, expected one of {self.layers}")
        return proposal["value"]

    @traitlets.validate("expert")
    def _check_expert(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < self.num_experts:
            raise UsageError(f"expert is {proposal['value']}, expected 0 to {self.num_experts - 1}")
        return proposal["value"]

    @traitlets.validate("method")
    def _check_method(self, proposal: Any) -> str:
        METHODS[proposal["value"]]
        return proposal["value"]

    @traitlets.validate("center")
    def _check_center(self, proposal: Any) -> str:
        CENTERS[proposal["value"]]
        return proposal["value"]

    @traitlets.validate("keep")
    def _check_keep(self, proposal: Any) -> float:
        return KEEP.validate(proposal["value"])


def select(source: Selection | Checkpoint | str | Path, **traits: Any) -> Selection:
    """Return the given selection with some traits changed, or a new selection of a checkpoint."""
    if not isinstance(source, Selection):
        return Selection(source, **traits)
    for name, value in traits.items():
        setattr(source, name, value)
    return source
