"""Reads lists: one image per line, its path and its label."""

import re
from collections.abc import Iterator

from aocr.data.listing import IMAGE_EXTENSIONS
from aocr.data.rows import LABEL_NAMES, PATH_NAMES, BadRow, Rejected, Row, decode

# "word_1.png, TEXT": a comma or semicolon ends a path only right after the first extension of an image.
FIRST_IMAGE = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, IMAGE_EXTENSIONS))})\"?)([\s,;].*)", re.IGNORECASE)
HEADER = re.compile(rf"\"?(?:{'|'.join(PATH_NAMES)})\"?[ ]*[\t,; ][ ]*\"?(?:{'|'.join(LABEL_NAMES)})\"?", re.IGNORECASE)
ESCAPED = re.compile(r'\\(["\\])')


def read_list(source: str, lines: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """Yields the rows of a list, skipping blank lines and a header. `lines`: in UTF-8, without line ends."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = decode(line)
            if number > 1 or not HEADER.fullmatch(text.strip()):
                path, label = parse_line(text)
                yield Row(source, number, line, label, path)
        except BadRow as error:
            yield Rejected(source, number, line, *error.args)


def parse_line(line: str) -> tuple[str, str]:
    """Returns (path, label) of a line, split at the first tab or, without tab, after `IMAGE.png,` or at a blank.

    Raises BadRow.
    """
    if "\t" in line:
        path, label = line.split("\t", 1)
    elif (match := FIRST_IMAGE.fullmatch(line)) and match[2][0] in ",;":
        path, label = _unquoted(match[1]), _unquoted(match[2][1:].removeprefix(" "))
    else:
        path, label = (*re.split(r"\s", line, maxsplit=1), "")[:2]
        if path == line:
            path = ""
    if not path:
        raise BadRow("no label field", f"{line!r}; a line must be an image path, a tab or blank, and the label")
    return path, label


def _unquoted(field):
    """Removes quotes around a field, and the escapes or doubled quotes in it. Raises BadRow."""
    if len(field.strip()) < 2 or not field.strip().startswith('"') or not field.strip().endswith('"'):
        return field
    inner = field.strip()[1:-1]
    if '"' in inner.replace('\\"', "").replace('""', ""):
        raise BadRow("bad quotes", f"{field.strip()!r}: quotes within quotes; escape the inner ones as \\\"")
    return ESCAPED.sub(r"\1", inner) if '\\"' in inner else inner.replace('""', '"').replace("\\\\", "\\")
