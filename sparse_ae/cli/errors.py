"""Errors on the console: a line for each mistake of the user's, a trace for a bug."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from sparse_ae.config.errors import is_user_error

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables that Lightning reads as numbers when it is imported, and cannot be imported if they are none."""


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """End with exit code 1 and one line per mistake; ``HYDRA_FULL_ERROR=1`` brings the trace.

    An exception that is no mistake of the user's keeps its trace and says that it is a bug. A rank that is no number,
    such as one set from a variable that was empty, is removed from the environment.
    """
    for variable in _RANKS:
        if not os.environ.get(variable, "0").isdigit():
            del os.environ[variable]
    try:
        yield
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if not is_user_error(error):
            traceback.print_exception(error)
            print(f"{program}: this is a bug in sparse_ae; please report it with the lines above", file=sys.stderr)
        else:
            for line in str(error).splitlines():
                print(f"{program}: error: {line}", file=sys.stderr)
        raise SystemExit(1) from None
