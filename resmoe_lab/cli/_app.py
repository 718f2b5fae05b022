"""The application that every verb registers with."""

from __future__ import annotations

from cyclopts import App

from .. import __version__

app = App(
    name="resmoe-lab",
    version=__version__,
    help="Take a Mixture-of-Experts language model apart, find the expert its experts share, and make it small. "
    "CHECKPOINT is a zoo name (such as mixtral-tiny), a local folder, or a hub id.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)
