"""What a compressed layer weighs, and the manifest beside it."""

from .ledger import Entry as Entry
from .ledger import Ledger as Ledger
from .ledger import forecast as forecast
from .ledger import weigh as weigh
