"""`python -m aocr` is the same program as `aocr`, as job services start it."""

import sys

from aocr.cli import main

if __name__ == "__main__":
    sys.exit(main())
