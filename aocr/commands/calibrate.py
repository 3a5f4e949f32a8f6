"""Calibrate a trained model: fit a temperature that makes its confidences right as often as they say.

The temperature is stored in the model directory; texts and their order by confidence stay the same. Use a dataset that
the model was not trained on.
"""

import argparse

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import print_values, quiet_tensorflow, session_config
from aocr.config import CalibrateConfig, PlaceConfig
from aocr.ending import at_once

HELP = "make the confidences of a model fit a dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset made by `aocr dataset`, or a glob pattern such as 'data-*.tfrecords'")
    add_options(parser, PlaceConfig)
    add_options(parser, CalibrateConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    place, config = collect(args, PlaceConfig), collect(args, CalibrateConfig)
    quiet_tensorflow(in_batches=True)
    with at_once():
        from aocr.tasks.calibrate import calibrate

    result = calibrate(args.dataset, place.model_dir, config, session_config(place.gpu_id))
    print_values(result._asdict())
    return 0
