"""The command line: one command per verb. Standard output is the result; everything else goes to standard error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import MutableMapping

import cyclopts

from .._core.errors import Cancelled, ResmoeError
from .._core.files import full_disk
from . import barycenter as barycenter
from . import bench as bench
from . import compare as compare
from . import compress as compress
from . import convert as convert
from . import diagnose as diagnose
from . import evaluate as evaluate
from . import families as families
from . import inspect as inspect
from . import lab as lab
from . import plan as plan
from . import report as report
from . import run as run
from . import serve as serve
from . import sweep as sweep
from . import zoo as zoo
from ._app import app as app
from ._output import warnings_in_a_line

#: What a disk says that takes no more.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main() -> None:
    """Run the command line: exit 0 done, 1 the work failed, 2 wrong usage, 130 interrupted."""
    share_cores(os.environ)
    try:
        with warnings_in_a_line():
            app(sys.argv[1:], exit_on_error=False, print_error=False)
            sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        _exit(" ".join(str(error).split()), 2)
    except Cancelled as error:
        _exit(str(error), 130)
    except ResmoeError as error:
        _exit(str(error), error.exit_code)
    except KeyboardInterrupt:
        _exit("interrupted: run the same command again to go on", 130)
    except BrokenPipeError:
        _print_no_more()  # the reader of our output has gone (as 'head' does); that is no failure of ours
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        if error.filename is None:
            _print_no_more()
        _exit(str(full_disk(error.filename or "what was to be printed", error)), 1)


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let OpenMP's threads sleep soon where they wait for one another, unless the user has said how they wait.

    By default GNU OpenMP keeps a core busy for about a millisecond after every parallel step. On cores that others use
    too, threads then wait for threads that cannot run: a search of 5 seconds was seen to take 124. It has to be said
    before torch is imported, and is handed on to notebooks and workers.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "1000")


def _print_no_more() -> None:
    """Let what is still to be printed go nowhere: the interpreter would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit(message: str, code: int) -> None:
    print(f"resmoe-lab: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code)
