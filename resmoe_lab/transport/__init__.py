"""Optimal transport between point clouds of neurons: arrays only, no model."""

from .._core.deprecation import deprecated_names
from .assignment import Assignment, assign
from .barycenter import barycenter
from .cost import objective, squared_distances
from .coupling import Coupling, couple, identity_coupling, permutation_coupling
from .result import Barycenter, Certificate, Step
from .search_config import SearchConfig, plan_search
from .serialization import load_barycenter, save_barycenter
from .soft import SoftBarycenter, soft_barycenter, transport_plan

__all__ = [
    "Assignment",
    "Barycenter",
    "Certificate",
    "Coupling",
    "SearchConfig",
    "SoftBarycenter",
    "Step",
    "assign",
    "barycenter",
    "couple",
    "identity_coupling",
    "load_barycenter",
    "objective",
    "permutation_coupling",
    "plan_search",
    "save_barycenter",
    "soft_barycenter",
    "squared_distances",
    "transport_plan",
]

__getattr__ = deprecated_names(__name__, {"Plan": "SearchConfig", "plan": "plan_search"})
