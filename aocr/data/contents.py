"""Sorts the files of a directory by what they are: images, their label files, tables, other texts."""

import collections
import itertools
import os
import unicodedata
from typing import NamedTuple

from aocr.data.listing import Directory, is_image

LABEL_EXTENSIONS = (".gt.txt", ".txt")  # of label files, the preferred one first
TABLE_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
# What OCRopus, OCR4all and tesstrain put between a line's name and the extension of its pictures.
VARIANTS = (".bin", ".nrm", ".raw", ".dew", ".desp", ".gray", ".grey", ".orig", ".color")
NO_LABELS = ("readme", "read_me", "license", "licence", "copying", "notes", "note", "changelog", "classes", "info",
             "about", "authors", "credits", "citation", "requirements", "todo")  # names of texts about a directory
# Extensions of images that are not read: Pillow lacks the format, or runs programs for it.
UNREAD = (".heic", ".heif", ".jxl", ".svg", ".pdf", ".eps", ".ps", ".djvu", ".cr2", ".nef", ".dng", ".wmf", ".emf")
SYSTEM_FILES = ("thumbs.db", "desktop.ini")


class Contents(NamedTuple):
    """The files of one directory; every file is in one of the fields, label files as values."""

    place: str  # path of the directory
    images: list[str]  # file names, sorted
    unread: list[str]  # images in formats that are not read
    labels: dict[str, str]  # image -> its label file
    tables: list[str]  # .csv, .json and the like
    texts: list[str]  # .txt files of no image
    ignored: collections.Counter[str]  # kind of other file -> files


def contents_of(directory: Directory) -> Contents:
    """Sorts the files of a directory."""
    ignored = collections.Counter({"hidden directories": directory.hidden,
                                   "neither files nor directories": len(directory.others)})
    rooms = collections.defaultdict(list)
    for name in directory.files:
        rooms[_room(name)].append(name)
    labels = _paired(rooms["images"], rooms["texts"])
    stems = {stem_of(name) for name in (*rooms["images"], *labels.values())}
    tables, texts = [], []
    for name in rooms["tables"] + rooms["texts"]:
        if stem_of(name) in stems or _is_about(name):
            if name not in labels.values():
                ignored[kind_of(name)] += 1
        else:
            (tables if name in rooms["tables"] else texts).append(name)
    ignored.update(map(kind_of, rooms["other"]))
    ignored["hidden"] += len(rooms["hidden"])
    return Contents(directory.place, rooms["images"], rooms["unread"], labels, tables, texts, +ignored)


def stem_of(name: str) -> str:
    """Returns a file's name without its extension, in Unicode NFC."""
    ending = next((ending for ending in LABEL_EXTENSIONS if name.lower().endswith(ending)), None)
    return unicodedata.normalize("NFC", name[:-len(ending)] if ending else os.path.splitext(name)[0])


def kind_of(name: str) -> str:
    """Returns by what a file that is not used is counted: its extension."""
    return os.path.splitext(name)[1].lower() or "without extension"


def _room(name):
    """Returns the field of Contents that a file belongs to by its name; `hidden` and `other` are ignored."""
    lower = name.lower()
    if lower in SYSTEM_FILES or name.startswith("._") or name.startswith(".") and not is_image(name):
        return "hidden"
    if is_image(name):
        return "images"
    if lower.endswith(UNREAD):
        return "unread"
    if lower.endswith(LABEL_EXTENSIONS):
        return "texts"
    return "tables" if lower.endswith(TABLE_EXTENSIONS) else "other"


def _is_about(name):
    stem = stem_of(name).lower()
    return name.lower().endswith(".txt") and (stem in NO_LABELS or stem.startswith(("readme", "license")))


def _paired(images, texts):
    """Returns the label file of each image that has one."""
    found = {}
    for name in texts:
        ending = next(ending for ending in LABEL_EXTENSIONS if name.lower().endswith(ending))
        found[stem_of(name), ending] = name
    labels = {}
    for name in images:
        stem = stem_of(name)
        plain, variant = os.path.splitext(stem)
        stems = (stem, plain) if variant.lower() in VARIANTS else (stem,)
        label = next((found[place] for place in itertools.product(stems, LABEL_EXTENSIONS) if place in found), None)
        if label:
            labels[name] = label
    return labels
