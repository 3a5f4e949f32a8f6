"""Draw a sheet of augmented images, to see what training with --augment would see.

Each row shows one image of the dataset as the network sees it, and to its right variants of it.
"""

import argparse

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import AugmentConfig

HELP = "draw a sheet of augmented images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset that `aocr dataset` made, or a pattern ('data-*.tfrecords') of several")
    parser.add_argument("output", metavar="OUT.png", help="picture to write")
    add_options(parser, AugmentConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, AugmentConfig)
    quiet_tensorflow()
    from aocr.sheet import make_sheet

    samples = make_sheet(args.dataset, args.output, config)
    print(f"samples: {samples}\nsheet: {args.output}")
    return 0
