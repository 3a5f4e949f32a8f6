"""What a dataset holds: counted record by record, or read from the sidecars that `aocr dataset` wrote beside it."""

import collections
import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Iterable

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from aocr.charset import splitter
from aocr.config import scaled_width
from aocr.data.records import NO_EXAMPLE, SIDECAR_EXTENSION, broken_file, files_of, parse_example, read_file
from aocr.decoding import decode_image
from aocr.errors import UserError
from aocr.files import load_json, write_text

log = logging.getLogger(__name__)

SIDECAR_VERSION = 1
HASH_FACTOR, HASH_RANGE = 2654435769, 1 << 32  # 2**32 by the golden ratio
COUNTED = 1 << 20  # record numbers that are looked at together
DIGEST_LENGTH = 12  # hexadecimal digits
FINGERPRINT_BYTES = 1 << 20  # at the start and at the end of a file, which its fingerprint is made of


@dataclasses.dataclass
class Seen:
    """How often something was seen in a dataset, and where first."""

    count: int
    record: int  # number of the first record, from 0
    label: str  # that record's label


@dataclasses.dataclass(frozen=True)
class Selection:
    """One of the two parts that a dataset is divided into: what is held out for validation, or what is left."""

    share: float  # that is held out, in (0, 1)
    held_out: bool  # which of the parts this is

    def keeps(self, numbers: np.ndarray | np.int64 | tf.Tensor) -> np.ndarray | np.bool_ | tf.Tensor:
        """Which records belong to the part: bool, in the shape of `numbers` (int64).

        Multiplicative hashing by the golden ratio (Knuth, volume 3, section 6.4), which spreads the held out ones
        evenly whatever period the data have, and gives each new stretch of records the same share.
        """
        held_out = numbers * HASH_FACTOR % HASH_RANGE < int(self.share * HASH_RANGE)
        return held_out if self.held_out else ~held_out


@dataclasses.dataclass
class DatasetStatistics:
    """What a look through a whole dataset finds; as large as its variety, not as its length."""

    path: str
    files: list[str]
    starts: list[int] = dataclasses.field(default_factory=list)  # number of each file's first record
    records: int = 0
    unreadable: dict[int, str] = dataclasses.field(default_factory=dict)  # record number -> reason
    characters: dict[str, Seen] = dataclasses.field(default_factory=dict)
    lengths: dict[int, Seen] = dataclasses.field(default_factory=dict)  # of labels
    widths: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)  # at height 32 -> images
    selection: Selection | None = None  # which part of the records is meant; the tables above tell of all
    graphemes: bool = False  # what the characters of labels are: grapheme clusters instead of code points

    @property
    def usable(self) -> int:
        """Number of records that are meant and whose image and label can be read."""
        if not self.selection:
            return self.records - len(self.unreadable)
        kept = sum(int(np.sum(self.selection.keeps(np.arange(start, min(start + COUNTED, self.records)))))
                   for start in range(0, self.records, COUNTED))
        return kept - sum(bool(self.selection.keeps(np.int64(number))) for number in self.unreadable)

    def split(self, share: float) -> tuple["DatasetStatistics", "DatasetStatistics"]:
        """(what is left, what is held out for validation), the second one a share of the records."""
        left, held_out = (dataclasses.replace(self, selection=Selection(share, part)) for part in (False, True))
        return left, held_out

    @property
    def longest_label(self) -> int:
        """Characters of the longest label; 0 without labels."""
        return max(self.lengths, default=0)

    @property
    def widest_image(self) -> int:
        """Pixels at height 32 of the widest image; 0 without images."""
        return max(self.widths, default=0)

    def digest(self) -> str:
        """What tells the records that are meant from others, wherever their files lie: hexadecimal digits."""
        part = self.selection and dataclasses.astuple(self.selection)
        meant = json.dumps([part, *map(fingerprint, self.files)])
        return hashlib.sha256(meant.encode()).hexdigest()[:DIGEST_LENGTH]

    def wider_than(self, canvas_width: int) -> int:
        """Number of images that a canvas squeezes."""
        return sum(count for width, count in self.widths.items() if width > canvas_width)

    def choose(self, count: int, seed: int) -> np.ndarray:
        """Numbers of `count` usable records, or of all if there are fewer, by chance: int64 [n]."""
        usable = np.setdiff1d(np.arange(self.records), list(self.unreadable))
        return np.random.default_rng(seed).choice(usable, min(count, len(usable)), replace=False)

    def count(self, label: str, width: int, height: int) -> None:
        """Adds the next record: its label and its image's size in pixels."""
        self.widths[max(1, scaled_width(width, height))] += 1
        self._count_label(label, self.records)
        self.records += 1

    def _count_label(self, label, number):
        characters = splitter(self.graphemes)(label)
        for table, keys in ((self.lengths, [len(characters)]), (self.characters, set(characters))):
            for key in keys:
                _add(table, key, Seen(1, number, label))

    def by_graphemes(self, labels: Iterable[str]) -> "DatasetStatistics":
        """The same, with the characters and lengths of its labels (all of them) by graphemes."""
        found = dataclasses.replace(self, graphemes=True, characters={}, lengths={})
        for number, label in enumerate(labels):
            found._count_label(label, number)
        return found

    def append(self, part: "DatasetStatistics") -> None:
        """Adds what a file that follows holds."""
        self.starts.append(self.records)
        self.unreadable.update((self.records + number, reason) for number, reason in part.unreadable.items())
        self.widths.update(part.widths)
        for table, others in ((self.lengths, part.lengths), (self.characters, part.characters)):
            for key, seen in others.items():
                _add(table, key, dataclasses.replace(seen, record=self.records + seen.record))
        self.records += part.records


def _add(table, key, seen):
    if key in table:
        table[key].count += seen.count
    else:
        table[key] = seen


def scan(path: str, graphemes: bool = False) -> DatasetStatistics:
    """Looks through a dataset: every label, and every image as training decodes it. What is unreadable is logged.

    Args: path: the dataset, as for `records.files_of`. graphemes: what the characters of labels are.
    Raises: UserError if there is no file, or one is no dataset or broken, or they hold nothing that can be read, and
      as `charset.splitter`.
    """
    found = DatasetStatistics(path, files_of(path), graphemes=graphemes)
    for file in found.files:
        told = read_sidecar(file)
        if told and graphemes:  # a sidecar counts code points
            told = told.by_graphemes(_labels(file))
        found.append(told or _scan_file(file, graphemes))
    if not found.records:
        raise UserError(f"{path}: the dataset is empty; make one with `aocr dataset`")
    for number, reason in found.unreadable.items():
        log.warning("%s: record %d is left out: %s", path, number, reason)
    log.info("%s: %d records, %d used, %d left out", path, found.records, found.usable, len(found.unreadable))
    if not found.usable:
        raise UserError(f"{path}: none of the {found.records} records can be used; see the lines above")
    return found


def _scan_file(file, graphemes):
    found = DatasetStatistics(file, [file], graphemes=graphemes)
    for label, size in tqdm(_labels_and_sizes(file), desc="scan", unit=" records", disable=None):
        reason = None
        try:
            label = label.decode()
        except UnicodeDecodeError as error:
            reason = f"the label is not UTF-8: byte 0x{label[error.start]:02x} at {error.start}"
        if size is None:
            reason = "the image cannot be decoded"
        if reason:
            found.unreadable[found.records] = reason
            found.records += 1
        else:
            found.count(label, int(size[1]), int(size[0]))
    return found


def _labels_and_sizes(file):
    """Yields (label bytes, [height, width] or None if the image cannot be decoded) of each record, in order."""

    def look(serialized):
        record = parse_example(serialized)
        return record["label"], tf.shape(decode_image(record["image"]))[:2]

    serialized = read_file(file)
    sizes = iter(serialized.map(look, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))
    # Follows behind, to where an image cannot be decoded: from the start each time would take the square of the time.
    labels, passed = iter(serialized.map(_label_only)), 0
    for number in itertools.count():
        try:
            label, size = next(sizes)
            yield label.numpy(), size.numpy()
        except StopIteration:
            break
        except NO_EXAMPLE:
            try:  # is it the image, or the record?
                label, = itertools.islice(labels, number - passed, number - passed + 1)
                passed = number + 1
                yield label.numpy(), None
            except NO_EXAMPLE as error:
                raise broken_file(file, number, error) from None
        except tf.errors.OpError as error:
            raise broken_file(file, number, error) from None


def _label_only(serialized):
    return parse_example(serialized)["label"]


def _labels(file):
    """Yields each record's label (str), in order, of a file that `aocr dataset` wrote; no image is decoded."""
    number = 0
    try:
        for label in read_file(file).map(_label_only, num_parallel_calls=tf.data.AUTOTUNE):
            yield label.numpy().decode()
            number += 1
    except tf.errors.OpError as error:
        raise broken_file(file, number, error) from None


def fingerprint(file: str) -> str:
    """What tells a file from another: its length in bytes and a hash of its start and end."""
    length = tf.io.gfile.stat(file).length
    with tf.io.gfile.GFile(file, "rb") as stream:
        digest = hashlib.sha256(stream.read(FINGERPRINT_BYTES))
        stream.seek(max(0, length - FINGERPRINT_BYTES))
        digest.update(stream.read(FINGERPRINT_BYTES))
    return f"{length}-{digest.hexdigest()}"


def write_sidecar(found: DatasetStatistics, file: str) -> None:
    """Writes what was counted while a file was written, of it alone, beside it."""
    tables = {name: {key: dataclasses.astuple(seen) for key, seen in getattr(found, name).items()}
              for name in ("lengths", "characters")}
    values = dict(version=SIDECAR_VERSION, fingerprint=fingerprint(file), records=found.records, widths=found.widths,
                  **tables)
    write_text(file + SIDECAR_EXTENSION, json.dumps(values, ensure_ascii=False, sort_keys=True) + "\n")


def read_sidecar(file: str) -> DatasetStatistics | None:
    """What a file's sidecar tells of it; None without one, or if it is broken or its fingerprint does not match."""
    path = file + SIDECAR_EXTENSION
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as stream:
            values = load_json(stream.read())
        if values["version"] != SIDECAR_VERSION or values["fingerprint"] != fingerprint(file):
            log.info("%s tells of another dataset than %s; looking through that", path, file)
            return None
        return _scan_of(values, file)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: broken (%r); looking through %s", path, error, file)
        return None


def _scan_of(values, file):
    """DatasetStatistics from a sidecar's values. An error of Python's own if they contradict each other."""
    records = values["records"]
    lengths, characters = ({key: Seen(*seen) for key, seen in values[name].items()}
                           for name in ("lengths", "characters"))
    seen = [*lengths.values(), *characters.values()]
    "".join([*characters, *(one.label for one in seen)]).encode()  # raises what they do if these are no texts
    numbers = [records, *values["widths"].values(), *(one.count for one in seen), *(one.record for one in seen)]
    found = DatasetStatistics(file, [file], records=records, characters=characters,
                 lengths={int(length): one for length, one in lengths.items()},
                 widths=collections.Counter({int(width): count for width, count in values["widths"].items()}))
    if not (all(type(number) is int and number >= 0 for number in numbers)
            and found.widths.total() == sum(one.count for one in lengths.values()) == records
            and all(one.record < records for one in seen) and min([*found.lengths, *found.widths], default=0) >= 0):
        raise ValueError("it contradicts itself")
    return found
