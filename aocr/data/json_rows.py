"""Reads JSON: one object per line, or a document of one of the usual shapes."""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from aocr.data.rows import LABEL_NAMES, PATH_NAMES, BadRow, Rejected, Row, decode
from aocr.errors import UserError

FORM = 'each line must be an object such as {"image": PATH, "label": TEXT}'
DOCUMENT = 'a document must be {PATH: LABEL, ...} or [{"image": PATH, "label": LABEL}, ...]'
CONTAINERS = ("labels", "data_list", "data", "annotations", "items", "samples", "images")  # keys that hold all items
LARGEST = 1 << 30  # bytes of a document, which is read as a whole
SHOWN = 60  # characters of a bad value in messages


class _Object(dict):
    """A JSON object that remembers repeated keys."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        self.pairs = pairs


def read_json(source: str, lines: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """Yields the rows of JSON lines, numbered by line, or of a JSON document, numbered by item (from 1).

    Args: lines: in UTF-8, without line ends.
    Raises: UserError if a document is not valid JSON or too large.
    """
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    if head and _begins_document(head[-1]):
        head = _all_lines(source, head, lines)
        text = b"\n".join(head)
        try:
            document = _parse(text)
        except BadRow as error:
            if not any(map(_is_object, head)):
                raise UserError(f"{source}: {error.args[1]}") from None
        else:
            yield from _items_as_rows(source, document)
            return
    yield from _each_line(source, itertools.chain(head, lines))


def _begins_document(line):
    """Returns whether a first line is a whole value other than a row, or the beginning of one."""
    try:
        value = _parse(line)
        return isinstance(value, (list, dict)) and not _is_row(value)
    except BadRow:
        return line.rstrip().endswith((b"{", b"[", b",", b":"))


def _is_object(line):
    try:
        return isinstance(_parse(line), dict)
    except BadRow:
        return False


def _is_row(value):
    return isinstance(value, dict) and all(any(name in value for name in names) for names in (PATH_NAMES, LABEL_NAMES))


def _all_lines(source, head, lines):
    size = 0
    for line in lines:
        head.append(line)
        size += len(line)
        if size > LARGEST:
            raise UserError(f"{source}: a JSON document of more than {LARGEST >> 20} MB; use one object per line")
    return head


def _each_line(source: str, lines: Iterable[bytes]) -> Iterator[Row | Rejected]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                value = _parse(line)
                if not isinstance(value, dict):
                    raise BadRow("bad JSON", f"{decode(line)[:SHOWN]!r} is not an object; {FORM}")
                yield Row(source, number, line, _string(value, LABEL_NAMES, "label"),
                          _string(value, PATH_NAMES, "path"))
            except BadRow as error:
                yield Rejected(source, number, line, *error.args)


def _parse(content):
    """Parses JSON. Raises BadRow."""
    try:
        return json.loads(decode(content), object_pairs_hook=_Object)
    except RecursionError:
        raise BadRow("bad JSON", f"nested too deeply; {FORM}") from None
    except ValueError as error:
        if isinstance(error, BadRow):
            raise
        raise BadRow("bad JSON", f"{error}; {FORM}, and {DOCUMENT}") from None


def _string(value, names, meaning):
    """Returns what the first of some keys of an object holds. Raises BadRow unless it is a string."""
    name = next((name for name in names if name in value), None)
    if name is None:
        raise BadRow(f"no {meaning} field", f"none of the keys {', '.join(names)}")
    if not isinstance(value[name], str):
        raise BadRow(f"no {meaning} field", f"the key {name} holds {str(value[name])[:SHOWN]}; it must hold a string")
    return value[name]


def _items_as_rows(source, document):
    for number, (key, value) in enumerate(_items(document), 1):
        try:
            path, label = _path_and_label(key, value)
            raw = json.dumps({PATH_NAMES[0]: path, LABEL_NAMES[0]: label})
            yield Row(source, number, raw.encode(), label, path)
        except BadRow as error:
            yield Rejected(source, number, json.dumps(value if key is None else {key: value}).encode(), *error.args)


def _items(document):
    """Yields (path or None, value) of each item of a document."""
    if isinstance(document, list):
        yield from ((None, value) for value in document)
    elif not isinstance(document, _Object) or _is_row(document):
        yield None, document
    else:
        container = next((name for name in CONTAINERS if isinstance(document.get(name), (list, dict))), None)
        yield from _items(document[container]) if container else document.pairs


def _path_and_label(key, value):
    """Returns (path, label) of an item. Raises BadRow."""
    if isinstance(value, list) and len(value) == 2 and key is None:
        key, value = value
    if isinstance(value, dict):
        path = _string(value, PATH_NAMES, "path") if key is None or _is_row(value) else key
        return path, _string(value, LABEL_NAMES, "label")
    if not isinstance(value, str) or not isinstance(key, str):
        raise BadRow("no label field", f"{str(value)[:SHOWN]} is not a label; {DOCUMENT}, with strings as labels")
    return key, value
