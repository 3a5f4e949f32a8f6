"""Reads directories of images: with label files beside them, with lists of them, or with the labels in their names."""

import collections
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aocr.data.contents import TABLE_EXTENSIONS, Contents, contents_of, kind_of, stem_of
from aocr.data.label_names import doubts, is_numbered
from aocr.data.listing import directories, is_image
from aocr.data.rows import BadRow, Rejected, Row, decode
from aocr.data.text_lines import lines_of
from aocr.errors import UserError
from aocr.files import existing_form

log = logging.getLogger(__name__)

LIST_NAMES = ("labels", "label", "annotations", "annotation", "metadata", "gt", "ground_truth", "groundtruth",
              "transcriptions", "transcripts", "transcription", "list", "index")
MOST_LISTS = 50  # files of a directory that are tried as lists whatever their names
SAMPLED = 20  # rows by which a list is recognised
LARGEST_LABEL = 1 << 16  # bytes of a label file
MOST_KINDS = 12  # of ignored files, in messages
COMPARED = 100_000  # names of images and of text files that are compared between directories

Reader = Callable[[str], Iterator[Row | Rejected]]  # reads the rows of a text file


class _List(NamedTuple):
    """A file in a directory that lists images with labels."""

    path: str
    images: frozenset[str]  # paths of the first images that it names


def folder_format(folder: str, read: Reader) -> str:
    """Returns the format of a directory: listed, folder or names.

    Raises UserError if it cannot be read, or if labels are in several places.
    """
    lists, paired, stems, texts = [], 0, set(), set()
    for contents in _contents(folder):
        lists += _lists_in(contents, read)
        paired += len(contents.labels)
        for names, found in ((contents.images, stems), (contents.texts, texts)):
            found.update(map(stem_of, names[:COMPARED - len(found)]))
    if lists and paired:
        raise UserError(f"{folder}: {lists[0].path} lists images, and {paired} images have label files beside them; "
                        "name the list as the input, or add --input-format folder")
    if not lists and not paired and (apart := texts & stems):
        raise UserError(f"{folder}: {len(apart)} text files are named like images in other directories, such as "
                        f"{min(apart)!r}; put the label files beside the images, or add --input-format names if the "
                        "names of the images are their labels")
    return "listed" if lists else "folder" if paired else "names"


def read_folder(folder: str) -> Iterator[Row | Rejected]:
    """Yields images with label files beside them: NAME.png with NAME.gt.txt or NAME.txt."""
    numbers, used, ignored = itertools.count(1), 0, collections.Counter()
    for contents in _contents(folder):
        ignored += contents.ignored + collections.Counter(map(kind_of, contents.tables))
        for name in contents.images:
            row = _labelled(folder, next(numbers), contents, name)
            used += isinstance(row, Row)
            yield row
        yield from _unread(folder, numbers, contents)
        for name in contents.texts:
            path = os.path.join(contents.place, name)
            yield Rejected(folder, next(numbers), _bytes(path), "label file without image",
                           f"{path}: no image of that name beside it; remove the file or add the image")
    _log(folder, f"{used} images with label files beside them", ignored)


def _unread(folder, numbers, contents):
    for name in contents.unread:
        path = os.path.join(contents.place, name)
        yield Rejected(folder, next(numbers), _bytes(path), "unreadable image",
                       f"{path}: images of this format are not read; save it as PNG")


def _labelled(folder, number, contents, name):
    """Returns the row of an image with its label file."""
    path, raw = os.path.join(contents.place, name), _bytes(os.path.join(contents.place, name))
    try:
        if name not in contents.labels:
            raise BadRow("no label file", f"neither {stem_of(name)}.gt.txt nor {stem_of(name)}.txt next to it")
        content = _label_in(os.path.join(contents.place, contents.labels[name]))
        raw += b"\t" + content
        return Row(folder, number, raw, decode(content), path)
    except BadRow as error:
        return Rejected(folder, number, raw, error.args[0], f"{path}: {error.args[1]}")


def _label_in(path):
    """Returns the content of a label file, without line ends at its end. Raises BadRow."""
    lines, size = [], 0
    try:
        for line in lines_of(path, None):
            lines.append(line)
            size += len(line) + 1
            if size > LARGEST_LABEL:
                raise BadRow("label too long", f"{path} has more than {LARGEST_LABEL >> 10} KB; is it a label?")
    except UserError as error:
        raise BadRow("unreadable label file", str(error)) from None
    return b"\n".join(lines).rstrip(b"\n")


def read_names(folder: str, label_pattern: re.Pattern[str]) -> Iterator[Row | Rejected]:
    """Yields images with their labels in the file names."""
    numbers, used, ignored = itertools.count(1), 0, collections.Counter()
    for contents in _contents(folder):
        ignored += contents.ignored + collections.Counter(map(kind_of, contents.tables + contents.texts))
        numbered = is_numbered(contents.images)
        below = "" if contents.place == folder else os.path.basename(contents.place)
        for name in contents.images:
            row = _named(folder, next(numbers), os.path.join(contents.place, name), label_pattern)
            if isinstance(row, Row):
                used += 1
                row = row._replace(notes=doubts(name, row.label, below, numbered, label_pattern.pattern))
            yield row
        yield from _unread(folder, numbers, contents)
    _log(folder, f"{used} images with labels in their names", ignored)


def _named(folder, number, path, label_pattern):
    """Returns the row of an image whose label is in its name."""
    raw, stem = _bytes(path), os.path.splitext(os.path.basename(path))[0]
    match = label_pattern.fullmatch(stem)
    if not match or match.group(1) is None:
        return Rejected(folder, number, raw, "no label in the name",
                        f"{path}: {stem!r} does not match --label-pattern {label_pattern.pattern}")
    label = _bytes(match.group(1))
    try:
        return Row(folder, number, raw + b"\t" + label, decode(label), path)
    except BadRow as error:
        return Rejected(folder, number, raw, error.args[0], f"{path}: the name is not UTF-8; rename the file")


def read_listed(folder: str, read: Reader) -> Iterator[Row | Rejected]:
    """Yields the rows of the lists in a directory, then the images that none of them names, as rejected.

    Raises UserError if lists beside each other name the same images, and as `read`.
    """
    numbers, named, used, images, ignored = itertools.count(1), set(), 0, [], collections.Counter()
    for contents in _contents(folder):
        lists = _lists_in(contents, read)
        _check_apart(lists)
        for found in lists:
            for row in read(found.path):
                if isinstance(row, Row):
                    path = _inside(contents.place, row.path) or row.path or ""
                    named.add(os.path.normpath(path))
                    row = row._replace(path=path)
                    used += 1
                yield row
        yield from _unread(folder, numbers, contents)
        read_ones = {os.path.basename(found.path) for found in lists}
        labels = set(contents.labels.values())
        images += [os.path.join(contents.place, name) for name in contents.images]
        ignored += contents.ignored + collections.Counter(
            kind_of(name) for name in (*contents.tables, *contents.texts, *labels) if name not in read_ones)
    for path in images:
        if os.path.normpath(path) not in named:
            yield Rejected(folder, next(numbers), _bytes(path), "image in no list",
                           f"{path}: none of the lists in {folder} names it; add it to one or remove it")
    _log(folder, f"{used} rows of lists for {len(images)} images", ignored)


def _lists_in(contents, read):
    """Returns the files of a directory that list images."""
    names = contents.tables + contents.texts
    if len(names) > MOST_LISTS:  # such as label files apart from their images
        names = [name for name in names if _is_list_by_name(name)]
    found = [_list_of(os.path.join(contents.place, name), contents, read) for name in names]
    return [one for one in found if one]


def _is_list_by_name(name):
    return stem_of(name).lower() in LIST_NAMES


def _list_of(path, contents, read):
    """Returns a _List if the first rows of a file mostly name images that exist, or could by the file's name.

    Raises UserError if it should be a list by its name and is not.
    """
    known = _is_list_by_name(os.path.basename(path))
    try:
        sample = list(itertools.islice(read(path), SAMPLED))
    except UserError:
        if known:
            raise
        return None
    paths = [row.path or "" for row in sample if isinstance(row, Row)]
    like_images = [path for path in paths if is_image(path)]
    inside = [place for path in like_images if (place := _inside(contents.place, path))]
    if paths and 2 * len(like_images if known else inside) >= len(paths):
        return _List(path, frozenset(inside))
    if known and sample:
        _tell_no_list(path, sample)
    return None


def _tell_no_list(path, sample):
    reason = next((row.reason for row in sample if isinstance(row, Rejected)), "its paths are not those of images")
    if path.lower().endswith(TABLE_EXTENSIONS):
        raise UserError(f"{path}: should list images with labels by its name, but does not: {reason}; fix or remove "
                        "it, or choose what is read by --input-format names or folder")
    log.warning("%s: does not list images with labels and is not read", path)


def _check_apart(lists):
    """Raises UserError if two lists name the same images."""
    for one, other in itertools.combinations(lists, 2):
        if one.images & other.images:
            raise UserError(f"{one.path} and {other.path} list the same images; name one of them as the input")


def _inside(place, path):
    """Returns where an image of a list in the directory `place` is: there or in the directory above, or in `images`
    below one of them. None if it is nowhere."""
    above = os.path.dirname(place)
    starts = (place, os.path.join(place, "images"), above, os.path.join(above, "images"))
    return next(filter(None, (existing_form(os.path.join(start, path)) for start in starts)), None)


def _contents(folder) -> Iterator[Contents]:
    return map(contents_of, directories(folder))


def _bytes(path):
    return path.encode("utf-8", "surrogateescape")


def _log(folder, taken_for, ignored):
    told = ", ".join(f"{count} {kind}" for kind, count in ignored.most_common(MOST_KINDS))
    if len(ignored) > MOST_KINDS:
        told += f" and {sum(ignored.values()) - sum(count for _, count in ignored.most_common(MOST_KINDS))} others"
    log.info("%s: %s%s", folder, taken_for, f"; ignored: {told}" if told else "")
