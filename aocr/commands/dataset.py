"""Make a dataset (TFRecord files) from annotated images.

An input is a text file of lines (an image's path, a tab or blank, its label), a .tsv, .csv or .jsonl table, a directory
of images with their labels in files beside them or in their names, a dataset, a pattern of several, or - for standard
input. The last path is the output, unless there is one path only.

Relative paths lead from the working directory, else from the annotation file's directory, else from --image-root. Rows
that cannot be used are reported with their line and reason, skipped and counted. Images that TensorFlow does not read,
or reads otherwise than they are shown, are stored as PNG. Beside each file, FILE.json tells what it holds.
"""

import argparse

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import DatasetConfig
from aocr.errors import UserError

HELP = "make a dataset from annotated images"
OUTPUT = "./dataset.tfrecords"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("paths", metavar="INPUT", nargs="+",
                        help=f"annotations, and last the OUTPUT to write (default: {OUTPUT})")
    add_options(parser, DatasetConfig)


def _beam():
    """The module that builds on Apache Beam. UserError if that is not installed."""
    try:
        from aocr.data import beam
    except ImportError as error:
        raise UserError(f"--runner needs Apache Beam ({error}): in aocr's sources, pip install '.[beam]'") from None
    return beam


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, DatasetConfig)
    inputs, output = (args.paths[:-1], args.paths[-1]) if len(args.paths) > 1 else (args.paths, OUTPUT)
    quiet_tensorflow()
    if config.runner:
        counts, parts = _beam().make_dataset(inputs, output, config, beam_arguments=args.others)
    else:
        from aocr.data.build import make_dataset

        counts, parts = make_dataset(inputs, output, config)
    print(f"records: {counts.written}\nskipped: {counts.skipped}")
    for part in parts:
        print(f"dataset: {part.pattern}")
    return 0
