"""Runs the server: binds its address, starts its parts, and ends it without dropping a request."""

import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import uvicorn

from aocr.config import ServeConfig
from aocr.errors import UserError
from aocr.serving.app import App
from aocr.serving.batching import Batcher
from aocr.serving.limits import Keys
from aocr.serving.metrics import Metrics
from aocr.serving.reading import Reader
from aocr.serving.sources import Source
from aocr.serving.versions import Versions

KEEP_ALIVE = 75  # seconds that an idle connection is kept; more than those of common proxies
TICK = 0.02  # seconds between two looks at the requests in progress

log = logging.getLogger(__name__)


class Parts:
    """The parts of a server, without the network: the application and what it needs."""

    def __init__(self, source: Source, config: ServeConfig):
        """UserError if no version can be loaded, or the keys cannot be read."""
        keys = Keys.read(config.api_key_file) if config.api_key_file else Keys()
        self.metrics = Metrics()
        self.versions = Versions(config.name, source, config.poll_seconds, self.metrics.loaded)
        self.versions.start()
        self.batcher = Batcher(config, self.metrics.batch.observe)
        self.metrics.watch_queue(lambda: self.batcher.waiting, lambda: self.batcher.load)
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "prepare")
        self.app = App(config, self.versions, Reader(self.versions, self.batcher, self._pool, config), self.metrics,
                       keys)

    def close(self) -> None:
        """Ends all threads."""
        self.versions.close()
        self.batcher.close()
        self._pool.shutdown(cancel_futures=True)


class _Forward(logging.Handler):
    """Passes the messages of the HTTP server to our log."""

    def emit(self, record):
        log.log(record.levelno, "%s", record.getMessage(), exc_info=record.exc_info)


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to an address. UserError if that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                                flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)  # it listens when a model is loaded: until then, clients are refused
        except BaseException:
            bound.close()
            raise
        return bound
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot be served on: {reason}; choose another address or "
                        "port, or 0 for a free one") from None


def url_of(bound: socket.socket) -> str:
    """Returns the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server:
    """A server that answers requests within a block, at the address `url`; at its end it drains."""

    def __init__(self, source: Source, config: ServeConfig):
        self._source, self._config = source, config

    def __enter__(self) -> "Server":
        """UserError if the server cannot start."""
        self._socket = bind(self._config.host, self._config.port)
        try:
            self.url = url_of(self._socket)
            self.parts = Parts(self._source, self._config)
        except BaseException:
            self._socket.close()
            raise
        logging.getLogger("uvicorn").handlers = [_Forward()]
        self._http = uvicorn.Server(uvicorn.Config(
            self.parts.app, log_config=None, log_level="warning", access_log=False, lifespan="off", ws="none",
            timeout_keep_alive=KEEP_ALIVE, server_header=False,
            timeout_graceful_shutdown=int(self._config.timeout_ms / 1000) + 1))
        # In a thread, so that signals reach our handlers, in the main thread.
        self._thread = threading.Thread(target=self._http.run, args=([self._socket],), name="http", daemon=True)
        self._thread.start()
        while self._thread.is_alive() and not self._http.started:
            time.sleep(TICK)
        return self

    def wait(self) -> None:
        """Waits until a signal raises an exception."""
        self._thread.join()

    def __exit__(self, *_) -> None:
        self._drain()
        self._http.should_exit = True
        self._thread.join()
        self.parts.close()

    def _drain(self):
        """Finishes the requests in progress. New ones are answered for `drain_seconds`, in which /readyz says no."""
        app = self.parts.app
        app.draining = True
        log.info("draining: %d requests in progress", app.in_progress)
        started = time.monotonic()
        least = started + self._config.drain_seconds
        most = least + self._config.timeout_ms / 1000
        while time.monotonic() < least or app.in_progress and time.monotonic() < most:
            time.sleep(TICK)
