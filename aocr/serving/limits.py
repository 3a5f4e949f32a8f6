"""Bodies of bounded size and time, and the keys of clients."""

import asyncio
import contextlib
import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator, Sequence

from starlette.requests import ClientDisconnect, Request

from aocr.errors import UserError
from aocr.files import cause
from aocr.serving.contract import Problem

TOGETHER = 8  # bodies of the largest size that may be held at once
LINGER = 64 << 20  # bytes beyond the limit that are read and dropped


class Bodies:
    """Receives the bodies of requests; bounds each of them and all together."""

    def __init__(self, most: int, seconds: float):
        """`most`: bytes of one body, of which TOGETHER may be held at once. `seconds`: to receive one."""
        self._most, self._seconds = most, seconds
        self.held = 0  # bytes

    @contextlib.asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the body of a request, unpacked, and holds it within the block.

        Raises: Problem if it is too large, too slow or cut off, or if too much is held already.
        """
        length = request.headers.get("content-length", "")
        read = self._most if "expect" in request.headers else self._most + LINGER
        if length.isascii() and length.isdecimal() and int(length) > read:
            raise _too_large(self._most)
        held = _Held(self, TOGETHER * self._most)
        try:
            yield await self._whole(request, held)
        finally:
            held.release()

    async def _whole(self, request, held):
        try:
            body = await asyncio.wait_for(self._receive(request, held), self._seconds)
        except asyncio.TimeoutError:
            raise Problem(408, f"The request did not arrive within {self._seconds:g} s",
                          {"Connection": "close"}) from None
        except ClientDisconnect:
            raise Problem(400, "The request was cut off") from None
        if request.headers.get("content-encoding", "").lower() == "gzip":
            body = _unpacked(body, self._most)
            if not held.add(len(body)):
                raise _full()
        return body

    async def _receive(self, request, held):
        """Returns the packed body. What is refused is read to its end, or the client would not see the answer."""
        chunks: list[bytes] = []
        size, refused = 0, None
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._most:
                refused = _too_large(self._most)
            elif not refused and not held.add(len(chunk)):
                refused = _full()
            if refused:
                chunks.clear()
            else:
                chunks.append(chunk)
            if size > self._most + LINGER:
                break
        if refused:
            raise refused
        return b"".join(chunks)


class _Held:
    """The bytes of one request, counted in `bodies.held`."""

    def __init__(self, bodies, most):
        self._bodies, self._most, self._count = bodies, most, 0

    def add(self, count):
        """Counts further bytes; returns whether there is room for them."""
        if self._bodies.held + count > self._most:
            return False
        self._bodies.held += count
        self._count += count
        return True

    def release(self):
        self._bodies.held -= self._count


def _full():
    return Problem(429, "The server has too many requests; try again later", {"Retry-After": "1"})


def _too_large(most):
    # Closed, since the rest of the body would be taken for the next request.
    return Problem(413, f"The request is larger than {most} bytes", {"Connection": "close"})


def _unpacked(body, most):
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise Problem(400, "Failed to decompress the body: it is not gzip") from None
    if len(unpacked) > most:
        raise _too_large(most)
    if not unpacker.eof:
        raise Problem(400, "Failed to decompress the body: it is cut off")
    return unpacked


class Keys:
    """The keys of which a request must have one; without keys every request is allowed."""

    def __init__(self, keys: Sequence[str] = ()):
        self._digests = [_digest(key.encode()) for key in keys]

    @classmethod
    def read(cls, path: str) -> "Keys":
        """Reads a file of keys, one per line; empty lines and those that begin with # are skipped.

        UserError if it cannot be read or holds none.
        """
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--api-key-file {path}: cannot be read: {cause(error)}; name a UTF-8 file of keys, one "
                            "per line") from None
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UserError(f"--api-key-file {path}: holds no key; write one per line, or leave the option out")
        return cls(keys)

    def check(self, request: Request) -> None:
        """Raises: Problem unless the request has one of the keys."""
        if not self._digests:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        text = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        given = _digest(text.encode("latin-1"))  # the bytes that were sent
        # All are compared, in constant time, so that the answer's time tells nothing.
        if not sum([hmac.compare_digest(given, known) for known in self._digests]):
            raise Problem(401, "The request has no valid key; send it as `Authorization: Bearer KEY`",
                          {"WWW-Authenticate": "Bearer"})


def _digest(key):
    return hashlib.sha256(key).digest()
