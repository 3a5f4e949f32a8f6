"""Starts the program: `aocr`, or `python -m aocr` as job services do."""

import os
import signal
import sys


def main() -> int:
    """Runs the program with the arguments of this process. Returns the exit code, unless a signal ended it."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)  # for as long as there is nothing to clean up
    from aocr.cli import main as run

    code = run()
    if code > 128:
        # Python would wait for its threads, and one may be blocked: in a read from stdin, for example.
        os._exit(code)
    return code


def _interrupted(number, _):
    os.write(2, b"aocr: error: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
