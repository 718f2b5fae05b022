from __future__ import annotations

import numpy as np

import resmoe_lab as rl
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench.layer import open_layer


def test_a_bench_restores_one_expert_as_the_whole_layer_does(pico_checkpoint: Checkpoint) -> None:
    loaded = open_layer(pico_checkpoint, 1).value
    for method in ("up", "resmoe-svd"):
        before, after, *_ = loaded.matrices(method, 0.5, 2)
        compressed = rl.compress_layer(loaded.stack, method=method, keep=0.5, center=loaded.center)
        stored_center = compressed.center.matrix.numpy() if method.startswith("resmoe") else 0.0
        assert np.allclose(after + stored_center, compressed.restore()[2].numpy(), atol=1e-6)
        lost = ((before - after) ** 2).sum()
        assert 0 < lost < (before**2).sum()


def test_a_layer_is_opened_once_for_every_center(pico_checkpoint: Checkpoint) -> None:
    first = open_layer(pico_checkpoint, 0)
    assert open_layer(pico_checkpoint, 0).value is first.value
    assert open_layer(pico_checkpoint, 0, center="average").value is not first.value


def test_what_is_coded_is_shown_as_it_was_coded(pico_checkpoint: Checkpoint) -> None:
    """A residual only where the method kept its center."""
    loaded = open_layer(pico_checkpoint, 0).value
    for keep in (0.25, 0.5):
        before, after, residual = loaded.matrices("resmoe-coded", keep, 1)
        layer = rl.compress_layer(loaded.stack, method="resmoe-coded", keep=keep, center=loaded.center)
        assert residual == (layer.center is not None)
        center = layer.center.matrix.numpy() if residual else 0.0
        assert np.allclose(after + center, layer.restore()[1].numpy(), atol=1e-6)
        assert 0 < ((before - after) ** 2).sum() < (before**2).sum()
    assert not loaded.matrices("rtn", 0.25, 1).residual
