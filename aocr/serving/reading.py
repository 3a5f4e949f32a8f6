"""Answers predict requests: parses them, prepares their images, has them read, and spells the answer."""

import asyncio
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.config import ServeConfig, scaled_width
from aocr.image_files import BadImage, standard_image
from aocr.images import problem_of
from aocr.serving.answers import Output, predictions_text
from aocr.serving.batching import Batcher, Full, Item, joined
from aocr.serving.contract import Predict, Problem, Target, predict_request
from aocr.serving.fill import STRING, Tensor
from aocr.serving.models import Servable
from aocr.serving.versions import Versions

RETRY_SECONDS = "1"
REFUSED = (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError, tf.errors.OutOfRangeError)

log = logging.getLogger(__name__)


class Reader:
    """Reads the images of predict requests with the newest version of a model."""

    def __init__(self, versions: Versions, batcher: Batcher, pool: ThreadPoolExecutor, config: ServeConfig):
        """`pool`: threads that parse requests and prepare images."""
        self._versions, self._batcher, self._pool, self._config = versions, batcher, pool, config

    async def predict(self, target: Target, body: bytes) -> str:
        """Returns the answer to a predict request. Raises: Problem."""
        self._admit(1)
        admitted = 1
        try:
            servable, request = await self._in_pool(self._parse, target, body)
            count = _count(servable, request)
            if count > self._config.max_queue:
                raise Problem(413, f"{count} images in one request; the limit is --max-queue {self._config.max_queue}")
            self._admit(max(count, 1) - 1)
            admitted = max(count, 1)
            if not count:
                return await self._in_pool(_run, servable, request)
            rows = await self._read(servable, request)
            return await self._in_pool(_spell, rows, request)
        finally:
            self._batcher.release(admitted)

    def _admit(self, count):
        try:
            self._batcher.admit(count)
        except Full:
            raise Problem(429, "The server has too many images to read; try again later",
                          {"Retry-After": RETRY_SECONDS}) from None

    def _in_pool(self, function, *args):
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def _parse(self, target: Target, body: bytes) -> tuple[Servable, Predict]:
        servables: list[Servable] = []

        def signature_of(name):
            servables.append(self._versions.get(target))
            return servables[0].signatures.get(name)

        request = predict_request(body, signature_of)
        return servables[0], request

    async def _read(self, servable, request):
        """Reads the images of a request together with those of others; returns the outputs of each."""
        tensor, = request.tensors.values()
        futures = []
        try:
            items = await asyncio.gather(*[self._in_pool(_prepare, servable, request.signature, image)
                                           for image in tensor.values])
            futures = [item.result for item in items]
            self._batcher.submit(items)
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        except Exception as error:
            raise _problem(error) from error
        finally:
            for future in futures:  # of a request that failed or took too long
                future.cancel()


def _count(servable, request):
    """Returns how many encoded images a request has."""
    if not servable.reads_images(request.signature):
        return 0
    return sum(len(tensor.values) for tensor in request.tensors.values())


def _run(servable, request):
    """Returns the answer to a request that runs on its own: prepared images, or no image at all."""
    rows = None
    try:
        if servable.reads_images(request.signature):
            rows = next(iter(request.tensors.values())).shape
            outputs = servable.read(request.signature, [])
        else:
            inputs = {name: _array(tensor) for name, tensor in request.tensors.items()}
            outputs = servable.run(request.signature, inputs)
    except Exception as error:
        raise _problem(error) from error
    return predictions_text({name: _output(value, rows) for name, value in outputs.items()}, request.row)


def _spell(rows, request):
    """Returns the answer to a request whose images were read."""
    tensor, = request.tensors.values()
    return predictions_text({name: _output(value, tensor.shape) for name, value in joined(rows).items()}, request.row)


def _prepare(servable, signature, image):
    """Returns an image to be read, as a dataset would hold it. Raises: BadImage."""
    standard = standard_image(image, servable.limits)
    width, height = standard.size
    return Item(servable, signature, standard.content, max(scaled_width(width, height), 1), width * height, Future(),
                time.monotonic())


def _problem(error: Exception) -> Problem:
    """Returns the answer to what went wrong, in the words of `aocr predict`."""
    if isinstance(error, BadImage):
        return Problem(400, ": ".join(error.args))
    if isinstance(error, REFUSED):
        return Problem(400, problem_of(error))
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return Problem(429, "not enough memory for this image; reduce its size")
    log.error("a run failed", exc_info=error)
    return Problem(500, "The model could not be run; the server's log tells why")


def _array(tensor: Tensor) -> np.ndarray:
    kind = object if tensor.dtype == STRING else tf.as_dtype(_python_name(tensor.dtype)).as_numpy_dtype
    array = np.empty(len(tensor.values), kind)
    array[:] = tensor.values
    return array.reshape(tensor.shape)


def _python_name(dtype):
    return dtype.removeprefix("DT_").lower().replace("float", "float32").replace("double", "float64")


def _output(value: np.ndarray, rows: tuple[int, ...] | None = None) -> Output:
    """Returns an output for the answer; `rows`: the shape that replaces its first dimension."""
    if rows is not None:
        value = value.reshape(rows + value.shape[1:])
    found: Any = value.tolist()
    return Output(found, value.shape, value.dtype == np.float32)
