"""Interactive panels, one file each; :class:`Panel` is their base class."""

from ._base import Panel as Panel
from ._live import LivePanel as LivePanel
from .ablation import AblationPanel as AblationPanel
from .barycenters import BarycentersPanel as BarycentersPanel
from .errors import ErrorsPanel as ErrorsPanel
from .experts import ExpertsPanel as ExpertsPanel
from .explorer import Explorer as Explorer
from .fusion import FusionPanel as FusionPanel
from .map import MapPanel as MapPanel
from .picture import PicturePanel as PicturePanel
from .progress import ProgressPanel as ProgressPanel
from .savebar import SaveBar as SaveBar
from .sweep import SweepPanel as SweepPanel
from .tokens import TokensPanel as TokensPanel
from .transport import TransportPanel as TransportPanel
from .zero_shot import ZeroShotPanel as ZeroShotPanel
