"""The workbench: work in threads, parameters as widgets, and the live panel."""

from .explorer import Explorer as Explorer
from .job import Job as Job
