"""Runs `aocr` as `python -m aocr`, the way job services start it."""

import sys

from aocr.cli import main

if __name__ == "__main__":
    sys.exit(main())
