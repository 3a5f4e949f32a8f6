"""Compare two tests on the same samples: two reports of `aocr test --report`, or with --dataset two models.

Prints which metrics differ, with intervals of a paired bootstrap, and the samples that are read differently: fixed,
broken, and wrong in another way.
"""

import argparse

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow, session_config
from aocr.config import CheckpointConfig, CompareConfig

HELP = "compare two tests, or two models on a dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    for name in ("A", "B"):
        parser.add_argument(name.lower(), metavar=name,
                            help="report directory or its metrics.json; with --dataset, a model directory")
    add_options(parser, CompareConfig)
    add_options(parser, CheckpointConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, CompareConfig)
    from aocr.tasks.compare import as_text, compare_tests, of_report

    if config.dataset:
        before, after = _tested(args, config)
    else:
        before, after = of_report(args.a), of_report(args.b)
    print(as_text(before, after, compare_tests(before, after, config), config.count))
    return 0


def _tested(args, config):
    quiet_tensorflow(in_batches=True)
    from aocr.checkpoint import find_model
    from aocr.tasks.compare import of_models

    which = collect(args, CheckpointConfig).checkpoint
    models = [(name, find_model(name, {}, which=which, decoding=config.decoding)) for name in (args.a, args.b)]
    return of_models(config.dataset, models, config, session_config(config.gpu_id))
