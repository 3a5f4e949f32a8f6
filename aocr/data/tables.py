"""Reads tables: .csv with quoted fields, .tsv without."""

import collections
import csv
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aocr.data.listing import is_image
from aocr.data.rows import LABEL_NAMES, PATH_NAMES, BadRow, Rejected, Row, decode
from aocr.errors import UserError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
TOLD = re.compile(r"\s*\"?sep=(.)\"?\s*")  # a first line of Excel's
LONGEST_RECORD = 200  # lines that a quoted field may run on over
QUOTING = "quote fields with a delimiter, a quote or a line break, and double the quotes in them"


class Columns(NamedTuple):
    """Where a table holds paths and labels."""

    path: int
    label: int
    width: int | None  # number of fields; None if unknown
    names: list[str] | None = None  # fields of the header, None without one
    raw: bytes | None = None  # the header's line


def read_csv(source: str, lines: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """Yields the rows of a table whose delimiter its first line tells. `lines`: in UTF-8, without line ends.

    Quoted fields may contain delimiters, quotes and line breaks. Raises UserError for an ambiguous header.
    """
    ahead = _Lines(lines)
    while (head := ahead.look(0)) and not head[1].strip():
        ahead.take(1)
    if not head:
        return
    first = head[1].decode("utf-8", "replace")
    if told := TOLD.fullmatch(first):
        ahead.take(1)
    delimiter = told[1] if told else _delimiter(first)
    yield from _table(source, _csv_records(ahead, delimiter), delimiter)


def read_tsv(source: str, lines: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """As `read_csv`, of a tab-separated table without quoting."""
    yield from _table(source, _tsv_records(lines), "\t")


def header_columns(source: str, fields: list[str]) -> tuple[int, int] | None:
    """Returns the places of path and label in a header, None if the fields are no header.

    Of two fields, the name of the first one is enough. Raises UserError if the column of labels cannot be told.
    """
    names = [field.strip().strip('"').lower() for field in fields]
    path, label = (next((names.index(name) for name in known if name in names), None)
                   for known in (PATH_NAMES, LABEL_NAMES))
    if path is None or len(names) < 2 or any(map(is_image, names)):
        return None
    if label is None and len(names) > 2:
        raise UserError(f"{source}: the header ({', '.join(fields)}) does not tell which column holds the labels; "
                        f"name that column {LABEL_NAMES[0]}")
    return path, 1 - path if label is None else label


def _delimiter(first):
    """Returns the delimiter of a table by its first line: of a header, else of a row, else a comma."""
    for delimiter in DELIMITERS:
        fields = [field.strip().strip('"').lower() for field in first.split(delimiter)]
        if len(fields) > 1 and set(fields) & {*PATH_NAMES, *LABEL_NAMES}:
            return delimiter
    return next((delimiter for delimiter in DELIMITERS if _holds_image(first.split(delimiter)[:-1])), ",")


def _holds_image(fields):
    return any(is_image(field.strip().strip('"')) for field in fields)


class _Lines:
    """Numbered lines (from 1) with a look ahead."""

    def __init__(self, lines: Iterable[bytes]):
        self._lines, self._ahead = enumerate(lines, 1), collections.deque()

    def look(self, place: int) -> tuple[int, bytes] | None:
        """Returns (number, line) of a line ahead, the next one for 0; None after the end."""
        while len(self._ahead) <= place:
            try:
                self._ahead.append(next(self._lines))
            except StopIteration:
                return None
        return self._ahead[place]

    def take(self, count: int) -> list[bytes]:
        """Removes the next lines and returns them."""
        return [self._ahead.popleft()[1] for _ in range(count)]


class _Open(Exception):
    """Raised if a quoted field has no end."""


def _csv_records(lines, delimiter):
    """Yields (line number, raw lines, fields or BadRow)."""
    while first := lines.look(0):
        count, fields = _csv_record(lines, delimiter)
        raw = b"\n".join(lines.take(count))
        if raw.strip():
            yield first[0], raw, fields


def _csv_record(lines, delimiter):
    """Returns (number of lines, fields or BadRow) of the next record.

    A quote that is not closed before the next row begins is a typing error in the first line, and costs only that.
    """
    text, problem = [], BadRow("bad CSV", "a quotation mark opens a field that does not end; close it, or double it "
                                          "within quotes if it is part of the text")
    for count in range(LONGEST_RECORD):
        following = lines.look(count)
        if not following or count and _begins_row(following[1], delimiter):
            break
        text.append(following[1].decode("utf-8", "surrogateescape"))
        try:
            fields = _fields(text, delimiter)
            for field in fields:
                decode(field.encode("utf-8", "surrogateescape"))
            return count + 1, fields
        except _Open:
            continue
        except csv.Error as error:
            problem = problem if count else BadRow("bad CSV", f"{error}; {QUOTING}")
            break
        except BadRow as error:
            return count + 1, error
    return 1, problem


def _begins_row(line, delimiter):
    """Returns whether a line that may continue a quoted field looks like another row: in front of any quote, one of
    its fields is the path of an image."""
    head, quote, _ = line.decode("utf-8", "replace").partition('"')
    fields = head.split(delimiter)
    return len(fields) > 1 and _holds_image(fields[:-1] if quote else fields)


def _fields(lines, delimiter):
    """Returns the fields of a record. Raises _Open and csv.Error."""
    def feed():
        yield from (line + "\n" for line in lines)
        raise _Open

    try:
        return next(csv.reader(feed(), strict=True, delimiter=delimiter, skipinitialspace=True))
    except (_Open, csv.Error):
        if len(lines) > 1 or '\\"' not in lines[0]:
            raise
        return next(csv.reader(feed(), strict=True, delimiter=delimiter, skipinitialspace=True, escapechar="\\"))


def _tsv_records(lines):
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, line, decode(line).split("\t")
            except BadRow as error:
                yield number, line, error


def _table(source, records, delimiter):
    """Yields the rows of a table; a first record that names a path or a label column is a header."""
    columns = None
    for number, raw, fields in records:
        try:
            if isinstance(fields, BadRow):
                raise fields
            if columns is None:
                columns = _columns(source, fields, raw)
            if fields != columns.names:  # a file joined from others repeats its header
                path, label = _path_and_label(fields, raw, columns, delimiter)
                yield Row(source, number, raw, label, path, header=columns.raw)
        except BadRow as error:
            yield Rejected(source, number, raw, *error.args, columns and columns.raw)


def _columns(source, fields, raw):
    """Returns the columns of a table with this first record: path and label, unless it is a header."""
    if places := header_columns(source, fields):
        return Columns(*places, len(fields), fields, raw)
    return Columns(0, 1, 2 if len(fields) == 2 else None)


def _path_and_label(fields, raw, columns, delimiter):
    """Returns (path, label) of a record. Raises BadRow.

    A label that holds delimiters which nobody quoted is kept whole where it cannot be mistaken: in the last column,
    behind the path, without quotes.
    """
    least, name = max(columns.path, columns.label) + 1, DELIMITERS.get(delimiter, repr(delimiter))
    if len(fields) < least or not fields[columns.path]:
        raise BadRow("no label field", f"{len(fields)} fields; a row must be an image path, a {name} and the label")
    if len(fields) <= (columns.width or 2):
        return fields[columns.path], fields[columns.label]
    whole = raw.decode("utf-8").split(delimiter, (columns.width or 2) - 1)
    quoted = delimiter != "\t" and any(field.lstrip().startswith('"') for field in whole)
    if columns.width is None or quoted or not columns.path + 1 == columns.label == columns.width - 1:
        expected = f"{columns.width} are expected" if columns.width else "no header names them"
        raise BadRow("too many fields", f"{len(fields)} fields, but {expected}; quote a label that holds a {name}, or "
                                        "name the columns in a header such as image, label")
    return whole[columns.path].strip(), whole[columns.label]
