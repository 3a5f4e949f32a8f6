"""Draws what a model read, for `aocr predict --visualize`."""

import logging
import os

from PIL import Image

from aocr.charset import splitter
from aocr.errors import UserError
from aocr.evaluation.visualize import write_sample
from aocr.model import Model
from aocr.tasks.predict import FileReading

log = logging.getLogger(__name__)


class Pictures:
    """Draws where a model looked while it read."""

    def __init__(self, directory: str, model: Model):
        """`directory`: local; each image gets a directory in it, named after its number and its file."""
        self._directory, self._model, self._split = directory, model, splitter(model.config.graphemes)
        self._number = 0  # of the next image

    def draw(self, reading: FileReading) -> None:
        """Draws an image that was read. UserError if the pictures cannot be written."""
        name = f"{self._number}-{os.path.basename(reading.path)}"
        self._number += 1
        if not reading.image or reading.result.error:
            return
        attention = self._model.attention(reading.image.content)
        try:
            write_sample(self._directory, name, reading.image.content, self._split(reading.result.text), None,
                         attention, self._model.network.drawn_steps(*reading.image.size))
        except (OSError, Image.DecompressionBombError) as error:
            if isinstance(error, OSError) and error.errno:
                raise UserError(f"--visualize {error.filename or self._directory}: cannot be written: "
                                f"{os.strerror(error.errno)}; name another directory") from None
            log.warning("%s: cannot be drawn: %s", reading.path, error)  # Pillow is stricter about some files
