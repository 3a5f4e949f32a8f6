"""Datasets: TFRecords of `tf.train.Example` with the features `image`, `label` and, by choice, `comment`."""

import collections
import dataclasses
import itertools
import logging

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from aocr.config import scaled_width
from aocr.decoding import decode_image
from aocr.errors import UserError

log = logging.getLogger(__name__)

GZIP_MAGIC = b"\x1f\x8b\x08"
READ_TOGETHER = 8  # files of a dataset, when it is shuffled
ERRORS_IN_FILE = (tf.errors.DataLossError, tf.errors.OutOfRangeError)


def to_example(image, label, comment=None):
    """One record. image: bytes, an encoded image file; label, comment: str. Returns tf.train.Example."""
    features = {"image": image, "label": label.encode()}
    if comment is not None:
        features["comment"] = comment.encode()
    return tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in features.items()}))


def parse_example(serialized):
    """Inside a graph: a serialized record -> dict of string tensors `image`, `label`, `comment` ('' if absent)."""
    return tf.io.parse_single_example(serialized, {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.string),
        "comment": tf.io.FixedLenFeature([], tf.string, default_value=""),
    })


def files_of(path):
    """The files of a dataset: the path itself or, if it holds `*`, `?` or `[`, all that match, sorted.

    UserError if there is none.
    """
    pattern = any(character in path for character in "*?[") and not tf.io.gfile.exists(path)
    files = sorted(tf.io.gfile.glob(path)) if pattern else [path]
    files = [file for file in files if tf.io.gfile.exists(file) and not tf.io.gfile.isdir(file)]
    if not files:
        raise UserError(f"{path}: no such dataset; make one with `aocr dataset`")
    return files


def read_file(file):
    """The serialized records of a TFRecord file, plain or gzip: tf.data.Dataset of string."""
    return tf.data.TFRecordDataset(file, _compression(file))


def numbered_records(scan, seed=None):
    """The records of a dataset's files: tf.data.Dataset of (number from 0, serialized).

    Args:
      scan: Scan.
      seed: int64 [] tensor: the files come in an order of its choice, READ_TOGETHER of them at a time. None: in theirs.
    """
    files = tf.data.Dataset.from_tensor_slices(
        (scan.files, [_compression(file) for file in scan.files], np.array(scan.starts, np.int64)))

    def records(file, compression, start):
        return tf.data.TFRecordDataset(file, compression).enumerate(start)

    if seed is None:
        return files.flat_map(records)
    return files.shuffle(len(scan.files), seed=seed).interleave(
        records, cycle_length=READ_TOGETHER, num_parallel_calls=READ_TOGETHER)


def _compression(file):
    with tf.io.gfile.GFile(file, "rb") as stream:
        return "GZIP" if stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC else ""


@dataclasses.dataclass
class Seen:
    """How often something was seen in a dataset, and where first."""

    count: int
    record: int  # number of the first record, from 0
    label: str  # that record's label


@dataclasses.dataclass
class Scan:
    """What a look through a whole dataset finds; as large as its variety, not as its length."""

    path: str
    files: list  # of str
    starts: list = dataclasses.field(default_factory=list)  # number of each file's first record
    records: int = 0
    unreadable: dict = dataclasses.field(default_factory=dict)  # record number -> reason
    characters: dict = dataclasses.field(default_factory=dict)  # character -> Seen
    lengths: dict = dataclasses.field(default_factory=dict)  # label length -> Seen
    widths: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # at height 32 -> images

    @property
    def usable(self):
        """Number of records whose image and label can be read."""
        return self.records - len(self.unreadable)

    @property
    def longest_label(self):
        """Characters of the longest label; 0 without labels."""
        return max(self.lengths, default=0)

    @property
    def widest_image(self):
        """Pixels at height 32 of the widest image; 0 without images."""
        return max(self.widths, default=0)

    def wider_than(self, canvas_width):
        """Number of images that a canvas squeezes."""
        return sum(count for width, count in self.widths.items() if width > canvas_width)


def scan(path):
    """Reads a dataset once: every label, and every image as training decodes it. What is unreadable is logged.

    Args: path: the dataset, as for `files_of`.
    Returns: Scan.
    Raises: UserError if there is no file, or one is no dataset or broken, or they hold nothing that can be read.
    """
    found = Scan(path, files_of(path))
    for label, size in tqdm(_labels_and_sizes(found), desc="scan", unit=" records", disable=None):
        number, found.records = found.records, found.records + 1
        if size is None:
            found.unreadable[number] = "the image cannot be decoded"
            continue
        try:
            label = label.decode()
        except UnicodeDecodeError as error:
            found.unreadable[number] = f"the label is not UTF-8: byte 0x{label[error.start]:02x} at {error.start}"
            continue
        found.widths[max(1, scaled_width(int(size[1]), int(size[0])))] += 1
        _count(found.lengths, len(label), number, label)
        for character in set(label):
            _count(found.characters, character, number, label)
    if not found.records:
        raise UserError(f"{path}: the dataset is empty; make one with `aocr dataset`")
    for number, reason in found.unreadable.items():
        log.warning("%s: record %d is left out: %s", path, number, reason)
    log.info("%s: %d records, %d used, %d left out", path, found.records, found.usable, len(found.unreadable))
    if not found.usable:
        raise UserError(f"{path}: none of the {found.records} records can be used; see the lines above")
    return found


def _count(table, key, number, label):
    if key in table:
        table[key].count += 1
    else:
        table[key] = Seen(1, number, label)


def _labels_and_sizes(scan):
    """Yields (label bytes, [height, width] or None if the image cannot be decoded) of each record, in order.

    Sets `scan.starts` on the way.
    """

    def look(serialized):
        record = parse_example(serialized)
        return record["label"], tf.shape(decode_image(record["image"]))[:2]

    def label_only(serialized):
        return parse_example(serialized)["label"]

    for file in scan.files:
        scan.starts.append(scan.records)
        serialized = read_file(file)
        sizes = iter(serialized.map(look, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))
        for number in itertools.count():
            try:
                label, size = next(sizes)
                yield label.numpy(), size.numpy()
            except StopIteration:
                break
            except tf.errors.InvalidArgumentError:
                try:  # is it the image, or the record?
                    yield next(iter(serialized.skip(number).take(1).map(label_only))).numpy(), None
                except tf.errors.InvalidArgumentError:
                    raise UserError(f"{file}: record {number} has no features `image` and `label`, each of one bytes "
                                    "value; make the dataset with `aocr dataset`") from None
            except ERRORS_IN_FILE as error:
                raise UserError(f"{file}: broken after {number} records ({error.message}); it is no TFRecord file, or "
                                "an incomplete one: make it again with `aocr dataset`") from None
