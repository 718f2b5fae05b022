"""What a compressed layer weighs, and the manifest beside it."""

from .budget import match_bytes as match_bytes
from .budget import weigh_model as weigh_model
from .ledger import Entry as Entry
from .ledger import Ledger as Ledger
from .ledger import forecast as forecast
from .ledger import weigh as weigh
