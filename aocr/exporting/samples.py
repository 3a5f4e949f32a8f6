"""Images to try a model on: the first ones of a dataset, or drawn words of several widths."""

import io
import itertools
import unicodedata
from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.config import ModelConfig
from aocr.data import records
from aocr.errors import UserError
from aocr.files import cause
from aocr.images import problem_of
from aocr.model import Model
from aocr.synth.drawing import Artist, RenderConfig
from aocr.synth.materials import BUILT_IN

MOST = 64  # images of a dataset
LENGTHS = (3, 1, 7, 2, 12, 5, 24)  # of drawn words, in characters
WIDER = 1.3  # width of the widest image, in canvases


def images_in(dataset: str) -> list[bytes]:
    """Returns the first image files of a dataset, MOST at most. UserError if it cannot be read."""
    found: list[bytes] = []
    try:
        for file in records.files_of(dataset):
            for record in records.read_file(file).map(records.parse_example).take(MOST - len(found)):
                found.append(record["image"].numpy())
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"--verify {dataset}: cannot be read: {cause(error)}; name a dataset that `aocr dataset` "
                        "made") from None
    return found


def drawn_images(config: ModelConfig, characters: Sequence[str]) -> list[bytes]:
    """Returns image files of words of these characters (those that Pillow's font has, or else digits), always the same.

    They have several widths, from one pixel to beyond the canvas, and one is a JPEG file.
    """
    artist, random = Artist(RenderConfig(color=config.color)), np.random.default_rng(0)
    known = [character for character in characters if _drawable(artist, character)] or list("0123456789")
    pictures = [artist.draw("".join(random.choice(known, length)), random)[0]
                for length in LENGTHS if length <= max(config.max_prediction, 3)]
    height = pictures[0].height
    widest = max(int(WIDER * config.canvas_width / 32 * height), height)
    pictures += [pictures[-1].resize((widest, height)), pictures[0].resize((1, height))]
    formats = itertools.chain(["PNG", "JPEG"], itertools.repeat("PNG"))
    return [_saved(picture, format) for picture, format in zip(pictures, formats)]


def _drawable(artist, character):
    return (len(character) == 1 and character.strip() and unicodedata.category(character)[0] != "M"
            and unicodedata.bidirectional(character) not in ("R", "AL")
            and artist.fonts.lacks(BUILT_IN, character) is None)


def _saved(picture, format):
    file = io.BytesIO()
    picture.save(file, format)
    return file.getvalue()


def readable(model: Model, images: Sequence[bytes], told: str) -> list[bytes]:
    """Returns those of some image files that a model reads. UserError, with `told`, if it reads none."""
    found, problem = [], ""
    for image in images:
        try:
            model.predict([image])
            found.append(image)
        except tf.errors.InvalidArgumentError as error:
            problem = problem_of(error)
    if not found:
        why = f" ({problem})" if problem else ""
        raise UserError(f"{told}: the model reads none of the {len(images)} images{why}; name others with --verify, or "
                        "add --no-verify --no-warm-up")
    return found
