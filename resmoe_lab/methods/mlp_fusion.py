"""MLP Fusion: the neurons of each expert are clustered, and each cluster becomes one neuron."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from ..experts import LayerShape
from ._base import METHODS
from ._choices import kept_entries
from ._kinds import MatrixMethod
from ._pieces import Clusters


@METHODS.register("mlp-fusion")
class MLPFusion(MatrixMethod):
    """Replace the neurons of every expert by the centroids of k-means clusters.

    There is no curve from one computation: every kept fraction is a clustering of its own.
    """

    name = "mlp-fusion"
    title = "MLP Fusion"
    reference = "ResMoE, appendix A.5, after Ai et al."

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> Clusters:
        """Cluster the neurons by Lloyd's k-means from one k-means++ start, drawn by the seed."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        search = KMeans(kept_entries(matrix.shape[0], keep), n_init=1, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # equal neurons leave clusters empty, which is no harm
            found = search.fit(matrix.float().cpu().numpy())
        centroids = torch.from_numpy(found.cluster_centers_).to(matrix)
        return Clusters(centroids, torch.from_numpy(found.labels_).long().to(matrix.device))

    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: Any = None) -> list[float]:
        """Errors at every keep, each from its own clustering."""
        restored = (self.compress_matrix(matrix, keep).restore() for keep in keeps)
        return [float((matrix.double() - found.double()).square().sum()) for found in restored]

    def piece_outline(self, shape: LayerShape, keep: float) -> Clusters:
        """Sizes without contents."""
        neurons = shape.intermediate_size
        centroids = torch.empty(kept_entries(neurons, keep), shape.width, device="meta")
        return Clusters(centroids, torch.empty(neurons, device="meta"))
