"""JSON as TensorFlow Serving reads and writes it (with RapidJSON): what it accepts, its messages, its spelling."""

import json
import math
import re
import struct
from typing import Any, NoReturn

DEEPEST = 200  # levels of nesting in the slow parser; RapidJSON has no limit but its stack
BOM = b"\xef\xbb\xbf"
SPACE = re.compile(rb"[ \n\r\t]*")
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # Python accepts lone surrogates
PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
HEX = re.compile(rb"[0-9a-fA-F]{4}")
DIGITS = re.compile(rb"[0-9]+")
ESCAPES = {b'"': '"', b"\\": "\\", b"/": "/", b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t"}
CONTROL = re.compile(r"\\u00[01][0-9a-f]")
LARGEST_INTEGER, LEAST_INTEGER = 2**64 - 1, -2**63
TYPES = {type(None): "Null", bool: "Bool", int: "Number", float: "Number", str: "String", list: "Array"}


class ParseError(ValueError):
    """Raised for text that is not JSON: `ParseError(message)`, with the offset in bytes."""


class Object(dict):
    """A JSON object. Of several members of one name the first one counts, but `members` counts all."""

    members: int


def _object(pairs):
    found = Object()
    found.members = len(pairs)
    for name, value in pairs:
        found.setdefault(name, value)
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_object)


def parse(body: bytes) -> Any:
    """Returns the first JSON value in `body`; bytes after it are ignored, NaN and Infinity are accepted.

    Bytes of a string that are not UTF-8 become lone surrogates (`surrogateescape`).
    Raises: ParseError.
    """
    if not body:
        raise ParseError("The document is empty")
    start = len(BOM) if body.startswith(BOM) else 0
    if not SURROGATE.search(body):
        text = body[start:].decode("utf-8", "surrogateescape")
        try:
            return DECODER.raw_decode(text, len(text) - len(text.lstrip(" \n\r\t")))[0]
        except (ValueError, RecursionError):
            pass  # the parser below tells what is wrong, and where, in RapidJSON's words
    parser = _Parser(body, start)
    parser.skip()
    if parser.at == len(body):
        parser.fail("The document is empty.")
    return parser.value(0)


class _Parser:
    """Parses bytes with RapidJSON's messages and offsets. Slow: for what is wrong, or rare."""

    def __init__(self, body: bytes, at: int):
        self._body, self.at = body, at

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        raise ParseError(f"{message} at offset: {self.at if at is None else at}")

    def skip(self) -> None:
        self.at = SPACE.match(self._body, self.at).end()  # type: ignore[union-attr]

    def _peek(self) -> bytes:
        return self._body[self.at:self.at + 1]

    def _take(self, text: bytes) -> bool:
        """Advances over `text`, as far as it is there."""
        for k in range(len(text)):
            if self._peek() != text[k:k + 1]:
                return False
            self.at += 1
        return True

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            self.fail(f"More than {DEEPEST} levels of nesting")
        kind = self._peek()
        if kind == b"{":
            return self._object(depth)
        if kind == b"[":
            return self._array(depth)
        if kind == b'"':
            return self._string()
        for text, value in ((b"null", None), (b"true", True), (b"false", False)):
            if kind == text[:1]:
                return value if self._take(text) else self.fail("Invalid value.")
        return self._number()

    def _object(self, depth):
        pairs = []
        self.at += 1
        self.skip()
        while not (not pairs and self._take(b"}")):
            if self._peek() != b'"':
                self.fail("Missing a name for object member.")
            name = self._string()
            self.skip()
            if not self._take(b":"):
                self.fail("Missing a colon after a name of object member.")
            self.skip()
            pairs.append((name, self.value(depth + 1)))
            self.skip()
            if self._take(b"}"):
                break
            if not self._take(b","):
                self.fail("Missing a comma or } after an object member.")
            self.skip()
        return _object(pairs)

    def _array(self, depth):
        values = []
        self.at += 1
        self.skip()
        while not (not values and self._take(b"]")):
            values.append(self.value(depth + 1))
            self.skip()
            if self._take(b"]"):
                break
            if not self._take(b","):
                self.fail("Missing a comma or ] after an array element.")
            self.skip()
        return values

    def _string(self):
        parts = []
        self.at += 1
        while True:
            plain = PLAIN.match(self._body, self.at)
            parts.append(plain.group().decode("utf-8", "surrogateescape"))
            self.at = plain.end()
            end = self._peek()
            if end == b'"':
                self.at += 1
                return "".join(parts)
            if end in (b"", b"\0"):
                self.fail("Missing a closing quotation mark in string.")
            if end != b"\\":
                self.fail("Invalid encoding in string.")
            parts.append(self._escaped())

    def _escaped(self):
        start = self.at
        kind = self._body[start + 1:start + 2]
        self.at += 2
        if kind in ESCAPES:
            return ESCAPES[kind]
        if kind != b"u":
            self.fail("Invalid escape character in string.", start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or not self._take(b"\\u"):
                self.fail("The surrogate pair in string is invalid.", start)
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                self.fail("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
        return chr(code)

    def _hex(self, start):
        digits = HEX.match(self._body, self.at)
        if not digits:
            self.fail("Incorrect hex digit after \\u escape in string.", start)
        self.at = digits.end()
        return int(digits.group(), 16)

    def _number(self):
        start = self.at
        found = NUMBER.match(self._body, start)
        if not found:
            return self._not_finite()
        self.at = found.end()
        whole = True
        if self._take(b"."):
            whole = False
            self._digits("Miss fraction part in number.")
        if self._peek() in (b"e", b"E"):
            whole = False
            self.at += 2 if self._body[self.at + 1:self.at + 2] in (b"+", b"-") else 1
            self._digits("Miss exponent in number.")
        text = self._body[start:self.at].decode()
        if whole and len(text) <= 20 and LEAST_INTEGER <= int(text) <= LARGEST_INTEGER:
            return int(text)
        if math.isinf(float(text)):
            self.fail("Number too big to be stored in double.", start)
        return float(text)

    def _digits(self, message):
        digits = DIGITS.match(self._body, self.at)
        if not digits:
            self.fail(message)
        self.at = digits.end()

    def _not_finite(self):
        sign = -1.0 if self._take(b"-") else 1.0
        if self._peek() == b"N" and self._take(b"NaN"):
            return math.nan
        if self._peek() == b"I" and self._take(b"Inf"):
            if self._peek() == b"i" and not self._take(b"inity"):
                self.fail("Invalid value.")
            return sign * math.inf
        return self.fail("Invalid value.")


def type_name(value: Any) -> str:
    """Returns RapidJSON's name of a value's type."""
    if isinstance(value, bool):
        return str(value)
    return "Object" if isinstance(value, dict) else TYPES[type(value)]


def quoted(value: Any) -> str:
    """Returns a parsed value as TensorFlow Serving quotes it in its messages: indented by 4 blanks."""
    if isinstance(value, float):
        return decimal(value)
    text = json.dumps(value, ensure_ascii=False, indent=4)
    return CONTROL.sub(lambda found: found.group().upper().replace("\\U", "\\u"), text)


def decimal(value: float, single: bool = False) -> str:
    """Returns a number as TensorFlow Serving writes it: 0.98, 1.0, 1e-07. `single`: a float32, else a float64."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if (_single(float(text)) if single else float(text)) != value:
        text = f"{value:.{9 if single else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


def _single(value):
    return struct.unpack("f", struct.pack("f", value))[0]
