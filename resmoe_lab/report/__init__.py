"""Reports: a notebook, run and turned into one standalone HTML file."""

from .build import build_comparison as build_comparison
from .build import build_report as build_report
from .build import check_report as check_report
