"""How compressed experts are stored: formats, encodings of values, the ledger of bytes, and the manifest."""

from .._core.deprecation import deprecated_names
from .encodings import Encoding as Encoding
from .encodings import encoding_names as encoding_names
from .formats import FORMATS as FORMATS
from .formats import Format as Format
from .layout import DEFAULT_STORAGE as DEFAULT_STORAGE
from .layout import EXACT_STORAGE as EXACT_STORAGE
from .layout import Layout as Layout
from .layout import Storage as Storage
from .ledger import Entry as Entry
from .ledger import Ledger as Ledger

__getattr__ = deprecated_names(
    __name__,
    {
        "weigh": "methods:storage_ledger",
        "forecast": "methods:forecast_ledger",
        "match_bytes": "analysis.budget:match_bytes",
        "weigh_model": "analysis.budget:model_ledger",
    },
)
