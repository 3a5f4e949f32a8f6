"""Chooses the samples that a report shows, and bounds what they take on the page."""

import functools
import heapq
import io
import itertools
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from aocr.evaluation.analysis import Sample
from aocr.evaluation.visualize import column_weights, on_white

SHOWN = 48  # samples in each part of the gallery
# Limits that keep the page below 20 MB, in base64 and JSON.
ROW_BYTES = 4 << 20  # of the list of samples on the page
THUMBNAIL_BYTES = 8 << 20  # of its pictures
CARD_BYTES = 27 << 10  # of a picture in the gallery; one that takes more is drawn smaller
SMALL, LARGE = (480, 40), (960, 96)  # pixels; largest pictures of the list and of the gallery
QUALITY = 60  # of their WebP
COLUMNS = 96  # most columns of the attention over a picture
STEPS = 100  # most characters with attention

# parts: see `segments`; confidences: of the text's characters, in percent, or none.
VALUES = ("record", "image", "parts", "confidence", "edits", "length", "confidences")
DrawnSteps = Callable[[int, int], float]


class Shown(NamedTuple):
    """A sample on the page."""

    record: int
    values: list  # plain values: VALUES
    picture: bytes  # WebP; empty if there is no room for it, or Pillow cannot read the image
    attention: np.ndarray | None = None  # uint8 [steps, columns], each step's maximum 255


class Top:
    """The cards with the highest keys among those offered."""

    def __init__(self) -> None:
        self._heap: list[tuple[Any, Shown]] = []
        self._order = itertools.count()

    def offer(self, key: Any, make: Callable[[], Shown]) -> None:
        """Keeps `make()` while its key is among the SHOWN highest; among equal keys, the earlier ones stay."""
        order = -next(self._order)
        if len(self._heap) < SHOWN:
            heapq.heappush(self._heap, ((key, order), make()))
        elif (key, order) > self._heap[0][0]:
            heapq.heapreplace(self._heap, ((key, order), make()))

    def cards(self) -> list[Shown]:
        """Returns the cards, highest key first."""
        return [card for _, card in sorted(self._heap, key=lambda item: item[0], reverse=True)]


class Bounded:
    """The first rows that fit into ROW_BYTES, with the first pictures that fit into THUMBNAIL_BYTES."""

    def __init__(self) -> None:
        self.rows: list[Shown] = []
        self._room, self._picture_room = ROW_BYTES, THUMBNAIL_BYTES

    def offer(self, record: int, values: list, thumbnail: Callable[[], bytes]) -> None:
        """Adds a sample if there is room for it."""
        size = len(json.dumps(values))
        if size > self._room:
            self._room = 0  # no gaps: the list is of the first ones
            return
        picture = thumbnail() if self._picture_room > 0 else b""
        if encoded_bytes(picture) > self._picture_room:
            picture, self._picture_room = b"", 0
        self._room -= size
        self._picture_room -= encoded_bytes(picture)
        self.rows.append(Shown(record, values, picture))


class Gallery:
    """The worst, the most confidently wrong and random samples; and a list of as many as a page can hold."""

    def __init__(self, seed: int = 0):
        """`seed`: of the random samples."""
        self._worst, self._confident, self._any = Top(), Top(), Top()
        self._wrong, self._right = Bounded(), Bounded()
        self._random = random.Random(seed)

    def add(self, sample: Sample, encoded: bytes, attention: np.ndarray, drawn_steps: DrawnSteps) -> None:
        """Adds a sample.

        Args:
          encoded, attention: as of visualize.write_sample.
          drawn_steps: returns the encoder steps that an image takes, from its width and height.
        """
        def card():
            picture = thumbnail(encoded, LARGE)
            if encoded_bytes(picture) > CARD_BYTES:
                picture = thumbnail(encoded, SMALL)
            weights = _compact(sample, attention, drawn_steps(*_size(encoded))) if picture else None
            return Shown(sample.record, values_of(sample, apart=weights is not None), picture, weights)

        if not sample.exact:
            self._worst.offer((-sample.similarity, sample.edits), card)
            self._confident.offer(sample.confidence, card)
        self._any.offer(self._random.random(), card)
        listed = self._right if sample.exact else self._wrong
        listed.offer(sample.record, values_of(sample), lambda: thumbnail(encoded, SMALL))

    def parts(self) -> dict[str, list[Shown]]:
        """Returns the parts of the gallery by name."""
        return dict(worst=self._worst.cards(), confident=self._confident.cards(), random=self._any.cards())

    def rows(self) -> list[Shown]:
        """Returns the rows of the list, by record; wrong ones come first where not all fit."""
        chosen = Bounded()
        for row in (*self._wrong.rows, *self._right.rows):
            chosen.offer(row.record, row.values, functools.partial(getattr, row, "picture"))
        return sorted(chosen.rows, key=lambda row: row.record)


def values_of(sample: Sample, apart: bool = False) -> list:
    """Returns the VALUES of a sample; `apart`: as of `segments`, which confidences of characters imply."""
    confidence = max(0.0, sample.confidence)  # 0 for NaN, which JSON lacks
    confidences = [round(100.0 * max(0.0, value)) for value in sample.confidences]
    return [sample.record, sample.image, segments(sample, apart or bool(confidences)), round(confidence, 4),
            sample.edits, len(sample.label), confidences]


def encoded_bytes(content: bytes) -> int:
    """Returns the length of a content in base64."""
    return -(-len(content) // 3) * 4


def thumbnail(encoded: bytes, limit: tuple[int, int]) -> bytes:
    """Returns an image within limits of width and height as WebP; empty if Pillow cannot read it."""
    file = io.BytesIO()
    try:
        on_white(encoded, lambda width, height: _fitted(width, height, limit)).save(file, "WEBP", quality=QUALITY,
                                                                                    method=2)
    except Exception:  # Pillow raises errors of any kind; TensorFlow has decoded it
        return b""
    return file.getvalue()


def _fitted(width, height, limit):
    scale = min(1.0, limit[0] / width, limit[1] / height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _size(encoded):
    with Image.open(io.BytesIO(encoded)) as image:
        return image.size


def _compact(sample, attention, drawn_steps):
    """Returns the attention of the text's characters as of `Shown`; None if the steps are not the characters."""
    if not sample.text or len(attention) not in (len(sample.text), len(sample.text) + 1):
        return None  # NFC has changed their number
    steps = min(len(sample.text), STEPS)
    weights = column_weights(attention[:steps], drawn_steps, min(attention.shape[1], COLUMNS))
    return (weights * 255.0 + 0.5).astype(np.uint8)


def segments(sample: Sample, apart: bool) -> list:
    """Returns an alignment for the page: a str where text and label agree, else [text, label], one of them maybe empty.

    `apart`: one str per character instead of one per run.
    """
    found: list = []
    for text, label in sample.pairs:
        if text != label:
            found.append([text, label])
        elif found and isinstance(found[-1], str) and not apart:
            found[-1] += text
        else:
            found.append(text)
    return found
