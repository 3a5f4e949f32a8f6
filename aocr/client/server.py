"""A model behind TensorFlow Serving's REST interface, on `tensorflow_model_server` or `aocr serve`."""

import base64
import functools
import json
import re
import threading
from collections.abc import Iterator, Sequence

from aocr.client.answers import DEFAULT, DETAIL, NotOurs, error_in, readings_in, signatures_in
from aocr.client.connection import Connection, split_url
from aocr.config import ModelConfig, ServerConfig
from aocr.errors import UserError, usage_error
from aocr.files import cause, read_bytes
from aocr.image_files import BadImage, Limits
from aocr.prediction import Reading
from aocr.refusals import refusal_in

MODEL_PATH = re.compile(r"(/.*)?/v1/models/[^/:]+(/versions/\d+|/labels/[^/:]+)?")
REQUEST_BYTES = 8 << 20  # of images in one request, if there are several
REFUSED = (400, 413)  # statuses of a request that one of its images may have spoilt
KEY_BYTES = 4096


class ModelServer:
    """A model on a server, to read with (an `Engine`); several threads have several connections. A context manager."""

    decoding = None  # a server does not tell

    def __init__(self, config: ServerConfig, limits: Limits | None = None):
        """Asks the server which signatures the model has.

        `limits`: of the images that it will be given. Raises: UserError.
        """
        assert config.server is not None
        self.limits: Limits = limits or ModelConfig()
        self._path = model_path(config.server)
        key = read_key(config.api_key_file) if config.api_key_file else None
        self._name = f"--server {config.server}"
        self._connect = functools.partial(Connection, config.server, key=key, timeout=config.server_timeout,
                                          retries=config.server_retries)
        self._local, self._connections = threading.local(), []
        self._signatures = self._ask_for_signatures()

    def __enter__(self) -> "ModelServer":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; no thread may be reading."""
        for connection in self._connections:
            connection.close()

    @property
    def has_details(self) -> bool:
        """Whether the model can tell its characters, their confidence and their place."""
        return DETAIL in self._signatures

    def read_images(self, encoded: Sequence[bytes], *, details: bool = False) -> list[Reading | BadImage]:
        """Reads encoded images (PNG, JPEG, WebP); returns, for each, what was read or why it was refused.

        A refused request is sent again in halves, until those that spoil it are alone.

        Args:
          encoded: image files, as `standard_image` returns them.
          details: fill `Reading.characters`, if the model can.

        Raises: UserError if the server cannot be used.
        """
        signature = DETAIL if details and self.has_details else DEFAULT
        return [found for group in _groups(encoded) for found in self._read(group, signature)]

    def _request(self, *request):
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
            self._connections.append(self._local.connection)
        return self._local.connection.request(*request)

    def _read(self, images, signature):
        instances = [{"b64": base64.b64encode(image).decode("ascii")} for image in images]
        body = json.dumps({"signature_name": signature, "instances": instances}).encode("ascii")
        status, content = self._request("POST", f"{self._path}:predict", body)
        if status == 200:
            try:
                return readings_in(content, len(images))
            except NotOurs as problem:
                raise UserError(f"{self._name}: its answer {problem}; name a model exported by aocr") from None
        if status not in REFUSED:
            raise self._failed(status, content)
        if len(images) == 1:
            return [BadImage("refused by the server", refusal_in(error_in(content)) or f"status {status}")]
        half = len(images) // 2
        return self._read(images[:half], signature) + self._read(images[half:], signature)

    def _ask_for_signatures(self):
        status, content = self._request("GET", f"{self._path}/metadata")
        if status != 200:
            raise self._failed(status, content)
        try:
            found = signatures_in(content)
        except NotOurs as problem:
            raise UserError(f"{self._name}: its answer {problem}; name a server with TensorFlow Serving's REST "
                            "interface") from None
        if DEFAULT not in found:
            raise UserError(f"{self._name}: this model has no signature {DEFAULT} from `input` to `output` and "
                            "`probability`; name a model exported by aocr")
        return found

    def _failed(self, status, content):
        """Returns the UserError of an answer that no image is the reason of."""
        remedy = {401: "; give its key by --api-key-file", 403: "; check --api-key-file",
                  404: "; check the model's name and version in the URL"}.get(status, "")
        if 300 <= status < 400:
            remedy = "; redirects are not followed, name the server itself"
        return UserError(f"{self._name}: status {status}: {error_in(content).strip() or 'empty answer'}{remedy}")


def model_path(url: str) -> str:
    """Returns the path of a model's URL, without `:predict`. Raises: UserError if it names none."""
    path = split_url(url).path.rstrip("/").removesuffix(":predict")
    if not MODEL_PATH.fullmatch(path):
        raise usage_error(f"--server {url}: names no model; use /v1/models/NAME or /v1/models/NAME/versions/N as its "
                          "path")
    return path


def read_key(path: str) -> str:
    """Returns the key in a file: its only line. Raises: UserError."""
    try:
        lines = read_bytes(path, KEY_BYTES).decode("ascii").split()
    except UnicodeDecodeError:
        lines = []
    except OSError as error:
        raise UserError(f"--api-key-file {path}: cannot be read: {cause(error)}") from None
    if len(lines) != 1 or not lines[0].isprintable():
        raise UserError(f"--api-key-file {path}: must hold one line of ASCII characters without spaces, the key")
    return lines[0]


def _groups(encoded: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yields images in groups of at most REQUEST_BYTES; one that is larger is a group of its own."""
    group: list[bytes] = []
    for image in encoded:
        if group and sum(map(len, group)) + len(image) > REQUEST_BYTES:
            yield group
            group = []
        group.append(image)
    if group:
        yield group
