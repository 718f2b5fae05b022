"""Optimal transport between clouds of neurons: arrays only, no model."""

from .assignment import Assignment, assign
from .barycenter import barycenter
from .certificate import Certificate
from .cost import objective, squared_distances
from .keeping import load_barycenter, save_barycenter
from .planning import Plan, plan
from .result import Barycenter, Step
from .soft import SoftBarycenter, soft_barycenter, transport_plan

__all__ = [
    "Assignment",
    "Barycenter",
    "Certificate",
    "Plan",
    "SoftBarycenter",
    "Step",
    "assign",
    "barycenter",
    "load_barycenter",
    "objective",
    "plan",
    "save_barycenter",
    "soft_barycenter",
    "squared_distances",
    "transport_plan",
]
