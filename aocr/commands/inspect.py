"""Describe a dataset: labels, characters, sizes, formats, duplicates, and the train flags that fit all of it.

--sheet draws labelled samples for visual inspection.
"""

import argparse
import json

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow
from aocr.commands.streams import write
from aocr.config import InspectConfig
from aocr.ending import at_once

HELP = "describe a dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset made by `aocr dataset`, or a glob pattern such as 'data-*.tfrecords'")
    add_options(parser, InspectConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, InspectConfig)
    quiet_tensorflow()
    with at_once():
        from aocr.tasks.inspect import as_text, inspect

    facts = inspect(args.dataset, config)
    write(json.dumps(facts, ensure_ascii=False, indent=2) if config.json else as_text(facts))
    return 0
