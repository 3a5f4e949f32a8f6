"""Builds datasets from rows: workers check, one writer writes; output files appear only when complete."""

import collections
import contextlib
import dataclasses
import itertools
import logging
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import tensorflow.compat.v1 as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from aocr.aside import is_stream
from aocr.config import DatasetConfig
from aocr.data.background import with_background
from aocr.data.checks import Checked
from aocr.data.duplicates import Duplicates
from aocr.data.formats import format_of, read_rows
from aocr.data.outputs import check
from aocr.data.records import sidecar_of, to_example
from aocr.data.rows import STDIN, Rejected
from aocr.data.scanning import DatasetStatistics, write_sidecar
from aocr.data.workers import checked_rows
from aocr.errors import UserError, usage_error
from aocr.files import StorageError, WholeFiles, cause, existing_form, is_pattern, matches_of

log = logging.getLogger(__name__)

SPLIT_NAMES = {1: ("",), 2: ("-train", "-test"), 3: ("-train", "-validation", "-test")}
EMPTY, EMPTY_SHARD = "empty dataset", "empty shard"
LOGGED_NOTES = 100  # of each kind
DUPLICATE = "duplicate image with a different label"


@dataclasses.dataclass
class Counts:
    """Outcome of a build, counted by row."""

    written: int = 0
    rejected: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # kind -> rows
    noted: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # kind -> rows kept
    # Kind of image file -> images.
    rewritten: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @property
    def skipped(self) -> int:
        """Number of unusable rows."""
        return sum(self.rejected.values())

    def problems(self) -> str:
        """Formats the problems for messages, most common first: ", 3 missing image, 1 not UTF-8"."""
        return "".join(f", {count} {kind}" for kind, count in (self.rejected + self.noted).most_common())


class Part(NamedTuple):
    """One dataset that a build writes: its share of the rows and its file paths."""

    share: float
    files: list[str]
    pattern: str  # matches the files


def make_dataset(inputs: list[str], output: str, config: DatasetConfig,
                 stdin: BinaryIO | None = None) -> tuple[Counts, list[Part]]:
    """Writes one dataset, or those of a split, from annotated images; output appears only when all of it is complete.

    Args: inputs: paths, patterns, or `-` for `stdin`. output: path.
    Raises: UserError if an input cannot be read, an output cannot be written, no row is usable, or, with `strict`,
      any row has a problem.
    """
    sources, label_pattern, parts = prepare(inputs, output, config)
    config = with_background(config, sources)
    rows = itertools.chain.from_iterable(
        read_rows(path, kind, label_pattern, stdin) for path, kind in sources)
    files = [file for part in parts for file in part.files]
    with outputs_of([name for file in files for name in (file, sidecar_of(file))], output, config) as whole:
        build = _write(rows, parts, config, whole)
        counts = build.counts
        note_empty(parts, build.written, counts, config)
        check_usable(counts, inputs, config)
        for scan, file in zip(build.scans, files):
            write_sidecar(scan, whole.part(file), whole.part(sidecar_of(file)))
    log.info("%s: %d records written, %d rows skipped%s", output, counts.written, counts.skipped, counts.problems())
    if counts.rewritten:
        log.info("rewritten as PNG, so that every decoder reads the same pixels: %s",
                 ", ".join(f"{count} {kind}" for kind, count in counts.rewritten.most_common()))
    return counts, parts


class Unusable(UserError):
    """Raised if the rows allow no dataset. The rejected rows are written all the same."""


@contextlib.contextmanager
def outputs_of(files: list[str], output: str, config: DatasetConfig) -> Iterator[WholeFiles]:
    """Yields temporary files for those of a build and its rejected rows. They appear together when the block succeeds;
    after Unusable, only the rejected rows do.

    Raises: UserError, naming `output` or one of the files, if one cannot be written.
    """
    rejects = rejects_aside(config)
    try:
        with WholeFiles([*files, *rejects]) as whole:
            try:
                yield whole
            except Unusable:
                whole.put(rejects)
                raise
            whole.put()
    except StorageError:
        raise
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{getattr(error, 'filename', None) or output}: cannot be written: {cause(error)}") from None


def _write(rows, parts, config, whole):
    """Writes the rows to the temporary files of `whole` (WholeFiles). Returns the _Build."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(logging_redirect_tqdm([logging.getLogger("aocr")]))
        writers = [stack.enter_context(tf.io.TFRecordWriter(whole.part(file), _compression(config)))
                   for part in parts for file in part.files]
        rejects = stack.enter_context(_rejects_file(config, whole))
        build = _Build(config, parts, writers, rejects, stack.enter_context(Duplicates()))
        with tqdm(desc="dataset", unit=" rows", disable=None) as bar, (
                contextlib.closing(checked_rows(rows, config))) as every:
            for checked in every:
                build.add(checked)
                bar.update()
        build.find_duplicates()
    return build


def check_usable(counts: Counts, inputs: list[str], config: DatasetConfig) -> None:
    """Raises Unusable without usable rows or, with `strict`, if any row has a problem."""
    if not counts.written:
        raise Unusable(f"{', '.join(inputs)}: no usable rows ({counts.skipped} skipped{counts.problems()}); nothing "
                       "was written")
    if config.strict and counts.problems():
        raise Unusable(f"--strict: {sum((counts.rejected + counts.noted).values())} problems{counts.problems()}; "
                       "nothing was written")


def prepare(inputs: list[str], output: str,
            config: DatasetConfig) -> tuple[list[tuple[str, str]], re.Pattern[str], list[Part]]:
    """Validates the arguments of a build before anything is read.

    Returns: ((path, format) of each input, label pattern, datasets to write). Raises: UserError for invalid arguments.
    """
    sources = [(path, format_of(path, config.input_format)) for path in expand(inputs)]
    parts = parts_of(output, config)
    check([path for path, _ in sources], [file for part in parts for file in part.files], config)
    return sources, _label_pattern(config), parts


def expand(inputs: list[str]) -> list[str]:
    """Returns the input paths with patterns expanded. Raises UserError if one matches no file."""
    found = []
    for path in inputs:
        pattern = is_pattern(path)
        matches = [path]
        if pattern:
            matches = matches_of(path)
        if path != STDIN and not pattern:
            form = existing_form(path)
            matches = [form] if form else []
        if not matches:
            raise UserError(f"{path}: cannot be read: no such file or directory")
        found += matches
    return found


def parts_of(output: str, config: DatasetConfig) -> list[Part]:
    """Returns the datasets that a build writes. Raises UserError for invalid shares."""
    try:
        shares = [float(share) for share in config.split.split("/")] if config.split else [1.0]
    except ValueError:
        shares = []
    if len(shares) not in SPLIT_NAMES or min(shares) <= 0 or not abs(sum(shares) - 1) <= 1e-6:
        raise usage_error(f"--split is {config.split}; give two or three shares that add up to 1, such as 0.9/0.1")
    stem, extension = _split_extension(output)
    parts = []
    for share, name in zip(shares, SPLIT_NAMES[len(shares)]):
        if config.shards == 1:
            parts.append(Part(share, [f"{stem}{name}{extension}"], f"{stem}{name}{extension}"))
        else:
            names = [f"{stem}{name}-{k}-of-{config.shards:05d}{extension}"
                     for k in ["*", *(f"{k:05d}" for k in range(config.shards))]]
            parts.append(Part(share, names[1:], names[0]))
    return parts


def _split_extension(path):
    stem, extension = os.path.splitext(path)
    if extension == ".gz":
        stem, more = os.path.splitext(stem)
        return stem, more + extension
    return stem, extension


def _compression(config):
    return "GZIP" if config.compression == "gzip" else ""


def _label_pattern(config):
    try:
        pattern = re.compile(config.label_pattern)
    except re.error as error:
        raise usage_error(f"--label-pattern {config.label_pattern}: {error}") from None
    if pattern.groups < 1:
        raise usage_error(f"--label-pattern {config.label_pattern}: has no group; put the label in parentheses")
    return pattern


def part_number(checked: Checked, parts: list[Part], config: DatasetConfig) -> int:
    """Returns the index of the part that a row belongs to, independent of row order."""
    image, label = checked.digests
    digest = label if config.split_by == "label" else image
    place, end = int.from_bytes(digest[-7:], "big") / 256 ** 7, 0.0
    for number, part in enumerate(parts[:-1]):
        end += part.share
        if place < end:
            return number
    return len(parts) - 1


def note_empty(parts: list[Part], written: list[int], counts: Counts, config: DatasetConfig) -> None:
    """Logs and counts datasets without records, and those with fewer records than shards. `written`: by part."""
    for part, records in zip(parts, written):
        if counts.written and not records:
            counts.noted[EMPTY] += 1
            log.warning("%s: %s: none of the %d records falls into this share of --split (%g); add images, or enlarge "
                        "the share", part.pattern, EMPTY, counts.written, part.share)
        elif records < config.shards and counts.written:
            counts.noted[EMPTY_SHARD] += config.shards - records
            log.warning("%s: %d records leave %d of %d shards empty; lower --shards", part.pattern, records,
                        config.shards - records, config.shards)


def serialize(checked: Checked, config: DatasetConfig) -> bytes:
    """Returns a row's record: a serialized tf.train.Example."""
    comment = (checked.row.path or checked.row.comment) if config.save_filename else None
    # Deterministic order of map entries, so that equal records have equal bytes.
    return to_example(checked.image, checked.label, comment).SerializeToString(deterministic=True)


def rejects_aside(config: DatasetConfig) -> list[str]:
    """Returns the path of the rejected rows, if they go to a file; streams are written to directly."""
    return [config.rejects] if config.rejects and not is_stream(config.rejects) else []


@contextlib.contextmanager
def _rejects_file(config, files):
    """Yields the file of the rejected rows, None without one. It appears even if the build ends with a UserError."""
    if not config.rejects:
        yield None
    elif not rejects_aside(config):
        with open(config.rejects, "wb") as stream:
            yield stream
    else:
        with tf.io.gfile.GFile(files.part(config.rejects), "wb") as file:
            file.write(b"")
            yield file


class _Build:
    """Writes, counts and reports checked rows in order."""

    def __init__(self, config, parts, writers, rejects, duplicates):
        self._config, self._parts, self._rejects, self._duplicates = config, parts, rejects, duplicates
        self._writers = [writers[k * config.shards:(k + 1) * config.shards] for k in range(len(parts))]
        self._scans = [[DatasetStatistics(file, [file], backgrounds={config.background: file}) for file in part.files]
                       for part in parts]
        self.written = [0] * len(parts)  # records of each part
        self._sources = {}
        self._header = None  # last header written to the rejects file
        self.counts = Counts()

    @property
    def scans(self) -> list[DatasetStatistics]:
        """Statistics of each file, in the order of the parts."""
        return [scan for scans in self._scans for scan in scans]

    def add(self, checked: Checked | Rejected) -> None:
        """Writes a usable row; counts and logs a rejected one."""
        if not isinstance(checked, Checked):
            self._reject(checked)
            return
        row, counts = checked.row, self.counts
        for kind, text in checked.notes:
            self._note(kind, f"{row.source}:{row.number}: {kind}: {text}")
        if checked.rewritten:
            counts.rewritten[checked.kind] += 1
        source = self._sources.setdefault(row.source, len(self._sources))
        self._duplicates.add(*checked.digests, source, row.number)
        part = part_number(checked, self._parts, self._config)
        shard = self.written[part] % self._config.shards
        self.written[part] += 1
        self._writers[part][shard].write(serialize(checked, self._config))
        self._scans[part][shard].count(checked.label, *checked.size)
        counts.written += 1
        if counts.written % self._config.log_step == 0:
            log.info("%d records written", counts.written)

    def _note(self, kind, message):
        """Counts a note of a row that is kept; logs the first ones of a kind, which whole folders may share."""
        self.counts.noted[kind] += 1
        if self.counts.noted[kind] <= LOGGED_NOTES:
            log.warning("%s", message)
        elif self.counts.noted[kind] == LOGGED_NOTES + 1:
            log.warning("%s: more than %d rows; the others are only counted", kind, LOGGED_NOTES)

    def _reject(self, row):
        self.counts.rejected[row.kind] += 1
        log.warning("%s:%d: skipped, %s: %s", row.source, row.number, row.kind, row.reason)
        if self._rejects and row.raw is not None:
            if row.header != self._header:
                self._header = row.header
                if row.header is not None:
                    self._rejects.write(row.header + b"\n")
            self._rejects.write(row.raw + b"\n")

    def find_duplicates(self) -> None:
        """Logs duplicate images whose labels differ."""
        names = list(self._sources)
        for (source, number), (first_source, first_number) in self._duplicates.conflicts():
            self.counts.noted[DUPLICATE] += 1
            log.warning("%s:%d: %s: same image as %s:%d; fix the wrong label", names[source], number, DUPLICATE,
                        names[first_source], first_number)
