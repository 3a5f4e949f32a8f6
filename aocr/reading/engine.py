"""What a Reader reads with: a model here, or one behind a server."""

from collections.abc import Sequence
from typing import Protocol

from aocr.image_files import BadImage, Limits
from aocr.prediction import Reading


class Engine(Protocol):
    """Reads encoded images; may be called from several threads."""

    @property
    def limits(self) -> Limits:
        """The background and the largest size of images."""

    @property
    def decoding(self) -> str | None:
        """How it decodes texts: attention, ctc or joint; None if that is unknown."""

    def read_images(self, encoded: Sequence[bytes], *, details: bool = False) -> Sequence[Reading | BadImage]:
        """Reads images; one that cannot be decoded has a BadImage in its place."""

    def close(self) -> None:
        """Frees what it holds."""
