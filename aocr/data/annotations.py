"""Annotation files: lines of an image's path and its label become a dataset."""

import collections
import contextlib
import dataclasses
import logging
import re
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from aocr.data.records import to_example
from aocr.decoding import decode_image
from aocr.errors import UserError
from aocr.files import read_bytes, whole_file

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One annotated image."""

    path: str
    label: str


class BadRow(ValueError):
    """A row that cannot be used; its text is the reason."""


@dataclasses.dataclass
class Counts:
    """What became of the rows."""

    written: int = 0
    reasons: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # kind -> rows skipped

    @property
    def skipped(self):
        """Rows that could not be used."""
        return sum(self.reasons.values())


def parse_line(line):
    """A line of bytes, without its end -> Row: the path, one blank, the label. Raises BadRow."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8", f"byte 0x{line[error.start]:02x} at {error.start}; save the file as UTF-8") from None
    parts = re.split(r"\s", text, maxsplit=1)
    if len(parts) < 2 or not parts[0]:
        raise BadRow("no label field", f"{text!r}; a line is an image's path, one blank, and the label")
    return Row(*parts)


def read_image(path):
    """An image file's bytes, decoded once to see that training will be able to. Raises BadRow."""
    try:
        encoded = read_bytes(path)
    except tf.errors.OpError as error:
        missing = isinstance(error, tf.errors.NotFoundError)
        raise BadRow("missing image" if missing else "unreadable image", f"{path}: {error.message}") from None
    if not encoded:
        raise BadRow("unreadable image", f"{path}: empty file")
    try:
        decode_image(encoded)
    except tf.errors.InvalidArgumentError as error:
        cause = re.sub(r"^\{\{.*?\}\}\s*|\s*\[Op:.*", "", error.message, flags=re.DOTALL).strip() or "not decodable"
        raise BadRow("unreadable image", f"{path}: {cause}") from None
    return encoded


def make_dataset(annotations, output, config):
    """Writes a dataset from an annotation file; it appears only when complete.

    Args: annotations, output: paths; config: DatasetConfig.
    Returns: Counts. UserError if the annotations cannot be read, the output cannot be written, or no row can be used.
    """
    try:
        lines = tf.io.gfile.GFile(annotations, "rb")
        size = tf.io.gfile.stat(annotations).length
        if tf.io.gfile.isdir(annotations):
            raise UserError(f"{annotations}: a directory; name a text file of annotations")
    except tf.errors.OpError as error:
        raise UserError(f"{annotations}: cannot be read: {error.message}") from None
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(logging_redirect_tqdm([logging.getLogger("aocr")]))
            bar = stack.enter_context(tqdm(desc="dataset", total=size, unit="B", unit_scale=True, disable=None))
            part = stack.enter_context(whole_file(output))
            writer = stack.enter_context(tf.io.TFRecordWriter(part))
            counts = _write_rows(annotations, lines, writer, config, bar)
            if not counts.written:
                raise UserError(f"{annotations}: no line can be used ({counts.skipped} skipped); nothing is written")
    except tf.errors.OpError as error:
        raise UserError(f"{output}: cannot be written: {error.message}") from None
    reasons = "".join(f", {count} {kind}" for kind, count in counts.reasons.most_common())
    log.info("%s: %d records written, %d lines skipped%s", output, counts.written, counts.skipped, reasons)
    return counts


def _write_rows(annotations, lines, writer, config, bar):
    counts = Counts()
    for number, line in enumerate(lines, 1):
        bar.update(len(line))
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        line = line.rstrip(b"\r\n")
        if not line.strip():
            continue
        try:
            row = parse_line(line)
            encoded = read_image(row.path)
        except BadRow as error:
            kind, reason = error.args
            counts.reasons[kind] += 1
            log.warning("%s:%d: skipped, %s: %s", annotations, number, kind, reason)
            continue
        label = row.label.upper() if config.force_uppercase else row.label
        comment = row.path if config.save_filename else None
        writer.write(to_example(encoded, label, comment).SerializeToString())
        counts.written += 1
        if counts.written % config.log_step == 0:
            log.info("%d records written", counts.written)
    return counts
