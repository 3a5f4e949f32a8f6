"""Compares two tests: two reports, or two models on a dataset."""

import dataclasses
import logging
import math
import posixpath
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from aocr.charset import splitter
from aocr.config import CompareConfig, SearchConfig, TestConfig
from aocr.errors import UserError
from aocr.evaluation.analysis import Sample
from aocr.evaluation.comparison import COVERED, Comparison, Reading, compare, compare_metrics
from aocr.evaluation.report.writer import METRICS_NAME, SAMPLES
from aocr.files import cause, exists, load_json, read_bytes

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

    from aocr.checkpoint import Trained

log = logging.getLogger(__name__)

KINDS = {"fixed": "fixed", "broken": "broken", "other": "wrong in another way"}


class Tested(NamedTuple):
    """A test to compare."""

    name: str
    graphemes: bool
    metrics: dict[str, float]
    readings: dict[int, Reading] | None  # by record; None if the samples are unknown


def of_report(path: str) -> Tested:
    """Reads a report directory, or its metrics.json. UserError if it is none."""
    directory = posixpath.dirname(path) if path.endswith(".json") else path
    metrics_path = path if path.endswith(".json") else posixpath.join(path, METRICS_NAME)
    try:
        facts = load_json(read_bytes(metrics_path))
        metrics = {name: _number(value) for name, value in facts["metrics"].items()}
    except OSError as error:
        raise UserError(f"{metrics_path}: cannot be read: {cause(error)}; make a report with `aocr test DATASET "
                        "--report DIR`, or compare model directories with --dataset") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{metrics_path}: not the metrics of a report; make it again with `aocr test DATASET --report "
                        "DIR`") from None
    return Tested(path, bool(facts.get("graphemes")), metrics, _readings(posixpath.join(directory, SAMPLES)))


def of_models(dataset: str, models: "Iterable[tuple[str, Trained]]", config: CompareConfig,
              session_config: "tf.ConfigProto") -> list[Tested]:
    """Tests models, with their names, on a dataset. UserError as of tasks.test."""
    from aocr.tasks.test import test

    shared = [field.name for field in dataclasses.fields(SearchConfig)]
    how = TestConfig(batch_size=config.batch_size, decoding=config.decoding,
                     **{name: getattr(config, name) for name in shared})
    results = []
    for name, trained in models:
        readings: dict[int, Reading] = {}
        log.info("testing %s", name)
        result = test(dataset, trained, how, session_config, observe=_into(readings))
        results.append(Tested(name, trained.config.graphemes, result.metrics, readings))
    return results


def _into(readings: dict[int, Reading]) -> Callable[[Sample], None]:
    """Returns a function that adds a Sample to some readings."""
    def observe(sample):
        readings[sample.record] = Reading(sample.record, sample.image, "".join(sample.label), "".join(sample.text),
                                          sample.confidence, sample.loss)
    return observe


def compare_tests(before: Tested, after: Tested, config: CompareConfig) -> Comparison:
    """Compares two tests; without intervals and samples if those of one are unknown.

    Raises: UserError if they are not of the same samples.
    """
    if before.readings is None or after.readings is None:
        log.warning("there is no %s beside the metrics; comparing without intervals and samples", SAMPLES)
        return Comparison(0, compare_metrics(before.metrics, after.metrics), (), (), ())
    shared = sorted(before.readings.keys() & after.readings.keys())
    pairs = [(before.readings[record], after.readings[record]) for record in shared]
    for a, b in pairs:
        if a.label != b.label:
            raise UserError(f"record {a.record} has the label {a.label!r} in {before.name}, but {b.label!r} in "
                            f"{after.name}; compare tests of one dataset")
    if not pairs:
        raise UserError(f"{before.name} and {after.name} have no samples in common; compare tests of one dataset")
    for tested in (before, after):
        if lonely := len(tested.readings or ()) - len(pairs):
            log.warning("%d samples are in %s only, and are left out", lonely, tested.name)
    return compare(pairs, splitter(before.graphemes or after.graphemes), config.resamples, config.seed)


def _readings(path):
    """Reads the samples of a report; None if there are none. UserError if a line is not a sample."""
    try:
        if not exists(path):
            return None
        lines = read_bytes(path).splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {cause(error)}") from None
    return {reading.record: reading for reading in (_reading(path, k, line) for k, line in enumerate(lines, 1))}


def _reading(path, number, line):
    try:
        values = load_json(line)
        return Reading(int(values["record"]), str(values["image"]), str(values["label"]), str(values["text"]),
                       _number(values["confidence"]), _number(values["loss"]))
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: line {number} is not a sample; make the report again with `aocr test DATASET "
                        "--report DIR`") from None


def _number(value):
    return math.nan if value is None else float(value)


def as_text(before: Tested, after: Tested, comparison: Comparison, count: int) -> str:
    """Formats a comparison for people; `count`: samples of each kind to list."""
    lines = [f"A: {before.name}", f"B: {after.name}"]
    if comparison.samples:
        lines.append(f"samples: {comparison.samples}")
    lines += ["", *_table(comparison.differences)]
    if comparison.samples:
        for kind, title in KINDS.items():
            lines += ["", *_changes(title, getattr(comparison, kind), count)]
    return "\n".join(lines)


def _table(differences):
    head = ("metric", "A", "B", "B - A", f"{COVERED}% interval", "B is")
    rows = [head, *((d.name, f"{d.before:.6f}", f"{d.after:.6f}", f"{d.after - d.before:+.6f}",
                     "{:+.6f} to {:+.6f}".format(*d.interval) if d.interval else "unknown", d.verdict)
                    for d in differences)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _changes(title, pairs, count):
    """Returns lines on changed samples, the first `count` of them."""
    lines = [f"{title}: {len(pairs)}"]
    lines += [f"  record {a.record}{f' ({a.image})' if a.image else ''}, label {a.label!r}: {a.text!r} -> {b.text!r}"
              for a, b in pairs[:count]]
    if len(pairs) > count:
        lines.append(f"  ... and {len(pairs) - count} more")
    return lines
