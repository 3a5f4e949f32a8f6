"""Dataset statistics: counted record by record, or read from the sidecars that `aocr dataset` writes."""

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from aocr.charset import splitter
from aocr.colors import canonical
from aocr.config import MOST_PIXELS, scaled_width
from aocr.data.lengths import check_records
from aocr.data.records import NO_EXAMPLE, broken_file, files_of, parse_example, read_file, sidecar_of
from aocr.errors import UserError
from aocr.files import cause, is_remote, load_json
from aocr.images import decode_image, problem_of

log = logging.getLogger(__name__)

SIDECAR_VERSION = 1
HASH_FACTOR, HASH_RANGE = 2654435769, 1 << 32  # 2**32 divided by the golden ratio
COUNTED = 1 << 20  # record numbers processed at once
DIGEST_LENGTH = 12  # hexadecimal digits
FINGERPRINT_BYTES = 1 << 20  # hashed at the start and at the end of a file


@dataclasses.dataclass
class Seen:
    """Number of occurrences in a dataset, and the first one."""

    count: int
    record: int  # number of the first record, from 0
    label: str  # label of that record


class FilePrint(NamedTuple):
    """What tells a file from a later one at the same path."""

    stamp: tuple[int, ...]  # of `stamp_of`
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Selection:
    """One of two splits of a dataset: the records held out for validation, or the others."""

    share: float  # of the held-out split, in (0, 1)
    held_out: bool  # which of the splits this is

    def keeps(self, numbers: np.ndarray | np.int64 | tf.Tensor) -> np.ndarray | np.bool_ | tf.Tensor:
        """Returns which records belong to the split: bool, in the shape of `numbers` (int64).

        Multiplicative hashing by the golden ratio (Knuth, volume 3, section 6.4) spreads the held-out records evenly
        for any period in the data, and with the same share in every range of records.
        """
        held_out = numbers * HASH_FACTOR % HASH_RANGE < int(self.share * HASH_RANGE)
        return held_out if self.held_out else ~held_out


@dataclasses.dataclass
class DatasetStatistics:
    """Statistics of a whole dataset; their size depends on its variety, not on its length."""

    path: str
    files: list[str]
    starts: list[int] = dataclasses.field(default_factory=list)  # record number at which each file starts
    records: int = 0
    unreadable: dict[int, str] = dataclasses.field(default_factory=dict)  # record number -> reason
    characters: dict[str, Seen] = dataclasses.field(default_factory=dict)
    lengths: dict[int, Seen] = dataclasses.field(default_factory=dict)  # of labels
    widths: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)  # at height 32 -> images
    selection: Selection | None = None  # selected split; the counts above cover all records
    graphemes: bool = False  # whether characters are grapheme clusters instead of code points
    prints: dict[str, FilePrint] = dataclasses.field(default_factory=dict)  # of the files before they were scanned
    largest: int = 0  # pixels of the largest image
    # Canonical colour on which `aocr dataset` laid transparent images -> the first file made so.
    backgrounds: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def usable(self) -> int:
        """Number of selected records with readable image and label."""
        if not self.selection:
            return self.records - len(self.unreadable)
        kept = sum(int(np.sum(self.selection.keeps(np.arange(start, min(start + COUNTED, self.records)))))
                   for start in range(0, self.records, COUNTED))
        return kept - sum(bool(self.selection.keeps(np.int64(number))) for number in self.unreadable)

    def split(self, share: float) -> tuple["DatasetStatistics", "DatasetStatistics"]:
        """Returns (training, held-out validation) splits; `share`: of the second one."""
        left, held_out = (dataclasses.replace(self, selection=Selection(share, part)) for part in (False, True))
        return left, held_out

    @property
    def longest_label(self) -> int:
        """Number of characters of the longest label; 0 without labels."""
        return max(self.lengths, default=0)

    @property
    def widest_image(self) -> int:
        """Width of the widest image in pixels at height 32; 0 without images."""
        return max(self.widths, default=0)

    def digest(self) -> str:
        """Returns an ID of the selected records, independent of file paths: hexadecimal digits."""
        part = self.selection and dataclasses.astuple(self.selection)
        content = json.dumps([part, *(self.prints[file].fingerprint if file in self.prints else fingerprint(file)
                                      for file in self.files)])
        return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_LENGTH]

    def wider_than(self, canvas_width: int) -> int:
        """Returns the number of images that must be squeezed to fit a canvas."""
        return sum(count for width, count in self.widths.items() if width > canvas_width)

    def choose(self, count: int, seed: int) -> np.ndarray:
        """Returns the numbers of `count` random readable records, or of all if there are fewer: int64 [n]."""
        usable = np.setdiff1d(np.arange(self.records), list(self.unreadable))
        return np.random.default_rng(seed).choice(usable, min(count, len(usable)), replace=False)

    def count(self, label: str, width: int, height: int) -> None:
        """Adds the next record: its label and image size in pixels."""
        self.largest = max(self.largest, width * height)
        self.widths[max(1, scaled_width(width, height))] += 1
        self._count_label(label, self.records)
        self.records += 1

    def _count_label(self, label, number):
        characters = splitter(self.graphemes)(label)
        for table, keys in ((self.lengths, [len(characters)]), (self.characters, set(characters))):
            for key in keys:
                _add(table, key, Seen(1, number, label))

    def by_graphemes(self, labels: Iterable[str]) -> "DatasetStatistics":
        """Returns a copy that counts characters and lengths by graphemes; `labels`: of all records."""
        found = dataclasses.replace(self, graphemes=True, characters={}, lengths={})
        for number, label in enumerate(labels):
            found._count_label(label, number)
        return found

    def append(self, part: "DatasetStatistics") -> None:
        """Adds the statistics of the next file."""
        self.starts.append(self.records)
        self.unreadable.update((self.records + number, reason) for number, reason in part.unreadable.items())
        self.widths.update(part.widths)
        for table, others in ((self.lengths, part.lengths), (self.characters, part.characters)):
            for key, seen in others.items():
                _add(table, key, dataclasses.replace(seen, record=self.records + seen.record))
        self.records += part.records
        self.largest = max(self.largest, part.largest)
        self.backgrounds = {**part.backgrounds, **self.backgrounds}


def _add(table, key, seen):
    if key in table:
        table[key].count += seen.count
    else:
        table[key] = seen


def scan(path: str, graphemes: bool = False, max_pixels: int = MOST_PIXELS) -> DatasetStatistics:
    """Scans a dataset: every label, and every image as decoded in training. Logs unreadable records.

    Args: path: as for `records.files_of`. graphemes: whether characters are grapheme clusters. max_pixels: larger
      images are unreadable.
    Raises: UserError if a file is missing, broken or not a dataset, or no record is readable, and as
      `charset.splitter`.
    """
    found = DatasetStatistics(path, files_of(path), graphemes=graphemes)
    for file in found.files:
        if known := _print_of(file):
            found.prints[file] = known
        part = read_sidecar(file, known)
        if part and part.largest > max_pixels:  # some of its records are unreadable now
            part = dataclasses.replace(_scan_file(file, graphemes, max_pixels), backgrounds=part.backgrounds)
        elif part and graphemes:  # a sidecar counts code points
            part = part.by_graphemes(_labels(file))
        found.append(part or _scan_file(file, graphemes, max_pixels))
    if not found.records:
        raise UserError(f"{path}: the dataset is empty; create one with `aocr dataset`")
    for number, reason in found.unreadable.items():
        log.warning("%s: record %d is skipped: %s", path, number, reason)
    log.info("%s: %d records, %d used, %d skipped", path, found.records, found.usable, len(found.unreadable))
    if not found.usable:
        raise UserError(f"{path}: none of the {found.records} records is usable; see the messages above")
    return found


def _scan_file(file, graphemes, max_pixels):
    found = DatasetStatistics(file, [file], graphemes=graphemes)
    check_records(file)
    for label, size in tqdm(_labels_and_sizes(file, max_pixels), desc="scan", unit=" records", disable=None):
        reason = None
        try:
            label = label.decode()
        except UnicodeDecodeError as error:
            reason = f"the label is not UTF-8: byte 0x{label[error.start]:02x} at {error.start}"
        if isinstance(size, str):
            reason = f"the image cannot be decoded: {size}"
        if reason:
            found.unreadable[found.records] = reason
            found.records += 1
        else:
            found.count(label, int(size[1]), int(size[0]))
    return found


def _labels_and_sizes(file, max_pixels):
    """Yields (label bytes, [height, width] or why the image cannot be decoded) per record, in order."""

    serialized = read_file(file)
    sizes = serialized.map(_look_up_to(max_pixels), num_parallel_calls=tf.data.AUTOTUNE)
    sizes = iter(sizes.prefetch(tf.data.AUTOTUNE))
    # A second pass, advanced only to undecodable images: restarting it for each of them would take quadratic time.
    labels, passed = iter(serialized.map(_label_only)), 0
    for number in itertools.count():
        try:
            label, size = next(sizes)
            yield label.numpy(), size.numpy()
        except StopIteration:
            break
        except NO_EXAMPLE as problem:
            try:  # distinguishes undecodable images from invalid records
                label, = itertools.islice(labels, number - passed, number - passed + 1)
                passed = number + 1
                yield label.numpy(), problem_of(problem)
            except NO_EXAMPLE as error:
                raise broken_file(file, number, error) from None
        except tf.errors.OpError as error:
            raise broken_file(file, number, error) from None


@functools.cache  # TensorFlow keeps every traced function as long as the process lives
def _look_up_to(max_pixels):
    """Returns a function of a serialized record: (label, (height, width) of the image)."""
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def look(serialized):
        record = parse_example(serialized)
        return record["label"], tf.shape(decode_image(record["image"], max_pixels))[:2]

    return look


def _label_only(serialized):
    return parse_example(serialized)["label"]


def _labels(file):
    """Yields the labels (str) of a file written by `aocr dataset`, in order."""
    return (label.decode() for label in labels_in(file))


def labels_in(file: str) -> Iterator[bytes]:
    """Yields the labels of a file, in order, without decoding images. UserError if it cannot be read."""
    number = 0
    try:
        for label in read_file(file).map(_label_only, num_parallel_calls=tf.data.AUTOTUNE):
            yield label.numpy()
            number += 1
    except tf.errors.OpError as error:
        raise broken_file(file, number, error) from None


def fingerprint(file: str) -> str:
    """Returns a file's fingerprint: its length in bytes and a hash of its start and end."""
    length = tf.io.gfile.stat(file).length
    with tf.io.gfile.GFile(file, "rb") as stream:
        digest = hashlib.sha256(stream.read(FINGERPRINT_BYTES))
        stream.seek(max(0, length - FINGERPRINT_BYTES))
        digest.update(stream.read(FINGERPRINT_BYTES))
    return f"{length}-{digest.hexdigest()}"


def stamp_of(file: str) -> tuple[int, ...]:
    """Returns the length of a file, the time of its last change, and more. Raises OSError or tf.errors.OpError."""
    if is_remote(file):
        found = tf.io.gfile.stat(file)
        return found.length, found.mtime_nsec
    local = os.stat(file)
    return local.st_size, local.st_mtime_ns, local.st_ino


def _print_of(file):
    """Returns the FilePrint of a file; None for a pipe or a device."""
    if not is_remote(file) and not stat.S_ISREG(os.stat(file).st_mode):
        return None
    return FilePrint(stamp_of(file), fingerprint(file))


def write_sidecar(found: DatasetStatistics, file: str, sidecar: str = "") -> None:
    """Writes the statistics of one file to `sidecar`, by default beside the file. Raises tf.errors.OpError."""
    tables = {name: {key: dataclasses.astuple(seen) for key, seen in getattr(found, name).items()}
              for name in ("lengths", "characters")}
    values = dict(version=SIDECAR_VERSION, fingerprint=fingerprint(file), records=found.records, widths=found.widths,
                  largest=found.largest, **tables)
    if found.backgrounds:
        values["background"] = next(iter(found.backgrounds))
    with tf.io.gfile.GFile(sidecar or sidecar_of(file), "w") as stream:
        stream.write(json.dumps(values, ensure_ascii=False, sort_keys=True) + "\n")


def read_sidecar(file: str, known: FilePrint | None = None) -> DatasetStatistics | None:
    """Returns a file's statistics from its sidecar; None if it is missing, broken or of another fingerprint.

    `known`: the file's, if it was taken already.
    """
    path = sidecar_of(file)
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as stream:
            values = load_json(stream.read())
        if values["version"] != SIDECAR_VERSION or values["fingerprint"] != (
                known.fingerprint if known else fingerprint(file)):
            log.info("%s does not match %s; rescanning the dataset", path, file)
            return None
        return _scan_of(values, file)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: broken (%r); rescanning %s", path, error, file)
        return None
    except tf.errors.OpError as error:
        log.warning("%s: cannot be read: %s; rescanning %s", path, cause(error), file)
        return None


def _scan_of(values, file):
    """Returns DatasetStatistics from a sidecar's values. Raises built-in exceptions if they are invalid."""
    records = values["records"]
    lengths, characters = ({key: Seen(*seen) for key, seen in values[name].items()}
                           for name in ("lengths", "characters"))
    seen = [*lengths.values(), *characters.values()]
    "".join([*characters, *(one.label for one in seen)]).encode()  # raises if these are not valid strings
    largest = values.get("largest", 0)  # older sidecars lack it, and the background
    numbers = [records, largest, *values["widths"].values(), *(one.count for one in seen),
               *(one.record for one in seen)]
    found = DatasetStatistics(file, [file], records=records, characters=characters,
                 lengths={int(length): one for length, one in lengths.items()},
                 widths=collections.Counter({int(width): count for width, count in values["widths"].items()}),
                 largest=largest,
                 backgrounds={canonical(values["background"]): file} if "background" in values else {})
    if not (all(type(number) is int and number >= 0 for number in numbers)
            and found.widths.total() == sum(one.count for one in lengths.values()) == records
            and all(one.record < records for one in seen) and min([*found.lengths, *found.widths], default=0) >= 0):
        raise ValueError("inconsistent values")
    return found
