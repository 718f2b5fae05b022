"""Optimal transport between clouds of neurons: arrays only, no model."""

from .assignment import Assignment, assign
from .barycenter import barycenter
from .certificate import Certificate
from .cost import objective, squared_distances
from .plan import Plan, plan
from .result import Barycenter, Step

__all__ = [
    "Assignment",
    "Barycenter",
    "Certificate",
    "Plan",
    "Step",
    "assign",
    "barycenter",
    "objective",
    "plan",
    "squared_distances",
]
