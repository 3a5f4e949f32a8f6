"""The `aocr` program: parses the command line, sets up logging, runs a command, maps errors to exit codes."""

import argparse
import contextlib
import copy
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence

import aocr
from aocr.commands import augment, compare, dataset, export, inspect, predict, synth, test, train
from aocr.commands.flags import add_options
from aocr.config import CommonConfig, PlaceConfig
from aocr.errors import Terminated, UserError
from aocr.files import is_remote, storage_problem

COMMANDS = (synth, dataset, inspect, augment, train, test, compare, predict, export)

EXIT_CODES = """\
exit codes: 0 success; 1 error in data, files or environment; 2 error in the command line;
130, 143 ended by SIGINT, SIGTERM (train saves first)"""

CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # all but the tab

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line. Omitted options are absent from the namespace."""
    parser = argparse.ArgumentParser(
        prog="aocr", description=aocr.__doc__, epilog=EXIT_CODES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"aocr {aocr.__version__}")
    add_options(parser, CommonConfig)
    # Job services may pass --job-dir before the command or last.
    add_options(parser, PlaceConfig)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        subparser = subparsers.add_parser(
            name, help=command.HELP, description=command.__doc__, epilog=EXIT_CODES, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_arguments(subparser)
        add_options(subparser, CommonConfig)
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program with these arguments (default: those of the process). Returns the exit code."""
    parser = build_parser()
    args, others = parser.parse_known_args(argv)
    if others and not getattr(args, "runner", None):
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.others, args.argv = others, sys.argv[1:] if argv is None else list(argv)
    try:
        with _logging(vars(args)):
            return _run(args)
    except UserError as error:  # the log file failed, so there is no log yet
        print(f"aocr: error: {error}", file=sys.stderr)
        return error.exit_code


def _run(args):
    try:
        with _terminable():
            return args.run(args)
    except UserError as error:
        log.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    except Terminated:
        log.error("terminated")
        return 143
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        if problem := storage_problem(error):
            log.error("%s", problem)
            return 1
        log.exception("aocr %s: internal error, please report it with this traceback",
                      aocr.__version__)
        return 1


@contextlib.contextmanager
def _terminable():
    """Makes SIGTERM end the block like Ctrl-C, so that it cleans up; a second one kills the program.

    In any thread but the main one, signals are left to the calling program.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, _):
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _closed_pipe():
    """Handles a closed output pipe (`aocr predict ... | head -1`): no error, and nothing left to flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class _logging:
    """Logs to stderr and to the log file while a block runs."""

    def __init__(self, given):
        self._path, self._explicit = given.get("log_path", CommonConfig.log_path), "log_path" in given

    def __enter__(self):
        self._logger = logging.getLogger("aocr")
        self._handlers = [logging.StreamHandler(sys.stderr)]
        self._handlers[0].setFormatter(_Formatter())
        problem = None
        if is_remote(self._path):
            raise UserError(f"--log-path {self._path}: the log cannot be appended to on remote storage; name a local "
                            "file, or '' for none")
        if self._path:
            try:
                # Logged file names need not be valid UTF-8.
                file = logging.FileHandler(self._path, encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                problem = f"--log-path {self._path}: cannot be written: {error.strerror or error}"
                if self._explicit:
                    raise UserError(f"{problem}; name a local file, or '' for none") from None
            else:
                file.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
                self._handlers.append(file)
        for handler in self._handlers:
            self._logger.addHandler(handler)
        self._before = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        if problem:
            log.warning("%s; continuing without a log file", problem)

    def __exit__(self, *_):
        for handler in self._handlers:
            self._logger.removeHandler(handler)
            handler.close()
        self._logger.level, self._logger.propagate = self._before


class _OneLine(logging.Formatter):
    """Escapes control characters, so that a message is one line whatever it quotes. Tracebacks stay unchanged."""

    def formatMessage(self, record):
        return CONTROL.sub(lambda found: repr(found.group())[1:-1], super().formatMessage(record))


class _Formatter(_OneLine):
    """Terminal format: time and message; from warnings on, level and message."""

    def __init__(self):
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        self._severe = _OneLine("aocr: %(levelname)s: %(message)s")

    def format(self, record):
        if record.levelno < logging.WARNING:
            return super().format(record)
        lower = copy.copy(record)  # the log file's handler needs the level unchanged
        lower.levelname = record.levelname.lower()
        return self._severe.format(lower)
