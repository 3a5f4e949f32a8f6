"""Draw words to train on: images, and the annotation file that `aocr dataset` reads.

Words are drawn from a list or a pattern. An image depends on the seed, its number and the options alone, so a run can
be repeated with any number of processes.
"""

import argparse

from aocr.commands.flags import add_options, collect, given
from aocr.config import SynthConfig
from aocr.errors import usage_error

HELP = "draw words to train on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("directory", metavar="OUT", help="directory for the images and annotations.txt, new or empty")
    add_options(parser, SynthConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, SynthConfig)
    if {"words", "pattern"} <= given(args, SynthConfig).keys():
        raise usage_error("--words and --pattern exclude each other; give one of them")
    from aocr.data.synth import make_words

    annotations = make_words(args.directory, config)
    print(f"images: {config.count}\nannotations: {annotations}")
    return 0
