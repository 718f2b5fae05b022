"""What will happen and what it will cost, and the layer loop that does it."""

from .config import Calibration as Calibration
from .config import CompressionConfig as CompressionConfig
from .forecast import Forecast as Forecast
from .forecast import forecast_run as forecast_run
from .plan import select_layers as select_layers
from .run import compress_checkpoint as compress_checkpoint
