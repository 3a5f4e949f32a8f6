"""Local files and directories written aside, under temporary names of ours, until they are complete.

A temporary directory beside the output holds them. Its process holds a lock on a file in it, so that later runs know
the directories that killed ones left, and remove them.
"""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence

try:
    import fcntl
except ImportError:  # Windows: no locks, so nothing is known to be left over
    fcntl = None  # type: ignore[assignment]

PREFIX, SUFFIX = ".aocr-", ".part"
OURS = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}" + re.escape(SUFFIX))  # as tempfile names them
LOCK = ".lock-of-aocr"
NEW = 60.0  # seconds in which a directory may lack its lock: its process is just making it
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux

STREAMS = re.compile(r"/dev/(null|tty|stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
SPECIAL = re.compile(r"/(dev|proc|sys)(/[^/]+)?|/proc/.*|/dev/fd/.*|/sys/.*")  # but not /dev/shm/x
KINDS = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device",
         stat.S_IFBLK: "device"}


def place_of(path: str) -> str:
    """Returns where a file written to `path` belongs: itself or, if it is a link, the target.

    Raises: OSError if it cannot be a regular file: a directory, device, FIFO, socket or dangling link is there.
    """
    if not path or "\0" in path:
        raise OSError(errno.EINVAL, "not a valid file name", path)
    if path.endswith("/"):
        raise OSError(errno.EISDIR, "names a directory", path)
    if any(SPECIAL.fullmatch(hop) for hop in _hops(path)):
        raise OSError(errno.EINVAL, "is a device, or a stream of the system", path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            raise OSError(errno.ENOENT, f"is a link to {os.readlink(path)}, which does not exist", path) from None
        return os.path.realpath(path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"is a {KINDS.get(stat.S_IFMT(mode), 'special file')}", path)
    return os.path.realpath(path)


def is_stream(path: str) -> bool:
    """Returns whether a path names /dev/null, a terminal, or a standard stream or open file that is no regular file."""
    if not any(STREAMS.fullmatch(hop) for hop in _hops(path)):
        return False
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _hops(path):
    """Returns a path, and those that it leads to if it is a link, their directories resolved."""
    hops = []
    while len(hops) < 40:  # Linux's own limit
        directory, name = os.path.split(path)
        hops.append(os.path.join(os.path.realpath(directory or "."), name))
        if not os.path.islink(hops[-1]):
            break
        path = os.path.join(os.path.dirname(hops[-1]), os.readlink(hops[-1]))
    return hops


@contextlib.contextmanager
def aside(parent: str) -> Iterator[str]:
    """Yields a new directory in `parent`, removed at the end; first removes those that killed runs left. OSError."""
    clear_leftovers(parent)
    path, lock = _new_directory(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _new_directory(parent):
    """Returns (path, descriptor of its locked file)."""
    while True:
        path = tempfile.mkdtemp(SUFFIX, PREFIX, parent)
        with contextlib.suppress(FileNotFoundError):  # another process took it for a leftover
            lock = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
            if _lock(lock) is not False and os.path.exists(os.path.join(path, LOCK)):
                return path, lock
            os.close(lock)


def _lock(descriptor):
    """Returns whether a file could be locked; None if the system or file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return None
    return True


def clear_leftovers(parent: str) -> None:
    """Removes the temporary directories in `parent` whose processes have ended."""
    with contextlib.suppress(OSError):
        with os.scandir(parent) as entries:
            found = [entry.path for entry in entries
                     if OURS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
        for path in found:
            _remove_leftover(path)


def _remove_leftover(path):
    try:
        lock = os.open(os.path.join(path, LOCK), os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > NEW:
                os.rmdir(path)  # fails unless it is empty
        return
    try:
        if _lock(lock):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def replace_all(moves: Sequence[tuple[str, str]]) -> None:
    """Renames files: (from, in a directory of `aside`; to) each. After an error or signal, all are as before."""
    if len(moves) == 1:
        os.replace(*moves[0])
        return
    undo: list[tuple[str, str | None]] = []
    try:
        for number, (part, place) in enumerate(moves):
            kept = os.path.join(os.path.dirname(part), f".old-{number}") if os.path.isfile(place) else None
            undo.append((place, kept))
            if kept:
                _keep(place, kept)
            os.replace(part, place)
    except BaseException:
        for place, kept in reversed(undo):
            with contextlib.suppress(OSError):
                if kept:
                    os.replace(kept, place)
                else:
                    os.remove(place)
        raise


def _keep(place, kept):
    """Gives a file a second name; on a file system without hard links, another name."""
    try:
        os.link(place, kept)
    except OSError:
        os.rename(place, kept)


def swap_in(part: str, place: str) -> None:
    """Makes `part`, a directory in one of `aside`, become `place`. The earlier one stays at `part` or beside it.

    On Linux, a kill leaves one of both at `place`.
    """
    if not os.path.lexists(place):
        os.rename(part, place)
        return
    if _exchange(part, place):
        return
    old = part + ".old"
    os.rename(place, old)
    try:
        os.rename(part, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rename(old, place)
        raise


def _exchange(a, b):
    """Exchanges two paths atomically. Returns whether the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return rename(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0
