"""The forms in which `predict` writes results."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aocr.commands.streams import one_line

if TYPE_CHECKING:
    from aocr.reading.results import ReadResult


class Form(NamedTuple):
    """How results are written."""

    line: "Callable[[str, ReadResult], str]"  # path, result -> a line, without its end
    header: str = ""  # first line, if any
    broken: bool = False  # whether images that cannot be read have a line too
    details: bool = False  # whether the characters are written


def _tsv(path, result):
    return "\t".join(one_line(field, tabs=False) for field in (path, f"{result.confidence:.6f}", result.text))


def _csv(path, result):
    return _quoted((path, "" if result.error else f"{result.confidence:.6f}", result.text, result.error or ""))


def _quoted(fields: Sequence[str]) -> str:
    """Returns a line of a CSV file."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _json(path, result):
    return json.dumps(dict(path=path, **result.as_dict()), ensure_ascii=False)


def _text(path, result):
    return one_line(result.text)


FORMS = {
    "tsv": Form(_tsv),
    "csv": Form(_csv, header="path,confidence,text,error", broken=True),
    "jsonl": Form(_json, broken=True, details=True),
    "text": Form(_text),
}
