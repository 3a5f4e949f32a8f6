"""Writes a report's files: samples as they come, the rest at the end."""

import contextlib
import csv
import json
import math
import posixpath
from collections.abc import Iterator
from typing import Any

import numpy as np

import aocr
from aocr.errors import UserError
from aocr.evaluation.analysis import Analysis, Sample
from aocr.evaluation.report.gallery import DrawnSteps, Gallery
from aocr.files import cause, make_directory, new_text_file, os_errors, write_text

SAMPLES, TABLE, METRICS_NAME, PAGE = "samples.jsonl", "samples.csv", "metrics.json", "report.html"
FORMAT_VERSION = 1
COLUMNS = ("record", "image", "label", "text", "confidence", "exact", "edits", "insertions", "deletions",
           "substitutions", "loss")


class Report:
    """The report of one test."""

    def __init__(self, directory: str, samples: Any, table: Any):
        """`samples`, `table`: text files to write to."""
        self._directory, self._samples, self._gallery = directory, samples, Gallery()
        self._table = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        self._table.writeheader()

    def add(self, sample: Sample, encoded: bytes, attention: np.ndarray, drawn_steps: DrawnSteps) -> None:
        """Adds a sample; the other arguments as of Gallery.add."""
        values = as_values(sample)
        confidences = [finite(confidence) for confidence in sample.confidences]
        line = json.dumps(dict(values, character_confidences=confidences), ensure_ascii=False)
        with _writing(self._directory):
            self._samples.write(line + "\n")
            self._table.writerow(values)
        self._gallery.add(sample, encoded, attention, drawn_steps)

    def finish(self, facts: dict[str, Any], metrics: dict[str, float], analysis: Analysis) -> None:
        """Writes metrics.json and report.html.

        Args: facts: on the test, by name; they stand in metrics.json beside the metrics.
        """
        from aocr.evaluation.report.page import render

        head = dict(format_version=FORMAT_VERSION, aocr_version=aocr.__version__, **facts)
        known = {name: finite(value) for name, value in metrics.items()}
        content = json.dumps(dict(**head, metrics=known, **analysis.as_dict()), ensure_ascii=False, indent=1)
        page = render(head, metrics, analysis, self._gallery)
        with _writing(self._directory):
            write_text(posixpath.join(self._directory, METRICS_NAME), content + "\n")
            write_text(posixpath.join(self._directory, PAGE), page)


def as_values(sample: Sample) -> dict[str, Any]:
    """Returns a sample's line of samples.csv: COLUMNS by name."""
    counts = sample.edit_counts
    return dict(record=sample.record, image=sample.image, label="".join(sample.label), text="".join(sample.text),
                confidence=finite(sample.confidence), exact=sample.exact, edits=sum(counts), **counts._asdict(),
                loss=finite(sample.loss))


def finite(value: float) -> float | None:
    """Returns a number for JSON, which lacks NaN and infinity: None for them."""
    return round(value, 9) if math.isfinite(value) else None


def check_packages() -> None:
    """Raises UserError if a package is missing that reports need."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(f"--report needs the packages jinja2 and matplotlib ({error}); in the aocr source tree, run "
                        "pip install '.[report]'") from None


@contextlib.contextmanager
def report_in(directory: str | None) -> Iterator[Report | None]:
    """Yields a Report, whose samples appear when the block succeeds; None without a directory.

    The directory is created if missing. Raises: UserError if a package is missing or a file cannot be written.
    """
    if not directory:
        yield None
        return
    check_packages()
    with contextlib.ExitStack() as files:
        with _writing(directory):
            make_directory(directory)
            samples, table = (files.enter_context(new_text_file(posixpath.join(directory, name)))
                              for name in (SAMPLES, TABLE))
            report = Report(directory, samples, table)
        yield report
        with _writing(directory):
            files.close()


@contextlib.contextmanager
def _writing(directory):
    """Raises UserError if a file of the report cannot be written in the block."""
    try:
        with os_errors(directory):
            yield
    except OSError as error:
        raise UserError(f"--report {directory}: cannot be written: {cause(error)}; name another directory") from None
