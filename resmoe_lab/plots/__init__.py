"""Tables and arrays in, Altair charts or matplotlib figures out; no torch."""

from .centers import center_history as center_history
from .diagnosis import gain_bars as gain_bars
from .diagnosis import spectrum_lines as spectrum_lines
from .displacement import displacement_bars as displacement_bars
from .displacement import displacement_table as displacement_table
from .errors import error_curves as error_curves
from .errors import errors_by_layer as errors_by_layer
from .front import allocation_lines as allocation_lines
from .front import front_lines as front_lines
from .fusion import mixing_chart as mixing_chart
from .norms import norm_bars as norm_bars
from .offline import use_offline_renderer as use_offline_renderer
from .permutation import permutation_map as permutation_map
from .permutation import permutation_table as permutation_table
from .routing import routing_load as routing_load
from .scores import score_bars as score_bars
from .scores import score_curves as score_curves
from .similarity import similarity_heatmap as similarity_heatmap
from .sizes import size_bars as size_bars
from .sizes import size_table as size_table
from .slider import keep_slider as keep_slider
from .speed import speed_bars as speed_bars
from .tradeoff import error_by_bytes as error_by_bytes
from .tradeoff import score_by_bytes as score_by_bytes
