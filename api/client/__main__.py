"""`python -m api.client`, and the entry of the single-file client."""

from __future__ import annotations

import sys

from api.client import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
