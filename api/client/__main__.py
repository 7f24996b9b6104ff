"""`python -m api.client`, and the entry of the single-file client."""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Run the command line, as the whole of a process; raises SystemExit."""
    given = any(word.startswith("--url") for word in sys.argv)
    if not given and not os.environ.get("SIBLING_URL") and os.path.exists("/run/sibling/api.sock"):  # noqa: PTH110 - pathlib takes its time
        from api.client.bare import go_without

        go_without()
    from api.client import main

    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # tidying up a process that ends takes longer than all that is left to do


if __name__ == "__main__":
    run()
