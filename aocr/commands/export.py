"""Export a trained model for serving, as a SavedModel or a frozen graph.

The SavedModel has the tag `serve` and the signature `serving_default`: `input` (encoded images) -> `output` (texts)
and `probability`, both in the shape of the input. With --model-version N it is written to DIR/N, where TensorFlow
Serving finds it. Before an export appears, another process runs it and compares its answers with the checkpoint's.
"""

import argparse

from aocr.commands.flags import add_model_options, add_options, collect
from aocr.commands.runtime import model_arguments, print_values, quiet_tensorflow, session_config
from aocr.config import CheckpointConfig, ExportConfig, PlaceConfig
from aocr.ending import at_once

HELP = "export a model for serving"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("directory", metavar="DIR", nargs="?", default="exported",
                        help="directory to write (default: %(default)s)")
    add_options(parser, PlaceConfig)
    add_options(parser, CheckpointConfig)
    add_options(parser, ExportConfig)
    add_model_options(parser, ExportConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    place, given, charset = model_arguments(args)
    config = collect(args, ExportConfig)
    quiet_tensorflow()
    with at_once():
        from aocr.checkpoint import find_model
        from aocr.tasks import export

    target = export.target_of(args.directory, config)
    trained = find_model(place.model_dir, given, charset, collect(args, CheckpointConfig).checkpoint,
                         config.decoding)
    search = trained.search(config)
    with trained.open(search=search, details=True, session_config=session_config(place.gpu_id)) as model:
        print_values(export.export(model, target, config))
    return 0
