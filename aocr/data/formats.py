"""The input formats, and which of them an input has."""

import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from aocr.data.folders import folder_format, read_folder, read_listed, read_names
from aocr.data.json_rows import read_json
from aocr.data.listing import is_folder
from aocr.data.lists import read_list
from aocr.data.rows import STDIN, BadRow, Rejected, Row, decode
from aocr.data.tables import read_csv, read_tsv
from aocr.data.text_lines import lines_of
from aocr.errors import UserError

NO_PATTERN = re.compile("()")


class InputFormat(NamedTuple):
    """An input format."""

    read: Callable[[str, re.Pattern[str], BinaryIO | None], Iterator[Row | Rejected]]  # arguments as of `read_rows`
    extensions: tuple[str, ...] = ()  # by which `auto` chooses it
    of_folders: bool = False


def format_of(source: str, input_format: str) -> str:
    """Returns the format of an input: as DatasetConfig.input_format, but with `auto` resolved.

    Raises UserError if the format is for files and the input a directory, or vice versa, or if the content of a
    directory is ambiguous.
    """
    folder = source != STDIN and is_folder(source)
    if input_format == "auto":
        return folder_format(source, read_file) if folder else _format_of_file(source)
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


def read_file(path: str) -> Iterator[Row | Rejected]:
    """Returns the rows of a text file in the format of its extension. Raises as `read_rows`."""
    return read_rows(path, _format_of_file(path), NO_PATTERN, None)


def _format_of_file(path):
    extension = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    return next((name for name, kind in FORMATS.items() if extension in kind.extensions), "lines")


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


def _text(read, *extensions):
    return InputFormat(lambda source, _, stdin: read(source, lines_of(source, stdin)), extensions)


FORMATS = {
    "lines": _text(read_list),
    "tsv": _text(read_tsv, ".tsv"),
    "csv": _text(read_csv, ".csv"),
    "jsonl": _text(read_json, ".jsonl", ".ndjson"),
    "json": _text(read_json, ".json"),
    "listed": InputFormat(lambda source, *_: read_listed(source, read_file), of_folders=True),
    "folder": InputFormat(lambda source, *_: read_folder(source), of_folders=True),
    "names": InputFormat(lambda source, label_pattern, _: read_names(source, label_pattern), of_folders=True),
    "tfrecord": InputFormat(lambda source, *_: _records(source), (".tfrecord", ".tfrecords")),
}
