"""Compares what an exported file reads in drawn images with what the checkpoint's model reads."""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.config import CTC
from aocr.errors import UserError
from aocr.exporting.samples import drawn_images
from aocr.exporting.verification import TOLERANCE
from aocr.graph import ctc
from aocr.graph.decoding import BEAM
from aocr.model import Model

log = logging.getLogger(__name__)


class Readings(NamedTuple):
    """What was read in some images."""

    texts: list[str]
    probabilities: np.ndarray  # [N] in [0, 1]
    classes: np.ndarray | None = None  # [N, S, K] float32, CTC's probabilities, 0 in the padding; None without CTC


class Samples(NamedTuple):
    """Prepared images and what the checkpoint's model reads in them."""

    pixels: np.ndarray  # [N, 32, W, C] float32
    widths: np.ndarray  # [N] int32
    expected: Readings


def samples_of(model: Model, encoded: Sequence[bytes]) -> Samples:
    """Reads encoded images by a model that decodes by CTC or attention."""
    images = model.inputs.images
    fetches = [images.pixels, images.widths, model.prediction, model.reading.probability]
    by_ctc = model.decoding is not None and model.decoding.method == CTC
    if by_ctc:
        fetches += [_softmax(model), model.branches.lengths]
    pixels, widths, texts, probabilities, *steps = model.session.run(fetches, {model.inputs.encoded: list(encoded)})
    classes = steps[0] * _inside(steps[1], steps[0].shape[1]) if by_ctc else None
    return Samples(pixels, widths, Readings([text.decode() for text in texts], probabilities, classes))


def _softmax(model):
    """Adds CTC's probabilities of the classes to a model's graph: float32 [N, S, K]."""
    with model.graph.as_default():
        return tf.nn.softmax(model.branches.ctc_logits)


def _inside(lengths, steps):
    """Returns 1 in the steps of each image, else 0: float32 [N, S, 1]."""
    return (np.arange(steps) < lengths[:, np.newaxis])[:, :, np.newaxis].astype(np.float32)


def read_by_ctc(model: Model, log_probabilities: np.ndarray, lengths: np.ndarray) -> Readings:
    """Reads the output of an exported CTC branch, float32 [N, S, K], int32 [N], by the model's own beam search."""
    with tf.Graph().as_default(), tf.Session() as session:
        texts = ctc.best_texts(tf.constant(log_probabilities), tf.constant(lengths), beam=BEAM, count=1)
        ids, scores = session.run([texts.ids[:, 0, :model.network.decoder_steps - 1], texts.log_probabilities[:, 0]])
    probabilities = np.exp(np.minimum(scores.astype(np.float64), 0.0))
    classes = np.exp(log_probabilities) * _inside(lengths, log_probabilities.shape[1])
    return Readings([model.charset.decode(row) for row in ids], probabilities, classes)


def read_by_attention(model: Model, ids: np.ndarray, probabilities: np.ndarray) -> Readings:
    """Reads the output of an exported attention decoder: int32 [N, T], float32 [N, T], 1 after EOS."""
    return Readings([model.charset.decode(row) for row in ids], probabilities.astype(np.float64).prod(1))


def verify(model: Model, run: Callable[[np.ndarray, np.ndarray], Readings],
           tolerance: float | None = TOLERANCE) -> None:
    """Compares an exported file with the model.

    Args:
      run: reads prepared images by the file: pixels [N, 32, W, C], widths [N].
      tolerance: of probabilities; None: of a file that is less precise by request, whose differences are logged.

    Raises: UserError if a text differs, or a probability by more than the tolerance.
    """
    pixels, widths, expected = samples_of(model, drawn_images(model.config, model.charset.characters))
    found = run(pixels, widths)
    differences = np.abs(found.probabilities - expected.probabilities)
    if found.classes is not None and expected.classes is not None:
        differences = np.maximum(differences, np.abs(found.classes - expected.classes).max((1, 2)))
    worst, same = differences.max(), sum(a == b for a, b in zip(found.texts, expected.texts))
    summary = (f"{same} of {len(widths)} images give the checkpoint's text, and probabilities differ by up to "
               f"{worst:.1e}")
    if not np.isfinite(worst) or tolerance and (worst > tolerance or same < len(widths)):
        raise UserError(f"the exported model does not read as the checkpoint does: {summary}; the limit is "
                        f"{tolerance}. Use --format savedmodel")
    log.info("verified: %s", summary)
