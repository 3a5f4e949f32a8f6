"""File access by path: local files by Python, `scheme://` ones by tf.io.gfile, imported only when needed."""

import contextlib
import errno
import glob
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from aocr.aside import aside, place_of, replace_all

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

# TensorFlow's gs:// messages: HTTP error, no response, path.
HTTP_ERROR = re.compile(r"HTTP response code (\d+)(?: with body '(.*)')?", re.DOTALL)
NO_ANSWER = re.compile(r"libcurl code \d+ meaning '([^']*)'")
REMOTE_PATH = re.compile(r"gs://\S+")
INSIDE = re.compile(r"^\{\{.*?\}\} | \[Op:.*")  # node and op names in a message
NOT_FOUND, RESOURCE_EXHAUSTED, DATA_LOSS = 5, 8, 15  # codes of tf.errors
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
SCHEMES = ("gs", "file", "ram")  # TensorFlow's own
SYSTEM_ERRORS = (errno.EACCES, errno.EAGAIN, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP,
                 errno.EMFILE, errno.ENAMETOOLONG, errno.ENFILE, errno.ENODEV, errno.ENOENT, errno.ENOMEM, errno.ENOSPC,
                 errno.ENOTDIR, errno.EPERM, errno.EROFS, errno.ESTALE)


class StorageError(OSError):
    """Error of remote storage. `strerror` is one line with the remedy, `filename` the path."""


class Unreachable(StorageError):
    """Remote storage does not respond, after retries; other files would fail too."""


def is_remote(path: str) -> bool:
    """Returns whether tf.io.gfile must handle a path."""
    return "://" in path


class WholeFiles:
    """Files that appear together. A context manager: those not `put` by its end leave what was there before.

    A link stays a link: the file that it leads to is replaced.
    """

    def __init__(self, paths: Iterable[str]):
        """`paths`: different files; see `aocr.outputs` for what they may replace."""
        self._paths = list(paths)
        self._parts: dict[str, str] = {}  # path -> temporary path

    def __enter__(self) -> "WholeFiles":
        """Raises: OSError, or tf.errors.OpError for remote storage, if a file cannot be created."""
        asides: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            for path in self._paths:
                self._parts[path] = stack.enter_context(_remote_part(path)) if is_remote(path) else (
                    _local_part(path, asides, stack))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def part(self, path: str) -> str:
        """Returns the temporary path at which to write a file."""
        return self._parts[path]

    def put(self, paths: Iterable[str] | None = None) -> None:
        """Makes files, by default all, appear under their names. Raises: as `__enter__`; local files stay as before."""
        chosen = self._paths if paths is None else list(paths)
        replace_all([(self._parts[path], place_of(path)) for path in chosen if not is_remote(path)])
        for path in filter(is_remote, chosen):
            import tensorflow.compat.v1 as tf

            tf.io.gfile.rename(self._parts[path], path, overwrite=True)


def _local_part(path, asides, stack):
    """Creates an empty temporary file. `asides`: the directories for them, by parent."""
    try:
        parent, name = os.path.split(place_of(path))
        if parent not in asides:
            asides[parent] = stack.enter_context(aside(parent))
        part = os.path.join(asides[parent], name)
        open(part, "xb").close()
        return part
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None


@contextlib.contextmanager
def _remote_part(path):
    """Yields a temporary path, removed at the end."""
    import tensorflow.compat.v1 as tf

    part = path + ".part"
    try:
        # Uploads happen on close: check write access now, before the work.
        with tf.io.gfile.GFile(part, "wb") as file:
            file.write(b"")
        yield part
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):  # the original error is already being reported
            if tf.io.gfile.exists(part):
                tf.io.gfile.remove(part)
        raise


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Yields a temporary path, renamed to `path` when the block succeeds and removed otherwise. Raises: WholeFiles."""
    with WholeFiles([path]) as files:
        yield files.part(path)
        files.put()


@contextlib.contextmanager
def new_text_file(path: str) -> Iterator[Any]:
    """Yields a UTF-8 text file to write to; it appears complete when the block succeeds. Raises: see `os_errors`."""
    import tensorflow.compat.v1 as tf

    with whole_file(path) as part, tf.io.gfile.GFile(part, "w") as file:
        file.write("")  # opens it
        yield file


@contextlib.contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Raises OSError for a tf.errors.OpError of the block, which is about files at or below a path."""
    import tensorflow.compat.v1 as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def write_text(path: str, content: str) -> None:
    """Writes a UTF-8 text file atomically. Raises OSError or tf.errors.OpError."""
    with new_text_file(path) as file:
        file.write(content)


def append_text(path: str, content: str) -> None:
    """Appends to a UTF-8 text file, creating it if missing."""
    import tensorflow.compat.v1 as tf

    with tf.io.gfile.GFile(path, "a") as file:
        file.write(content)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file atomically. Raises OSError."""
    import tensorflow.compat.v1 as tf

    with os_errors(path), whole_file(path) as part, tf.io.gfile.GFile(part, "wb") as file:
        file.write(content)


def open_file(path: str) -> BinaryIO:
    """Opens a local file to be read. Raises OSError, also for devices: some never end."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path holds a NUL character", path)
    if stat.S_IFMT(os.stat(path).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
        raise OSError(errno.ENODEV, "a device, not a file", path)
    return open(path, "rb")


def read_bytes(path: str, most: int | None = None) -> bytes:
    """Returns a file's content.

    Raises: OSError, including FileNotFoundError, StorageError, and one for a file of more than `most` bytes, of which
      nothing is read.
    """
    if not is_remote(path):
        with open_file(path) as file:
            _check_length(os.fstat(file.fileno()).st_size, most, path)
            return file.read()
    import tensorflow.compat.v1 as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            if most is not None:
                _check_length(file.size(), most, path)
            return file.read()
    except tf.errors.OpError as error:
        raise os_error(error, path) from None
    except TypeError:  # a lone surrogate, for example
        raise OSError(errno.EINVAL, "path is not valid text", path) from None


def _check_length(length, most, path):
    if most is not None and length > most:
        raise OSError(errno.EFBIG, f"{length} bytes; the limit is {most}", path)


def make_directory(path: str) -> None:
    """Creates a directory unless it exists. Raises OSError."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    import tensorflow.compat.v1 as tf

    try:
        # Not makedirs, which loops forever on a missing bucket.
        tf.io.gfile.mkdir(path)
    except tf.errors.AlreadyExistsError:
        pass
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def load_json(content: str | bytes) -> Any:
    """Parses JSON. Raises ValueError if it is invalid or nested too deeply for the parser."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_pattern(path: str) -> bool:
    """Returns whether a path is a glob pattern: it contains `*`, `?` or `[`, and no file has that literal name."""
    return any(character in path for character in "*?[") and not exists(path)


def is_utf8(path: str) -> bool:
    """Returns whether TensorFlow can be given a path; Python stands in for other bytes by lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def matches_of(pattern: str) -> list[str]:
    """Returns the paths that match a glob pattern, sorted; locally, `**` stands for any directories."""
    if not is_remote(pattern):
        return sorted(glob.glob(pattern, recursive=True))  # tf.io.gfile fails at names that are not UTF-8
    import tensorflow.compat.v1 as tf

    return sorted(tf.io.gfile.glob(pattern))


def names_in(directory: str) -> list[str]:
    """Returns the names in a directory, sorted, those of remote directories without a slash at the end. Raises OSError.
    """
    if not is_remote(directory):
        return sorted(os.listdir(directory or "."))  # tf.io.gfile fails at names that are not UTF-8
    import tensorflow.compat.v1 as tf

    try:
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(directory))
    except tf.errors.OpError as error:
        raise os_error(error, directory) from None


def exists(path: str) -> bool:
    """Returns whether a file or directory exists. Raises OSError if remote storage cannot be queried."""
    if not is_remote(path):
        return os.path.exists(path)
    import tensorflow.compat.v1 as tf

    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise os_error(error, path) from None
    except TypeError:
        raise OSError(errno.EINVAL, "path is not valid text", path) from None


def existing_form(path: str) -> str | None:
    """Returns a path whose file exists: the path itself, or one that differs from it in Unicode form only (NFC or NFD,
    as systems and archives change the names of files); None if there is none. Raises OSError as `exists`."""
    if exists(path):
        return path
    if path.isascii() or is_remote(path):
        return None
    found = ""
    for part in re.split(r"(?<=/)", path):  # "a/", "b/", "c.png"
        forms = (found + part, *(found + unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        found = next((form for form in forms if os.path.exists(form)), "")
        if not found:
            return None
    return found


def os_error(error: "tf.errors.OpError", path: str | None) -> OSError:
    """Converts an error on a remote path to FileNotFoundError, StorageError or another OSError."""
    message = error.message.strip()
    if answer := HTTP_ERROR.search(message):
        status, detail = int(answer.group(1)), f"HTTP {answer.group(1)}{_detail(answer.group(2))}"
        if status in (401, 403):
            return StorageError(errno.EACCES, f"access denied ({detail}); name an authorized key file in "
                                "GOOGLE_APPLICATION_CREDENTIALS or run `gcloud auth application-default login`", path)
        if status == 404:
            return FileNotFoundError(errno.ENOENT, f"no such bucket or object ({detail})", path)
        if status != 429 and status < 500:
            return StorageError(errno.EIO, detail, path)
    elif answer := NO_ANSWER.search(message):
        detail = answer.group(1)
    else:
        missing = error.error_code == NOT_FOUND
        return OSError(errno.ENOENT if missing else errno.EIO, _what_was_wrong(message), path)
    return Unreachable(errno.EHOSTUNREACH, f"the storage does not respond ({detail}); check the network and try again",
                       path)


def _what_was_wrong(message):
    """Returns the line of TensorFlow's message that states the problem, without node and op names; graph errors have
    it after a trace."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    nodes = [k for k, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
    line = lines[nodes[0] + 1] if nodes else lines[0] if lines else "unknown error"
    return INSIDE.sub("", line)


def _detail(body):
    """Returns the message in a response body as ": TEXT" in one line; empty without one."""
    try:
        text = json.loads(body)["error"]["message"]
    except (TypeError, ValueError, KeyError):
        return ""
    return f": {' '.join(text.split())}"


def cause(error: Exception) -> str:
    """Returns the problem in one line: of an OSError, a tf.errors.OpError or another exception."""
    if hasattr(error, "message"):  # a tf.errors.OpError
        error = os_error(error, None)
    return getattr(error, "strerror", None) or str(error)


def scheme_problem(path: str) -> str | None:
    """Returns one line on a path of storage that TensorFlow does not know; None for others."""
    scheme = SCHEME.match(path)
    if not scheme or scheme.group(1).lower() in SCHEMES:
        return None
    return f"{path}: storage {scheme.group()} is not supported; name a local path or one of gs://"


def environment_problem(error: Exception) -> str | None:
    """Returns one line on an exception that the machine, its files or its storage caused; None for others."""
    if isinstance(error, UnicodeEncodeError) and any("\ud800" <= character <= "\udfff" for character in error.object):
        return f"{error.object}: not valid UTF-8; rename the file or directory"
    if isinstance(error, MemoryError):
        return "out of memory; use smaller batches or images, or fewer processes"
    if isinstance(error, OSError) and not isinstance(error, StorageError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    return storage_problem(error) or _file_problem(error)


def _file_problem(error):
    """Returns one line on an exception whose message tells an error of the system, as TensorFlow's do."""
    message = getattr(error, "message", None)
    if isinstance(message, str):
        message = _what_was_wrong(message.strip())
        if error.error_code in (DATA_LOSS, RESOURCE_EXHAUSTED):
            return message
    elif isinstance(error, (ImportError, RuntimeError)):
        message = str(error).strip().split("\n")[-1]
    else:
        return None
    return message if any(os.strerror(number) in message for number in SYSTEM_ERRORS) else None


def storage_problem(error: Exception) -> str | None:
    """Returns one line on an exception caused by remote storage, wherever it was raised; None for others."""
    message = getattr(error, "message", None)  # of a tf.errors.OpError
    if isinstance(message, str) and (HTTP_ERROR.search(message) or NO_ANSWER.search(message)):
        path = REMOTE_PATH.search(message)
        error = os_error(error, path.group(0) if path else "gs://")
    elif not isinstance(error, StorageError):
        return None
    return f"{error.filename}: {error.strerror}"
