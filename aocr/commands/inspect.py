"""Tell what is in a dataset: labels, characters, sizes, formats, duplicates, and the flags that lose nothing of it.

--sheet draws samples with their labels, for a person to look over.
"""

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import InspectConfig

HELP = "tell what is in a dataset"


def add_arguments(parser):
    """The command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset that `aocr dataset` made, or a pattern ('data-*.tfrecords') of several")
    add_options(parser, InspectConfig)


def run(args):
    """Runs the command; returns the exit code."""
    config = collect(args, InspectConfig)
    quiet_tensorflow()
    from aocr.inspection import inspect

    inspect(args.dataset, config)
    return 0
