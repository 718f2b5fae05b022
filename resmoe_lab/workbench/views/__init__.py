"""Records that panels and reports show, with the functions that compute them; no widgets."""

from ._base import View as View
from .ablation import AblationView as AblationView
from .ablation import view_ablation as view_ablation
from .barycenters import BarycentersView as BarycentersView
from .barycenters import view_barycenters as view_barycenters
from .errors import ErrorsView as ErrorsView
from .errors import view_errors as view_errors
from .experts import ExpertsView as ExpertsView
from .experts import view_experts as view_experts
from .fusion import FusionView as FusionView
from .fusion import view_fusion as view_fusion
from .map import MapView as MapView
from .map import view_map as view_map
from .scores import ScoresView as ScoresView
from .scores import view_scores as view_scores
from .sweep import SweepChoices as SweepChoices
from .sweep import SweepView as SweepView
from .sweep import finished_scores as finished_scores
from .tokens import TokensView as TokensView
from .tokens import view_tokens as view_tokens
from .transport import TransportView as TransportView
from .transport import view_transport as view_transport
