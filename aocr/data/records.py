"""Dataset files: TFRecords of `tf.train.Example` with features `image`, `label` and, optionally, `comment`."""

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.data.lengths import GZIP_MAGIC
from aocr.errors import UserError
from aocr.files import cause, is_pattern, is_utf8, matches_of

log = logging.getLogger(__name__)

READ_TOGETHER = 8  # files interleaved in a shuffled pass
SIDECAR_EXTENSION = ".json"
# UnicodeDecodeError: TensorFlow's message quotes the bytes of an invalid record, which need not be UTF-8.
NO_EXAMPLE = (tf.errors.InvalidArgumentError, UnicodeDecodeError)
UNREADABLE = (tf.errors.OpError, UnicodeDecodeError)  # exceptions raised by reading a record
# The end of a dataset, and what lost servers cause.
NO_DAMAGE = (tf.errors.OutOfRangeError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.UnavailableError)
SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


class DatasetFiles(Protocol):
    """The part of scanning.DatasetStatistics that `numbered_records` needs; its module imports this one."""

    files: list[str]
    starts: list[int]  # record number at which each file starts


def to_example(image: bytes, label: str, comment: str | None = None) -> tf.train.Example:
    """Returns one record. `image`: encoded image file."""
    features = {"image": image, "label": label.encode()}
    if comment is not None:
        features["comment"] = comment.encode("utf-8", "backslashreplace")  # a path may contain lone surrogates
    return tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in features.items()}))


def parse_example(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses a serialized record (string []) in a graph: `image`, `label`, `comment` ('' if absent), string [] each."""
    return tf.io.parse_single_example(serialized, {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.string),
        "comment": tf.io.FixedLenFeature([], tf.string, default_value=""),
    })


def files_of(path: str) -> list[str]:
    """Returns the files of a dataset: the path itself or, if it is a pattern (`*`, `?`, `[`), all matches, sorted.

    Ignores sidecars; warns of missing shards. Raises UserError if no file exists, or on shards of several datasets.
    """
    pattern = is_pattern(path)
    files = matches_of(path) if pattern else [path]
    if unnamed := [file for file in files if not is_utf8(file)]:
        raise UserError(f"{path}: matches {unnamed[0]}, whose name is not UTF-8; rename it or narrow the pattern")
    files = [file for file in files if tf.io.gfile.exists(file) and not tf.io.gfile.isdir(file)
             and not (pattern and file.endswith(SIDECAR_EXTENSION))]
    if not files:
        raise UserError(f"{path}: no such dataset; create one with `aocr dataset`")
    if pattern:
        _check_shards(path, files)
    return files


def read_with(path: str) -> list[str]:
    """Returns the files that reading a dataset reads, and the names of their sidecars. Raises as `files_of`."""
    return [name for file in files_of(path) for name in (file, sidecar_of(file))]


def sidecar_of(file: str) -> str:
    """Returns the path of a dataset file's sidecar."""
    return file + SIDECAR_EXTENSION


def _check_shards(path, files):
    """Warns of missing shards; raises UserError if the files belong to datasets with different shard counts."""
    shards = {}
    for file in files:
        if match := SHARD.search(file):
            whole = file[:match.start()], file[match.end():], int(match.group(2))
            shards.setdefault(whole, set()).add(int(match.group(1)))
    for (head, tail, count), numbers in shards.items():
        if numbers != set(range(count)):
            log.warning("%s: found only %d of %d shards %s-*-of-%05d%s", path, len(numbers), count, head, count, tail)
    if len(shards) > 1 and len({whole[:2] for whole in shards}) < len(shards):
        raise UserError(f"{path}: matches shards of different datasets "
                        f"({', '.join(f'{len(numbers)} of -of-{whole[2]:05d}' for whole, numbers in shards.items())}); "
                        "remove the stale ones or use a narrower pattern")


def read_file(file: str) -> tf.data.Dataset:
    """Returns the serialized records of a TFRecord file, plain or gzip: string []."""
    return tf.data.TFRecordDataset(file, _compression(file))


def numbered_records(scan: DatasetFiles, seed: tf.Tensor | None = None) -> tf.data.Dataset:
    """Returns the records of a dataset's files: (number from 0, serialized), int64 [] and string [].

    `seed`: int64 [], shuffles the files and interleaves READ_TOGETHER of them. None: dataset order.
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


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Converts errors of reading a dataset that was scanned before, eagerly or in a graph, to a UserError."""
    try:
        yield
    except tf.errors.OpError as error:
        if found := damage(path, error, eager=True):
            raise found from None
        raise


def damage(path: str, error: tf.errors.OpError, *, eager: bool = False) -> UserError | None:
    """Returns the UserError for an error of reading a dataset that was scanned before; None for other errors.

    `eager`: whether an error outside of graphs is one of reading it.
    """
    node = error.op.node_def if error.op else error.node_def
    reads = eager if node is None else node.op == "IteratorGetNext"
    if isinstance(error, NO_DAMAGE) or not (reads or isinstance(error, tf.errors.DataLossError)):
        return None
    return UserError(f"{path}: damaged after it was scanned: {cause(error)}; rebuild it with `aocr dataset`")


def broken_file(file: str, number: int, error: Exception) -> UserError:
    """Converts an exception of UNREADABLE, raised by reading record `number`, to a UserError."""
    if isinstance(error, NO_EXAMPLE):
        return UserError(f"{file}: record {number} has no features `image` and `label` of one bytes value each; "
                         "create the dataset with `aocr dataset`")
    if isinstance(error, (tf.errors.DataLossError, tf.errors.OutOfRangeError)):
        return UserError(f"{file}: broken after {number} records ({cause(error)}); not a TFRecord file, or a "
                         "truncated one: create it again with `aocr dataset`")
    return UserError(f"{file}: cannot be read: {cause(error)}")
