"""Read images with a trained model.

FILE is an image, a directory of images, a quoted glob pattern, or @LIST, a file of paths, one per line. Without FILE
arguments, paths are read from stdin, one per line, and processed as they arrive.

Prints one line per image: path, probability and text, separated by tabs, in the order given; or what --output-format
names. An image that cannot be read yields one line on stderr and an exit code of 1 at the end.
"""

import argparse
import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from aocr.commands.flags import add_model_options, add_options, collect, given, warn_without_effect
from aocr.commands.forms import FORMS, Form
from aocr.commands.runtime import model_arguments, quiet_tensorflow, session_config
from aocr.commands.streams import standard_input, write
from aocr.config import CheckpointConfig, ModelConfig, PlaceConfig, PredictConfig, SearchConfig, ServerConfig, flag_of
from aocr.ending import at_once
from aocr.errors import usage_error
from aocr.files import is_remote
from aocr.tasks.paths import check_lists, image_paths, parts_of, waiting_parts

if TYPE_CHECKING:
    from aocr.tasks.predict import FileReading

log = logging.getLogger(__name__)

WITH_SERVER = ("max_pixels", "background")  # options of a model that prepare images, wherever they are read

HELP = "read images with a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="*",
                        help="images, directories, patterns or @LIST (default: paths on stdin)")
    add_options(parser, PlaceConfig)
    add_options(parser, CheckpointConfig)
    add_options(parser, PredictConfig)
    add_options(parser, ServerConfig)
    add_model_options(parser, PredictConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, PredictConfig)
    open_reader = _opener(args, config)
    if config.stdin0 and args.files:
        raise usage_error("--stdin0 reads paths from stdin, but paths are given as arguments; remove one of them")
    if config.visualize and is_remote(config.visualize):
        raise usage_error(f"--visualize {config.visualize}: remote storage cannot hold pictures; name a local "
                          "directory")
    lists = check_lists(args.files)
    parts = _parts(args, config)
    with at_once():
        from aocr.tasks.predict import read_files
        from aocr.tasks.review import check_review, review_in

    form, watchers = FORMS[config.output_format], []
    delimiter = check_review(config.review, [*args.files, *lists]) if config.review else ""
    with contextlib.ExitStack() as stack:
        reader, model = open_reader(form, stack)
        if config.review:
            review = stack.enter_context(review_in(config.review, delimiter, config.min_confidence))
            watchers.append(lambda reading: review.add(reading.path, reading.result))
        if config.visualize:
            from aocr.tasks.pictures import Pictures

            watchers.append(Pictures(config.visualize, model).draw)
        readings = stack.enter_context(contextlib.closing(read_files(reader, parts)))
        return report(readings, form, watchers)


def _parts(args, config) -> Iterator[list[str]]:
    """Yields the paths to read, in the parts in which they arrive. UserError if stdin cannot be read."""
    if args.files:
        return parts_of(image_paths(args.files, config.recursive), config.batch_size)
    return waiting_parts(standard_input(), config.batch_size, b"\0" if config.stdin0 else b"\n")


def _opener(args, config):
    """Returns a function of a Form and an ExitStack that returns a Reader, which the stack closes, and its Model, None
    for a server's. UserError if options are in conflict."""
    server = collect(args, ServerConfig)
    if server.server is not None:
        _check_for_server(args)
        warn_without_effect(args)
        return functools.partial(_open_server, server, collect(args, ModelConfig), config)
    for name in given(args, ServerConfig):
        raise usage_error(f"{flag_of(ServerConfig, name)} needs --server; add it")
    return functools.partial(_open_model, model_arguments(args), collect(args, CheckpointConfig).checkpoint, config)


def _open_model(arguments, checkpoint, config, form, stack):
    quiet_tensorflow()
    with at_once():
        from aocr.checkpoint import find_model
        from aocr.reading.engines import ModelEngine
        from aocr.reading.reader import Reader

    place, chosen, charset = arguments
    trained = find_model(place.model_dir, chosen, charset, checkpoint, config.decoding)
    engine = ModelEngine(trained, config, session_config(place.gpu_id), form.details)
    return stack.enter_context(Reader(engine, details=form.details, batch_size=config.batch_size)), engine.model


def _open_server(server, limits, config, form, stack):
    """Opens the model of a server, without TensorFlow here."""
    from aocr.client.server import ModelServer
    from aocr.reading.reader import Reader

    engine = ModelServer(server, limits)
    return stack.enter_context(Reader(engine, details=form.details, batch_size=config.batch_size)), None


def _check_for_server(args):
    """Raises UserError if an option chooses a model here, changes it or looks into it."""
    flags = [flag_of(options, name) for options in (PlaceConfig, CheckpointConfig, ModelConfig)
             for name in given(args, options) if name not in WITH_SERVER]
    own = given(args, SearchConfig).keys() | given(args, PredictConfig).keys() & {"decoding", "visualize"}
    flags += [flag_of(PredictConfig, name) for name in sorted(own)]
    flags += [f"--{name.replace('_', '-')}" for name in ("full_ascii", "charset") if hasattr(args, name)]
    if flags:
        raise usage_error(f"--server and {flags[0]} are mutually exclusive, since the server's model is what it was "
                          "exported as; use one of them")


def report(readings: "Iterable[FileReading]", form: Form,
           watchers: "Iterable[Callable[[FileReading], None]]" = ()) -> int:
    """Prints each reading, logs the problems, and passes the readings on. Returns the exit code. Raises: as `write`."""
    code = 0
    if form.header:
        write(form.header)
    for reading in readings:
        path, result, _ = reading
        if result.error is not None:
            log.error("%s: %s", path, result.error)
            code = 1
        else:
            log.info("Result: OK. %.2f %s", result.confidence, result.text)
        if result.error is None or form.broken:
            write(form.line(path, result))
        for watch in watchers:
            watch(reading)
    return code
