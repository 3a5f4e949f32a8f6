"""`Reader`: reads images of any kind, one or many, from any number of threads."""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from PIL import Image

from aocr.config import READ_TOGETHER
from aocr.image_files import BadImage, StandardImage
from aocr.reading.batches import Threads, Work, read_in_order
from aocr.reading.engine import Engine
from aocr.reading.images import Prepared, Source, prepare, source_of
from aocr.reading.results import ReadError, ReadResult, result_of

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

Readable: TypeAlias = "str | os.PathLike | bytes | bytearray | memoryview | Image.Image | np.ndarray"
Errors = Literal["raise", "return"]


class Reader:
    """Reads images with a model; `aocr.load` makes one. A context manager; may be used from several threads at once."""

    def __init__(self, engine: Engine, *, details: bool = True, batch_size: int = READ_TOGETHER):
        """Args: details: whether results hold characters. batch_size: most images that are read together."""
        self._engine, self._details, self._batch_size = engine, details, batch_size
        self._threads = Threads()
        self._closed = False

    @property
    def decoding(self) -> str | None:
        """How texts are decoded: attention, ctc or joint; None if an export does not tell."""
        return self._engine.decoding

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Frees the model. Iterators that are not exhausted end with an error."""
        if not self._closed:
            self._closed = True
            self._threads.close()
            self._engine.close()

    @overload
    def read(self, images: Readable, *, errors: Errors = ...) -> ReadResult: ...
    @overload
    def read(self, images: list[Any] | tuple[Readable, ...], *, errors: Errors = ...) -> list[ReadResult]: ...
    @overload
    def read(self, images: Iterator[Readable], *, errors: Errors = ...) -> Iterator[ReadResult]: ...

    def read(self, images: Any, *, errors: Errors = "raise") -> ReadResult | list[ReadResult] | Iterator[ReadResult]:
        """Reads one image, a list or an iterator of them, in order.

        Images are prepared as `aocr dataset` does it: shown upright by their EXIF orientation, laid on the model's
        background where transparent.

        Args:
          images: a path; bytes of an image file; a PIL image (its current frame); an array [h, w] or [h, w, C] with C
            1 (grey), 3 (RGB) or 4 (RGB and alpha), of uint8, of bool, or of floats from 0 to 1; or a list, a tuple or
            an iterator of these.
          errors: `raise` an image's ReadError, or `return` a ReadResult with `error` in its place.

        Returns: the result for one image, a list for a list or tuple, an iterator for an iterator. The iterator takes
          up to 16 batches ahead of the results that it gives, and holds no more at any time.
        Raises: ReadError; TypeError for anything that is no image; UserError if remote storage does not respond.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"errors is {errors!r}; use 'raise' or 'return'")
        self._check_open()
        if isinstance(images, (list, tuple)):
            return list(self._many(images, errors))
        if isinstance(images, Iterator):
            return self._many(images, errors)
        return self._one(images, errors)

    def source(self, image: object, name: str) -> Source:
        """Returns what to read for an image of any kind; `name`: of one without a path. Raises: TypeError."""
        return source_of(image, name, self._engine.limits)

    def stream(self, parts: Iterable[list[Source]]) -> Iterator[tuple[Prepared, ReadResult]]:
        """Reads images that arrive in parts, as `batches.read_in_order` tells."""
        self._check_open()
        work = Work(self._prepare, self._read, self._batch_size, self._engine.limits.max_pixels)
        for prepared, result in read_in_order(parts, work, self._threads):
            for kind, text in prepared.image.notes if prepared.image else ():
                log.warning("%s: %s: %s", prepared.source.name, kind, text)
            yield prepared, result

    def _check_open(self):
        if self._closed:
            raise ValueError("the reader is closed; load the model again")

    def _one(self, image, errors):
        prepared = self._prepare(self.source(image, "image"))
        result = self._read([prepared.image])[0] if prepared.image else ReadResult(error=prepared.problem)
        return _checked(prepared, result, errors)

    def _many(self, images, errors):
        sources = (self.source(image, f"image {number}") for number, image in enumerate(images))
        parts = iter(lambda: list(itertools.islice(sources, self._batch_size)), [])
        for prepared, result in self.stream(parts):
            yield _checked(prepared, result, errors)

    def _prepare(self, source):
        return prepare(source, self._engine.limits)

    def _read(self, images: Sequence[StandardImage]) -> list[ReadResult]:
        found = self._engine.read_images([image.content for image in images], details=self._details)
        return [ReadResult(error=": ".join(one.args)) if isinstance(one, BadImage)
                else result_of(one, image.size[0], self.decoding) for one, image in zip(found, images)]


def _checked(prepared, result, errors):
    if result.error is not None and errors == "raise":
        raise ReadError(f"{prepared.source.name}: {result.error}")
    return result
