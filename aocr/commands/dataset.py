"""Make a dataset (TFRecord files) from annotated images.

An input is a text file of lines (image path, tab or space, label), a .tsv, .csv, .jsonl or .json table, a directory of
images with such a list, with label files beside them or with labels in the file names, a dataset, a glob pattern of
these, or - for stdin. The last path is the output, unless it is the only one.

Relative paths are resolved against the working directory, then the annotation file's directory, then --image-root.
Unusable rows are reported with line and reason, skipped and counted. Images that TensorFlow cannot read, or decodes
differently from how they are displayed, are stored as PNG. FILE.json beside each file describes its contents.
"""

import argparse

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import print_values, quiet_tensorflow
from aocr.commands.streams import standard_input
from aocr.config import DatasetConfig
from aocr.data.rows import STDIN
from aocr.ending import at_once
from aocr.errors import UserError

HELP = "make a dataset from annotated images"
OUTPUT = "./dataset.tfrecords"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("paths", metavar="INPUT", nargs="+",
                        help=f"annotations, followed by the OUTPUT to write (default: {OUTPUT})")
    add_options(parser, DatasetConfig)


def _beam():
    """Returns the module that builds with Apache Beam. UserError if Beam is not installed."""
    try:
        with at_once():
            from aocr.data import beam
    except ImportError as error:
        raise UserError(f"--runner needs Apache Beam ({error}); run pip install '.[beam]' in aocr's sources") from None
    return beam


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, DatasetConfig)
    inputs, output = (args.paths[:-1], args.paths[-1]) if len(args.paths) > 1 else (args.paths, OUTPUT)
    quiet_tensorflow()
    if config.runner:
        counts, parts = _beam().make_dataset(inputs, output, config, beam_arguments=args.others)
    else:
        with at_once():
            from aocr.data.build import make_dataset

        counts, parts = make_dataset(inputs, output, config, standard_input() if STDIN in inputs else None)
    print_values(dict(records=counts.written, skipped=counts.skipped))
    for part in parts:
        print_values(dict(dataset=part.pattern))
    return 0
