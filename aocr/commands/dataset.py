"""Make a dataset (a TFRecord file) from annotated images.

Each line of ANNOTATIONS is an image's path, one blank, and its label (which may hold blanks, or be empty), in UTF-8.
Paths are relative to the working directory. Lines that cannot be used are reported with their number and reason,
skipped and counted.
"""

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import DatasetConfig

HELP = "make a dataset from annotated images"


def add_arguments(parser):
    """The command's arguments."""
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="text file: a path and a label a line")
    parser.add_argument("output", metavar="OUTPUT", nargs="?", default="./dataset.tfrecords",
                        help="dataset to write (default: %(default)s)")
    add_options(parser, DatasetConfig)


def run(args):
    """Runs the command; returns the exit code."""
    config = collect(args, DatasetConfig)
    quiet_tensorflow()
    from aocr.data.annotations import make_dataset

    counts = make_dataset(args.annotations, args.output, config)
    print(f"records: {counts.written}\nskipped: {counts.skipped}\ndataset: {args.output}")
    return 0
