"""Proof that an exported model answers as the model that it was made from, by a process without the model's code."""

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.errors import UserError
from aocr.exporting import replay
from aocr.exporting.signatures import PIXELS, Signature, prepared
from aocr.model import Model

TOLERANCE = 1e-4  # of probabilities and other numbers
TOGETHER = 16  # images in a batch
TABLE = 2, 3  # a shape of the input with two dimensions
REMEDY = "nothing was written; please report it, or export without the check (--no-verify)"


class Request(NamedTuple):
    """One question to both."""

    told: str  # for messages
    signature: str
    inputs: Mapping[str, np.ndarray]  # by the names of the signature


def verify(model: Model, signatures: Mapping[str, Signature], directory: str, images: Sequence[bytes], *,
           named: bool) -> None:
    """Compares an exported model with the one that it was made from.

    Args:
      signatures: of the model, in its own graph.
      directory: of the exported model.
      images: image files that the model reads, at least one.
      named: whether the export has signatures; otherwise its tensors have the names of the model's.

    Raises: UserError at the first text that differs, or number that differs by more than TOLERANCE.
    """
    with _exact_products():
        requests = list(_requests(model, signatures, images))
        expected = [_answers(model, signatures[request.signature], request) for request in requests]
    got = _replayed([_spelled(request, signatures[request.signature], named) for request in requests], directory,
                    model.session_config)
    for request, want, have in zip(requests, expected, got):
        outputs = signatures[request.signature].outputs
        for name, value in want.items():
            problem = difference(have[name if named else outputs[name].name], value)
            if problem:
                raise UserError(f"the exported model differs from its checkpoint: {request.signature}, {request.told}: "
                                f"{name} {problem}; {REMEDY}")


def _requests(model, signatures, images):
    """Yields the questions: single images, batches of different widths, no image, other shapes."""
    for name, signature in signatures.items():
        if name == PIXELS:
            few = images[:4]
            inputs = prepared(model, few)
            yield Request(f"{len(few)} images", name, inputs)
            yield Request("no image", name, {name: value[:0] for name, value in inputs.items()})
            continue
        (key,) = signature.inputs
        rows, columns = TABLE
        table = [images[k % len(images)] for k in range(rows * columns)]
        asked = [("one image", images[0]), ("no image", []), (f"a table of {rows} x {columns} images", [
            table[k * columns:(k + 1) * columns] for k in range(rows)])]
        asked += [(f"image {k + 1} alone", [image]) for k, image in enumerate(images)]
        asked += [(f"images {k + 1} to {min(k + TOGETHER, len(images))}", images[k:k + TOGETHER])
                  for k in range(0, len(images), TOGETHER)]
        yield from (Request(told, name, {key: np.array(value, object)}) for told, value in asked)


def _answers(model, signature, request):
    return model.session.run(dict(signature.outputs),
                             {signature.inputs[name]: value for name, value in request.inputs.items()})


def _spelled(request, signature, named):
    """Returns a request as `replay` reads it."""
    if named:
        return dict(signature=request.signature, fetch=list(signature.outputs),
                    inputs={name: replay.encode(value) for name, value in request.inputs.items()})
    return dict(signature=None, fetch=[tensor.name for tensor in signature.outputs.values()],
                inputs={signature.inputs[name].name: replay.encode(value) for name, value in request.inputs.items()})


def _replayed(requests, directory, session_config):
    """Returns the exported model's answers: {name: array} of each request."""
    with tempfile.TemporaryDirectory() as place:
        asked, answered = os.path.join(place, "requests"), os.path.join(place, "answers")
        with open(asked, "w", encoding="ascii") as file:
            file.writelines(json.dumps(request) + "\n" for request in requests)
        config = (session_config or tf.ConfigProto()).SerializeToString()
        done = subprocess.run(
            [sys.executable, "-m", replay.__name__, directory, asked, answered], capture_output=True, text=True,
            errors="replace", env={**os.environ, replay.SESSION_CONFIG: base64.b64encode(config).decode()})
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
            raise UserError(f"the exported model cannot be run: {lines[-1].strip()}; {REMEDY}")
        with open(answered, encoding="ascii") as file:
            return [{name: replay.decode(text) for name, text in json.loads(line).items()} for line in file]


def difference(got: np.ndarray, expected: np.ndarray) -> str | None:
    """Returns how an array differs from the expected one; None if all texts are equal, and numbers within TOLERANCE."""
    expected = np.asarray(expected, got.dtype)
    if got.shape != expected.shape:
        return f"has the shape {list(got.shape)} instead of {list(expected.shape)}"
    if got.dtype == object:
        places = np.flatnonzero(got.ravel() != expected.ravel())
        if len(places):
            have, want = (array.ravel()[places[0]].decode("utf-8", "replace") for array in (got, expected))
            return f"is {have!r} instead of {want!r}"
        return None
    far = np.flatnonzero(~np.isclose(got.ravel(), expected.ravel(), rtol=0.0, atol=TOLERANCE, equal_nan=True))
    if len(far):
        return f"is {got.ravel()[far[0]]:.6f} instead of {expected.ravel()[far[0]]:.6f}"
    return None


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
    """Has GPUs multiply with all bits of float32, as `replay` does."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
