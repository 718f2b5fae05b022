"""Charts as pictures, and a sweep: the same as the tests of plots use."""

from ...plots.conftest import sweep as sweep
from ...plots.conftest import texts as texts
