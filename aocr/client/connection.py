"""An HTTP connection that stays open and tries again: HTTP alone, nothing of models."""

import email.utils
import http.client
import logging
import random
import socket
import ssl
import time
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import aocr
from aocr.errors import UserError, usage_error

log = logging.getLogger(__name__)

FIRST_WAIT, MOST_WAIT = 0.5, 30.0  # seconds before the first further attempt, doubled up to the second
MOST_RETRY_AFTER = 120.0  # seconds; a server that asks for more is not waited for
AGAIN = (408, 429, 502, 503, 504)  # slow request, too many requests, bad gateway, unavailable, slow answer
HTTP_PORTS = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}
GONE = (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected)  # the other side closed a connection


class Answer(NamedTuple):
    """A server's answer to a request."""

    status: int
    content: bytes


def split_url(url: str) -> SplitResult:
    """Returns the parts of an http or https URL without user, query and fragment. Raises: UserError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in HTTP_PORTS and parts.hostname and parts.port != 0 and url.isascii()
    except ValueError:
        usable = False
    if not usable or any(character <= " " for character in url):
        raise usage_error(f"--server {url}: is not a URL; use one like http://localhost:8501/v1/models/aocr")
    if parts.username is not None or parts.query or parts.fragment:
        raise usage_error(f"--server {parts.scheme}://{parts.hostname}...: a user, query or fragment is not supported; "
                          "give the path of the model alone, and a key by --api-key-file")
    return parts


class Connection:
    """A connection to one server. Not for several threads.

    Tries again after connection errors, incomplete answers and the statuses AGAIN, with waits that double, or as long
    as the server asks for by `Retry-After`. Requests must therefore have no effects.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 60.0, retries: int = 5):
        """Connects with the first request.

        Args:
          url: names the server; its path is not used.
          key: sent as a bearer token with every request.
          timeout: seconds to connect, and without a byte of the answer.
          retries: further attempts of a request.
        """
        parts = split_url(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._server = f"--server {parts.scheme}://{parts.netloc}"
        self._http = kind(parts.hostname or "", parts.port or HTTP_PORTS[parts.scheme], timeout=timeout)
        self._headers = {"Content-Type": "application/json", "User-Agent": f"aocr/{aocr.__version__}"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._retries, self._timeout = retries, timeout

    def close(self) -> None:
        """Closes the connection; a further request opens it again."""
        self._http.close()

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Sends a request, several times if need be; returns the first answer whose status is not in AGAIN.

        Raises: UserError if there is none.
        """
        for attempt in range(self._retries + 1):
            wait = min(FIRST_WAIT * 2**attempt, MOST_WAIT) * random.uniform(0.5, 1)
            try:
                answer, after = self._exchange(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                self._http.close()
                problem, after = self._problem(error), None
                if _is_final(error):
                    raise UserError(f"{self._server}: {problem}") from None
            else:
                if answer.status not in AGAIN:
                    return answer
                problem = f"status {answer.status}: {_excerpt(answer.content)}"
            if after is not None:
                if after > MOST_RETRY_AFTER:
                    raise UserError(f"{self._server}: {problem}; it asks to wait for {after:.0f} seconds, the limit is "
                                    f"{MOST_RETRY_AFTER:.0f}; try again later")
                wait += after  # so that waiting clients do not come back all at once
            if attempt < self._retries:
                log.warning("%s: %s; trying again in %.1f seconds", self._server, problem, wait)
                time.sleep(wait)
        raise UserError(f"{self._server}: {problem}; gave up after {self._retries + 1} attempts; check that the server "
                        "is up, or give it more time by --server-timeout and --server-retries")

    def _exchange(self, method, path, body):
        """Returns (Answer, seconds of Retry-After or None). A connection that was closed while idle is opened again."""
        if self._http.sock is not None:
            try:
                return self._once(method, path, body)
            except GONE:
                self._http.close()
        return self._once(method, path, body)

    def _once(self, method, path, body):
        try:
            self._http.request(method, path, body, self._headers)
        except (BrokenPipeError, ConnectionResetError):
            if self._http.sock is None:
                raise
            # A server may refuse a large body, and close, before it has read all of it: look for its answer.
        response = self._http.getresponse()
        answer = Answer(response.status, response.read())
        if response.will_close:
            self._http.close()
        return answer, _retry_after(response.getheader("Retry-After"))

    def _problem(self, error):
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {error.verify_message}; SSL_CERT_FILE names further authorities"
        if isinstance(error, ssl.SSLError):
            return f"no TLS connection ({error.reason}); use http:// for a server without TLS"
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout:g} seconds"
        if isinstance(error, http.client.RemoteDisconnected):
            return "it closed the connection without an answer"
        if isinstance(error, http.client.IncompleteRead):
            return "it closed the connection before the end of its answer"
        if isinstance(error, http.client.HTTPException):
            return f"its answer is not HTTP ({type(error).__name__})"
        return f"cannot be reached: {error.strerror or error}"


def _is_final(error):
    """Returns whether a further attempt would fail too: a certificate, or a name that does not exist."""
    if isinstance(error, socket.gaierror):
        return error.errno != socket.EAI_AGAIN
    return isinstance(error, ssl.SSLError)


def _retry_after(value):
    """Returns the seconds of a `Retry-After` header, which holds them or a date; None for none and others."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _excerpt(content):
    """Returns the start of an answer that is an error, as one line."""
    text = " ".join(content[:1000].decode("utf-8", "replace").split())
    return text[:200] or "empty answer"
