"""Describe a dataset: labels, characters, sizes, formats, duplicates, and the flags that lose nothing of it.

--sheet draws samples with their labels, for a person to look over.
"""

import argparse
import json

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import InspectConfig

HELP = "describe a dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset that `aocr dataset` made, or a pattern ('data-*.tfrecords') of several")
    add_options(parser, InspectConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, InspectConfig)
    quiet_tensorflow()
    from aocr.inspection import as_text, inspect

    facts = inspect(args.dataset, config)
    print(json.dumps(facts, ensure_ascii=False, indent=2) if config.json else as_text(facts))
    return 0
