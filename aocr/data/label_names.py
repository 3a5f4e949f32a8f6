"""Tells names of files that are hardly labels."""

import os
import re
from collections.abc import Sequence

from aocr.config import DatasetConfig

HASH = re.compile(r"(?:^|[_\-. ])(?:[0-9a-f]{16,}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})$", re.IGNORECASE)
COPY = re.compile(r"^copy (?:\(\d+\) )?of .|"
                  r".(?: ?\(\d+\)| ?[-_] ?(?:copy|kopie|copie|copia)(?: ?\(\d+\))?| copy(?: \d+)?)$",
                  re.IGNORECASE)
# Names that cameras, scanners and programs give: img000, IMG_2034, word-1, Screenshot 2020-01-01.
SERIAL = re.compile(r"(?:img|image|pic|picture|photo|dsc|dscn|dscf|pxl|frame|scan|crop|screenshot|screen shot|word|"
                    r"line|char|sample|page|file|text|captcha|plate|test|train)[ _-]*[\d _.\-:]*\d[\d _.\-:]*",
                    re.IGNORECASE)
REMEDY = "give the labels in a list (path, tab, label) or in NAME.txt files, or set --label-pattern"


def doubts(name: str, label: str, below: str, numbered: bool, pattern: str) -> tuple[tuple[str, str], ...]:
    """Returns notes, as in Row, on a label that was taken from a file's name and is hardly one.

    Args: below: name of the directory that holds the file; empty for the input itself. numbered: from `is_numbered`.
      pattern: --label-pattern; if it is not the default, the user has told where the label is.
    """
    stem, told = os.path.splitext(name)[0], pattern != DatasetConfig.label_pattern
    if HASH.search(label):
        return (("hash in the label", f"{label!r} from {name!r}; {REMEDY}"),)
    if COPY.search(label):
        return (("mark of a copy in the label", f"{label!r} from {name!r}; rename or remove the file"),)
    if not told and numbered and (stem.isdecimal() or SERIAL.fullmatch(stem)):
        return (("numbered name as the label", f"{label!r} from {name!r}; {REMEDY}"),)
    if not told and len(below) == 1 and not label.upper().startswith(below.upper() if below.isalpha() else "\0"):
        return (("name in a class folder as the label", f"{label!r} from {below}/{name}; {REMEDY}"),)
    return ()


def is_numbered(names: Sequence[str]) -> bool:
    """Returns whether most images of a directory have serial names, or three or more are counted through: 1.png, 2.png,
    3.png."""
    stems = [os.path.splitext(name)[0] for name in names]
    if 2 * sum(bool(SERIAL.fullmatch(stem)) for stem in stems) > len(stems):
        return True
    if len(stems) < 3 or not all(stem.isascii() and stem.isdecimal() for stem in stems):
        return False
    numbers = sorted(int(stem[-18:]) for stem in stems)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))
