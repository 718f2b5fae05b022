"""MLP Fusion: the neurons of each expert are clustered, and each cluster becomes one neuron."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch

from ..experts import LayerShape
from ..store.matrices import CompressedMatrix, NeuronClusters
from ._choices import kept_entries
from ._kinds import MatrixMethod
from ._registry import METHODS


@METHODS.register("mlp-fusion", title="MLP Fusion", reference="ResMoE, appendix A.5, after Ai et al.")
class MLPFusion(MatrixMethod):
    """Replace the neurons of every expert by the centroids of k-means clusters.

    There is no curve from one computation: every kept fraction is a clustering of its own.
    """

    matrix_type: ClassVar[type[CompressedMatrix]] = NeuronClusters

    def count(self, shape: LayerShape, keep: float) -> int:
        """Return the number of clusters."""
        return kept_entries(shape.intermediate_size, keep)

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> NeuronClusters:
        """Cluster the neurons by Lloyd's k-means from one k-means++ start, drawn by the seed."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        clustering = KMeans(kept_entries(matrix.shape[0], keep), n_init=1, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # equal neurons leave clusters empty, which is no harm
            clustering.fit(matrix.float().cpu().numpy())
        centroids = torch.from_numpy(clustering.cluster_centers_).to(matrix)
        return NeuronClusters(centroids, torch.from_numpy(clustering.labels_).long().to(matrix.device))
