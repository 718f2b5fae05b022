"""Parts that live panels are put together from."""

from .picture import PicturePanel as PicturePanel
from .progress import ProgressPanel as ProgressPanel
