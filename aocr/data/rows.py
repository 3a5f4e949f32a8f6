"""Reads annotated images as rows from text files, tables, JSON lines, directories and datasets.

Opens no image; imports TensorFlow for remote paths and datasets only.
"""

import csv
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from aocr.errors import UserError
from aocr.files import StorageError, is_remote, load_json, open_file, os_error

PATH_NAMES, LABEL_NAMES = ("image", "path", "file", "filename", "file_name"), ("label", "text")
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
LABEL_EXTENSIONS = (".gt.txt", ".txt")
JSON_FORM = 'each line must be an object such as {"image": PATH, "label": TEXT}'
STDIN = "-"
BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One annotated image, with its path, its bytes or both."""

    source: str  # file or directory that it was read from
    number: int  # line (from 1), file in a directory (from 1) or record (from 0)
    raw: bytes | None  # original row, to be written to --rejects; None for records
    label: str
    path: str | None = None
    image: bytes | None = None
    comment: str | None = None
    header: bytes | None = None  # header of its table, if any


class Rejected(NamedTuple):
    """An unusable row."""

    source: str
    number: int
    raw: bytes | None
    kind: str  # short name of the problem, by which rows are counted
    reason: str  # with value and remedy
    header: bytes | None = None  # as in Row


class BadRow(ValueError):
    """Raised for an unusable row: `BadRow(kind, reason)`, as in Rejected."""


def format_of(source: str, input_format: str) -> str:
    """Returns the format of an input: as DatasetConfig.input_format, but with `auto` resolved.

    Raises UserError if the format is for files and the input a directory, or vice versa.
    """
    folder = source != STDIN and _is_folder(source)
    if input_format == "auto":
        if folder:
            return "folder" if any(path.endswith(".txt") for path in _files_below(source)) else "names"
        extension = os.path.splitext(source.lower().removesuffix(".gz"))[1]
        return next((name for name, kind in FORMATS.items() if extension in kind.extensions), "lines")
    if folder != FORMATS[input_format].of_folders:
        accepted = "files, not directories" if folder else "directories, not files"
        raise UserError(f"{source}: --input-format {input_format} reads {accepted}; use another input or format")
    return input_format


def read_rows(source: str, input_format: str, label_pattern: re.Pattern[str],
              stdin: BinaryIO | None) -> Iterator[Row | Rejected]:
    """Returns the rows of one input, in order.

    Args:
      source: path, or `-` for `stdin`.
      input_format: from `format_of`.
      label_pattern: for `names`: matched against file names without extension; its first group is the label.

    Raises: UserError if the input cannot be read; StorageError if remote storage refuses access.
    """
    return FORMATS[input_format].read(source, label_pattern, stdin)


def parse_line(line: str) -> list[str]:
    """Returns (path, label) of a line, split at the first tab or, without tab, at the first blank. Raises BadRow."""
    parts = line.split("\t", 1) if "\t" in line else re.split(r"\s", line, maxsplit=1)
    if len(parts) < 2 or not parts[0]:
        raise BadRow("no label field", f"{line!r}; a line must be an image path, a tab or blank, and the label")
    return parts


def parse_json(line: str) -> list[str]:
    """Returns (path, label) of a JSON object. Raises BadRow."""
    try:
        values = load_json(line)
    except ValueError as error:
        raise BadRow("bad JSON", f"{error}; {JSON_FORM}") from None
    if not isinstance(values, dict):
        raise BadRow("bad JSON", f"{line[:60]!r} is not an object; {JSON_FORM}")
    found = []
    for names, meaning in ((PATH_NAMES, "path"), (LABEL_NAMES, "label")):
        value = next((values[name] for name in names if name in values), None)
        if not isinstance(value, str):
            raise BadRow(f"no {meaning} field", f"none of the keys {', '.join(names)} holds a string")
        found.append(value)
    return found


def decode(line: bytes) -> str:
    """Decodes UTF-8. Raises BadRow."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8", f"byte 0x{line[error.start]:02x} at {error.start}; save the file as UTF-8") from None


def _each_line(source, lines, parse):
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                path, label = parse(decode(line))
                yield Row(source, number, line, label, path)
            except BadRow as error:
                yield Rejected(source, number, line, *error.args)


def _lines(source, stdin):
    """Yields the lines of a text file as bytes, without line ends and byte order mark."""
    try:
        for number, line in enumerate(stdin if source == STDIN else _open(source)):
            line = line.rstrip(b"\r\n")
            yield line if number else line.removeprefix(BOM)
    except StorageError:
        raise
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from None


def _open(path):
    if not is_remote(path):
        with open_file(path) as file:
            yield from file
        return
    import tensorflow.compat.v1 as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            yield from file
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def _tsv_fields(lines):
    """Yields (line number, raw line, fields or BadRow) of a tab-separated table without quoting."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, line, decode(line).split("\t")
            except BadRow as error:
                yield number, line, error


def _csv_fields(lines):
    """As `_tsv_fields`, of a comma-separated table; quoted fields may contain commas, quotes and line breaks."""
    taken = []

    def decoded():
        for line in lines:
            taken.append(line)
            # Invalid UTF-8 passes through, so that the reader stays in sync; `decode` reports it afterwards.
            yield line.decode("utf-8", "surrogateescape") + "\n"

    table, before = csv.reader(decoded(), strict=True), 0
    while True:
        fields = None
        try:
            fields = next(table)
            for field in fields:
                decode(field.encode("utf-8", "surrogateescape"))
        except StopIteration:
            return
        except csv.Error as error:
            fields = BadRow("bad CSV", f"{error}; quote fields with a comma, a quote or a line break, and double the "
                                       "quotes in them")
        except BadRow as error:
            fields = error
        raw, first = b"\n".join(taken), before + 1
        before += len(taken)
        taken.clear()
        if raw.strip():
            yield first, raw, fields


def _table(source, rows, separator):
    """Yields the rows of a table; a first row that names a path and a label column is a header."""
    columns, least, header_line = (0, 1), None, None
    for number, raw, fields in rows:
        if isinstance(fields, BadRow):
            yield Rejected(source, number, raw, *fields.args, header_line)
            continue
        if least is None:
            least, header = 2, [field.strip().lower() for field in fields]
            named = [next((header.index(name) for name in names if name in header), None)
                     for names in (PATH_NAMES, LABEL_NAMES)]
            if None not in named:
                columns, least, header_line = named, max(named) + 1, raw
                continue
        if len(fields) < least or not fields[columns[0]]:
            yield Rejected(source, number, raw, "no label field",
                           f"{len(fields)} fields; a row must be an image path, {separator} and the label", header_line)
        else:
            yield Row(source, number, raw, fields[columns[1]], fields[columns[0]], header=header_line)


def _folder(folder):
    """Yields images with label files next to them: NAME.png with NAME.gt.txt or NAME.txt."""
    for number, path in enumerate(_images_below(folder), 1):
        stem = os.path.splitext(path)[0]
        raw = path.encode("utf-8", "surrogateescape")
        try:
            for extension in LABEL_EXTENSIONS:
                try:
                    content = b"\n".join(_lines(stem + extension, None))
                except UserError:
                    continue
                content = content.rstrip(b"\n")
                yield Row(folder, number, raw + b"\t" + content, decode(content), path)
                break
            else:
                raise BadRow("no label file", f"{path}: neither {' nor '.join(LABEL_EXTENSIONS)} next to it")
        except BadRow as error:
            yield Rejected(folder, number, raw, error.args[0], f"{path}: {error.args[1]}")


def _names(folder, label_pattern):
    """Yields images with their labels in the file names."""
    for number, path in enumerate(_images_below(folder), 1):
        raw, stem = path.encode("utf-8", "surrogateescape"), os.path.splitext(os.path.basename(path))[0]
        match = label_pattern.fullmatch(stem)
        if not match or match.group(1) is None:
            yield Rejected(folder, number, raw, "no label in the name",
                           f"{path}: {stem!r} does not match --label-pattern {label_pattern.pattern}")
            continue
        label = match.group(1).encode("utf-8", "surrogateescape")
        try:
            yield Row(folder, number, raw + b"\t" + label, decode(label), path)
        except BadRow as error:
            yield Rejected(folder, number, raw, error.args[0], f"{path}: the name is not UTF-8; rename the file")


def _images_below(folder):
    return (path for path in _files_below(folder) if path.lower().endswith(IMAGE_EXTENSIONS))


def _files_below(folder):
    """Yields the paths of all files below a directory, directory by directory, each sorted."""
    if is_remote(folder):
        yield from _remote_files_below(folder)
        return
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            yield os.path.join(place, name)


def _remote_files_below(folder):
    """As `_files_below`. gfile.walk would query each name for being a directory, which is slow."""
    import tensorflow.compat.v1 as tf

    names = sorted(tf.io.gfile.listdir(folder))
    if folder.startswith("gs://"):  # where names of directories end in a slash
        folders = [name for name in names if name.endswith("/")]
    else:
        folders = [name for name in names if tf.io.gfile.isdir(posixpath.join(folder, name))]
    yield from (posixpath.join(folder, name) for name in names if name not in folders)
    for name in folders:
        yield from _remote_files_below(posixpath.join(folder, name))


def _is_folder(path):
    if not is_remote(path):
        return os.path.isdir(path)
    import tensorflow.compat.v1 as tf

    return tf.io.gfile.isdir(path)


def _records(source):
    """Yields the records of a dataset as rows."""
    from aocr.data.lengths import check_records
    from aocr.data.records import UNREADABLE, broken_file, parse_example, read_file

    check_records(source)
    number = 0
    try:
        for record in read_file(source).map(parse_example):
            try:
                yield Row(source, number, None, decode(record["label"].numpy()), image=record["image"].numpy(),
                          comment=record["comment"].numpy().decode("utf-8", "replace") or None)
            except BadRow as error:
                yield Rejected(source, number, None, *error.args)
            number += 1
    except UNREADABLE as error:
        raise broken_file(source, number, error) from None


class InputFormat(NamedTuple):
    """An input format."""

    read: Callable[[str, re.Pattern[str], BinaryIO | None], Iterator[Row | Rejected]]  # arguments as of `read_rows`
    extensions: tuple[str, ...] = ()  # by which `auto` chooses it
    of_folders: bool = False


FORMATS = {
    "lines": InputFormat(lambda source, _, stdin: _each_line(source, _lines(source, stdin), parse_line)),
    "tsv": InputFormat(lambda source, _, stdin: _table(source, _tsv_fields(_lines(source, stdin)), "a tab"), (".tsv",)),
    "csv": InputFormat(lambda source, _, stdin: _table(source, _csv_fields(_lines(source, stdin)), "a comma"),
                       (".csv",)),
    "jsonl": InputFormat(lambda source, _, stdin: _each_line(source, _lines(source, stdin), parse_json),
                         (".jsonl", ".ndjson")),
    "folder": InputFormat(lambda source, *_: _folder(source), of_folders=True),
    "names": InputFormat(lambda source, label_pattern, _: _names(source, label_pattern), of_folders=True),
    "tfrecord": InputFormat(lambda source, *_: _records(source), (".tfrecord", ".tfrecords")),
}
