"""Read images with a trained model.

Prints one line per file: path, probability and text, separated by tabs, in the order given. A file that cannot be read
yields one line on stderr and an exit code of 1 at the end. Without FILE arguments, paths are read from stdin, one per
line, and processed as they arrive.
"""

import argparse
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aocr.commands.flags import add_model_options, add_options, collect
from aocr.commands.runtime import model_arguments, quiet_tensorflow, session_config
from aocr.commands.streams import standard_input, write_line
from aocr.config import CheckpointConfig, PlaceConfig, PredictConfig
from aocr.ending import at_once

if TYPE_CHECKING:
    from aocr.tasks.predict import FilePrediction

log = logging.getLogger(__name__)

HELP = "read images with a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="*", help="images (default: paths on stdin)")
    add_options(parser, PlaceConfig)
    add_options(parser, CheckpointConfig)
    add_options(parser, PredictConfig)
    add_model_options(parser, PredictConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    place, given, charset = model_arguments(args)
    config = collect(args, PredictConfig)
    lines = None if args.files else standard_input()
    quiet_tensorflow()
    with at_once():
        from aocr.checkpoint import find_model
        from aocr.tasks.predict import predict_files, predict_lines

    trained = find_model(place.model_dir, given, charset, collect(args, CheckpointConfig).checkpoint,
                         config.decoding)
    with trained.open(search=trained.search(config), session_config=session_config(place.gpu_id)) as model:
        found = (predict_lines(model, lines, config.batch_size) if lines
                 else predict_files(model, args.files, config.batch_size))
        return report(found)


def report(predictions: "Iterable[FilePrediction]") -> int:
    """Prints each prediction, or logs its problem. Returns the exit code. Raises: as `streams.write_line`."""
    code = 0
    for path, text, probability, problem in predictions:
        if problem:
            log.error("%s: %s", path, problem)
            code = 1
        else:
            log.info("Result: OK. %.2f %s", probability, text)
            write_line(path, f"{probability:.6f}", text)
    return code
