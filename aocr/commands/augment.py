"""Draw a sheet of augmented images, to preview --augment.

Each row shows one image of the dataset as the network sees it, followed by its variants.
"""

import argparse

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import print_values, quiet_tensorflow
from aocr.config import AugmentConfig
from aocr.ending import at_once

HELP = "draw a sheet of augmented images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset made by `aocr dataset`, or a glob pattern such as 'data-*.tfrecords'")
    parser.add_argument("output", metavar="OUT.png", help="image to write")
    add_options(parser, AugmentConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, AugmentConfig)
    quiet_tensorflow()
    with at_once():
        from aocr.tasks.preview import make_sheet

    samples = make_sheet(args.dataset, args.output, config)
    print_values(dict(samples=samples, sheet=args.output))
    return 0
