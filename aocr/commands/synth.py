"""Draw words to train on: images, and the annotation file for `aocr dataset`.

Words come from a list or a pattern. An image depends only on the seed, its number and the options, so runs are
reproducible with any number of processes.
"""

import argparse

from aocr.commands.flags import add_options, collect, given
from aocr.commands.runtime import print_values
from aocr.config import SynthConfig
from aocr.ending import at_once
from aocr.errors import usage_error

HELP = "draw words to train on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("directory", metavar="OUT", help="new or empty directory for the images and annotations.txt")
    add_options(parser, SynthConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, SynthConfig)
    if {"words", "pattern"} <= given(args, SynthConfig).keys():
        raise usage_error("--words and --pattern are mutually exclusive; use one of them")
    with at_once():
        from aocr.synth.generate import make_words

    annotations = make_words(args.directory, config)
    print_values(dict(images=config.count, annotations=annotations))
    return 0
