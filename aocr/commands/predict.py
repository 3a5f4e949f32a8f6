"""Read images with a trained model.

Prints one line per file: path, probability and text, separated by tabs, in the order given. A file that cannot be read
yields one line on stderr and an exit code of 1 at the end. Without FILE arguments, paths are read from stdin, one per
line, and processed as they arrive.
"""

import argparse
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aocr.commands.flags import add_model_options, add_options, collect, given, warn_without_effect
from aocr.commands.runtime import model_arguments, quiet_tensorflow, session_config
from aocr.commands.streams import standard_input, write_line
from aocr.config import CheckpointConfig, ModelConfig, PlaceConfig, PredictConfig, ServerConfig, flag_of
from aocr.ending import at_once
from aocr.errors import usage_error

if TYPE_CHECKING:
    from aocr.prediction import FilePrediction

log = logging.getLogger(__name__)

WITH_SERVER = ("max_pixels", "background")  # options of a model that prepare images, wherever they are read

HELP = "read images with a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="*", help="images (default: paths on stdin)")
    add_options(parser, PlaceConfig)
    add_options(parser, CheckpointConfig)
    add_options(parser, PredictConfig)
    add_options(parser, ServerConfig)
    add_model_options(parser, PredictConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    server = collect(args, ServerConfig)
    if server.server is not None:
        return _read_by_server(args, server)
    for name in given(args, ServerConfig):
        raise usage_error(f"{flag_of(ServerConfig, name)} needs --server; add it")
    place, chosen, charset = model_arguments(args)
    config = collect(args, PredictConfig)
    lines = None if args.files else standard_input()
    quiet_tensorflow()
    with at_once():
        from aocr.checkpoint import find_model
        from aocr.tasks.predict import predict_files, predict_lines

    trained = find_model(place.model_dir, chosen, charset, collect(args, CheckpointConfig).checkpoint,
                         config.decoding)
    with trained.open(session_config=session_config(place.gpu_id)) as model:
        found = (predict_lines(model, lines, config.batch_size) if lines
                 else predict_files(model, args.files, config.batch_size))
        return report(found)


def _read_by_server(args, server):
    """Reads with the model of a server, without TensorFlow here. Returns the exit code."""
    _check_for_server(args)
    warn_without_effect(args)
    limits, size = collect(args, ModelConfig), collect(args, PredictConfig).batch_size
    lines = None if args.files else standard_input()
    from aocr.client.server import ModelServer
    from aocr.tasks.image_batches import chunks_of, read_chunks, waiting_lines

    with ModelServer(server) as model:
        chunks = waiting_lines(lines, size) if lines else chunks_of(args.files, size)
        return report(read_chunks(chunks, limits, model.read_images))


def _check_for_server(args):
    """Raises UserError if an option chooses a model here, or changes it."""
    flags = [flag_of(options, name) for options in (PlaceConfig, CheckpointConfig, ModelConfig)
             for name in given(args, options) if name not in WITH_SERVER]
    flags += [flag_of(PredictConfig, "decoding")] if "decoding" in given(args, PredictConfig) else []
    flags += [f"--{name.replace('_', '-')}" for name in ("full_ascii", "charset") if hasattr(args, name)]
    if flags:
        raise usage_error(f"--server and {flags[0]} are mutually exclusive, since the server's model is what it was "
                          "exported as; use one of them")


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
