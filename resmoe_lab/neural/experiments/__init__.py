"""The papers' experiments, one file each, and their runner."""

from ._base import EXPERIMENTS as EXPERIMENTS
from ._base import Case as Case
from ._base import Experiment as Experiment
from ._base import Pictures as Pictures
from ._base import experiment_pictures as experiment_pictures
from ._base import run_experiment as run_experiment
from ._base import settings_table as settings_table
