"""The `aocr` program: parses the command line, sets up logging, runs a command, maps errors to exit codes."""

import argparse
import contextlib
import copy
import logging
import os
import signal
import sys
from collections.abc import Sequence

import aocr
from aocr.commands import augment, calibrate, compare, dataset, export, inspect, predict, serve, synth, test, train
from aocr.commands.flags import add_options, check_paths
from aocr.commands.streams import drop_rest, one_line, standard_streams, write
from aocr.config import CommonConfig, PlaceConfig
from aocr.ending import NAMES, Watch, handling
from aocr.errors import Terminated, UserError
from aocr.files import environment_problem, is_remote
from aocr.logs import LogFile
from aocr.outputs import check_log

COMMANDS = (synth, dataset, inspect, augment, train, test, calibrate, compare, predict, export, serve)

EXIT_CODES = """\
exit codes: 0 success; 1 error in data, files or environment, or nobody reads the results; 2 error in the command line;
130, 143 ended by SIGINT, SIGTERM (train saves first)"""

GRACE = 10.0  # seconds that a command has to end after a signal

log = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    """A parser whose help is an error if it cannot be written; argparse ignores that."""

    def _print_message(self, message, file=None):
        if file is sys.stdout:
            write(message, end="")
        else:
            super()._print_message(message, file)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line. Omitted options are absent from the namespace."""
    parser = _Parser(
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
    with standard_streams():
        try:
            args = _parse(argv)
            _check_working_directory()
            check_paths(args)
            with _logging(vars(args)):
                return _run(args)
        except UserError as error:  # there is no log yet
            with contextlib.suppress(OSError):
                print(f"aocr: error: {one_line(str(error))}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:
            return 1


def _parse(argv):
    """Parses the arguments. Raises: SystemExit after --help and errors; UserError if the help cannot be written."""
    parser = build_parser()
    args, others = parser.parse_known_args(argv)
    if others and not getattr(args, "runner", None):
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.others, args.argv = others, sys.argv[1:] if argv is None else list(argv)
    return args


def _check_working_directory():
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the working directory cannot be used: {error.strerror}; change to another one") from None


def _run(args):
    received: list[int] = []
    try:
        with _endable(received):
            return args.run(args)
    except UserError as error:
        log.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        return _ended(signal.SIGINT)
    except Terminated:
        return _ended(signal.SIGTERM)
    except BrokenPipeError:  # the reader of the results has gone (`aocr predict ... | head -1`), and knows it
        drop_rest()
        return 1
    except Exception as error:
        if received:  # a library has made an error of the exception that a signal raised in it
            return _ended(received[0])
        if problem := environment_problem(error):
            log.error("%s", problem)
            return 1
        log.exception("aocr %s: internal error, please report it with this traceback",
                      aocr.__version__)
        return 1


def _ended(number):
    log.error(NAMES[number])
    return 128 + number


@contextlib.contextmanager
def _endable(received):
    """Makes SIGINT and SIGTERM end the block so that it cleans up, in time; a second one ends the program at once.

    Their numbers are added to `received`.
    """
    def end(number, _):
        received.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    with handling({signal.SIGINT: end, signal.SIGTERM: end}), Watch(GRACE, 0.0):
        yield


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
                check_log(self._path)
                file = LogFile(self._path)
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
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)  # which forgets what its loggers were to log


class _OneLine(logging.Formatter):
    """Escapes control characters, so that a message is one line whatever it quotes. Tracebacks stay unchanged."""

    def formatMessage(self, record):
        return one_line(super().formatMessage(record))


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
