"""Test a trained model on a dataset.

Prints the metrics, one `name: value` per line. The log has a line per sample.
"""

import argparse
import logging
import posixpath

from aocr.commands.flags import add_model_options, add_options, collect
from aocr.commands.runtime import (
    model_arguments,
    print_values,
    quiet_tensorflow,
    session_config,
    warn_of_slow_precision,
)
from aocr.config import CheckpointConfig, PlaceConfig, TestConfig
from aocr.ending import at_once
from aocr.errors import usage_error
from aocr.files import is_remote

HELP = "test a model on a dataset"
log = logging.getLogger(__name__)

FORMATS = {"seconds": ".3f", "images_per_second": ".1f"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset made by `aocr dataset`, or a glob pattern such as 'data-*.tfrecords'")
    add_options(parser, PlaceConfig)
    add_options(parser, CheckpointConfig)
    add_options(parser, TestConfig, "testing")
    add_model_options(parser, TestConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    place, given, charset = model_arguments(args)
    config = collect(args, TestConfig)
    if config.visualize and is_remote(config.output_dir):
        raise usage_error(f"--output-dir is {config.output_dir}; remote storage cannot hold attention images; name a "
                          "local directory")
    from aocr.evaluation.limits import missed, parse_limits

    limits = parse_limits(config.fail_under)
    if config.report:
        from aocr.evaluation.report.writer import PAGE, check_packages

        check_packages()
    quiet_tensorflow(in_batches=True)
    with at_once():
        from aocr.checkpoint import find_model
        from aocr.tasks.test import test

    warn_of_slow_precision(config.precision, place.gpu_id)
    trained = find_model(place.model_dir, given, charset, collect(args, CheckpointConfig).checkpoint,
                         config.decoding)
    result = test(args.dataset, trained, config, session_config(place.gpu_id))
    values = result._asdict()
    metrics, calibration = values.pop("metrics"), values.pop("calibration")
    seconds = {name: values.pop(name) for name in FORMATS}
    print_values({**values, **metrics, **calibration, **seconds}, FORMATS)
    if config.report:
        log.info("report: %s", posixpath.join(config.report, PAGE))
    if problem := missed(limits, metrics):
        log.error("%s", problem)
        return 1
    return 0
