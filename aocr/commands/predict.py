"""Read images with a trained model.

FILE is an image, a directory of images, a quoted glob pattern, or @LIST, a file of paths, one per line. Without FILE
arguments, paths are read from stdin, one per line, and processed as they arrive.

Prints one line per image: path, probability and text, separated by tabs, in the order given; or what --output-format
names. An image that cannot be read yields one line on stderr and an exit code of 1 at the end.
"""

import argparse
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from aocr.commands.flags import add_model_options, add_options, collect
from aocr.commands.forms import FORMS, Form
from aocr.commands.runtime import model_arguments, quiet_tensorflow, session_config
from aocr.commands.streams import standard_input, write
from aocr.config import CheckpointConfig, PlaceConfig, PredictConfig
from aocr.ending import at_once
from aocr.errors import usage_error
from aocr.files import is_remote

if TYPE_CHECKING:
    from aocr.tasks.predict import FileReading

log = logging.getLogger(__name__)

HELP = "read images with a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="*",
                        help="images, directories, patterns or @LIST (default: paths on stdin)")
    add_options(parser, PlaceConfig)
    add_options(parser, CheckpointConfig)
    add_options(parser, PredictConfig)
    add_model_options(parser, PredictConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    model = model_arguments(args)
    config = collect(args, PredictConfig)
    if config.stdin0 and args.files:
        raise usage_error("--stdin0 reads paths from stdin, but paths are given as arguments; remove one of them")
    if config.visualize and is_remote(config.visualize):
        raise usage_error(f"--visualize {config.visualize}: remote storage cannot hold pictures; name a local "
                          "directory")
    parts = _parts(args, config)
    quiet_tensorflow()
    with at_once():
        from aocr.tasks.predict import Pictures, read_files
        from aocr.tasks.review import check_review, review_in

    form, watchers = FORMS[config.output_format], []
    delimiter = check_review(config.review, args.files) if config.review else ""
    with contextlib.ExitStack() as stack:
        reader, opened = _open(args, model, config, form, stack)
        if config.review:
            review = stack.enter_context(review_in(config.review, delimiter, config.min_confidence))
            watchers.append(lambda reading: review.add(reading.path, reading.result))
        if config.visualize:
            watchers.append(Pictures(config.visualize, opened).draw)
        readings = stack.enter_context(contextlib.closing(read_files(reader, parts)))
        return report(readings, form, watchers)


def _parts(args, config) -> Iterator[list[str]]:
    """Yields the paths to read, in the parts in which they arrive. UserError if a list or stdin cannot be read."""
    from aocr.tasks.paths import check_lists, image_paths, parts_of, waiting_parts

    if args.files:
        check_lists(args.files)
        return parts_of(image_paths(args.files, config.recursive), config.batch_size)
    return waiting_parts(standard_input(), config.batch_size, b"\0" if config.stdin0 else b"\n")


def _open(args, model, config, form, stack):
    """Returns the Reader and its Model, which `stack` closes."""
    with at_once():
        from aocr.checkpoint import find_model
        from aocr.reading.engines import ModelEngine
        from aocr.reading.reader import Reader

    place, given, charset = model
    trained = find_model(place.model_dir, given, charset, collect(args, CheckpointConfig).checkpoint, config.decoding)
    engine = ModelEngine(trained, session_config(place.gpu_id))
    return stack.enter_context(Reader(engine, details=form.details, batch_size=config.batch_size)), engine.model


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
