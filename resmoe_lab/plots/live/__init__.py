"""Figures of the panels: matplotlib without pyplot, whose global state is not thread-safe."""

from .ablation import ablation_figure as ablation_figure
from .clouds import clouds_figure as clouds_figure
from .clouds import drift_figure as drift_figure
from .errors import ErrorFigure as ErrorFigure
from .experts import norms_figure as norms_figure
from .experts import similarity_figure as similarity_figure
from .fusion import mixing_figure as mixing_figure
from .maps import map_figure as map_figure
from .matrices import permutation_figure as permutation_figure
from .matrices import residual_figure as residual_figure
from .pictures import pictures_figure as pictures_figure
from .routing import routing_figure as routing_figure
from .scores import scores_figure as scores_figure
from .spectra import dendrogram_figure as dendrogram_figure
from .spectra import spectrum_figure as spectrum_figure
from .tradeoff import allocation_figure as allocation_figure
from .tradeoff import front_figure as front_figure
from .transport import alignment_figure as alignment_figure
from .transport import search_figure as search_figure
