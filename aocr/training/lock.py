"""The lock of a model directory: one training at a time.

The system releases it when the process ends, however it ends; a file that a killed process left is no obstacle. Remote
storage and Windows have no such locks.
"""

import contextlib
import datetime
import errno
import json
import logging
import os
import socket

from aocr.errors import UserError
from aocr.files import cause, is_remote, load_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

NAME = "training.lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # by the file system


class Lock(contextlib.AbstractContextManager):
    """Holds a model directory's lock from `take` to the end of the block."""

    def __init__(self, model_dir: str):
        self._model_dir, self._path = model_dir, os.path.join(model_dir, NAME)
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Takes the lock, unless it is held or the directory does not exist yet. Returns whether it was taken now.

        Raises: UserError, naming the process that has the lock, if that still runs; also if it cannot be taken.
        """
        if self._descriptor is not None or not _can_be_locked(self._model_dir):
            return False
        try:
            while self._descriptor is None:
                self._try()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be locked: {cause(error)}; fix this or name another "
                            "--model-dir") from None
        return True

    def _try(self):
        """Opens and locks the file once; keeps it unless the process that had it removed it meanwhile."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            self._lock(descriptor)
            if _is_at(descriptor, self._path):
                self._sign(descriptor)
                self._descriptor, descriptor = descriptor, None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _lock(self, descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor) or "another process"
            raise UserError(f"{self._model_dir}: is being trained by {holder}; wait for it to end, stop it, or name "
                            "another --model-dir") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            log.warning("%s: the file system has no locks (%s); do not start a second training there", self._model_dir,
                        cause(error))

    def _sign(self, descriptor):
        """Writes who holds the lock. UserError if the file is something else."""
        if os.fstat(descriptor).st_size and not _holder(descriptor):
            raise UserError(f"{self._path}: is not a lock of aocr; move it, or name another --model-dir")
        now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(dict(pid=os.getpid(), host=socket.gethostname(), since=now)) + "\n").encode(),
                  0)

    def __exit__(self, *_) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            if _is_at(self._descriptor, self._path):
                os.unlink(self._path)  # before the lock is released: nobody else can have it
        os.close(self._descriptor)
        self._descriptor = None


def _can_be_locked(directory):
    return bool(fcntl) and not is_remote(directory) and os.path.isdir(directory)


def _is_at(descriptor, path):
    """Returns whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor):
    """Returns who holds the lock, as the file says; None if it does not say."""
    try:
        values = load_json(os.pread(descriptor, 1 << 12, 0))
        return f"process {values['pid']} on {values['host']} since {values['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written, for example
        return None
