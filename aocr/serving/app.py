"""The routes of the server, as an ASGI application."""

import asyncio
import functools
import importlib.resources
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from aocr.config import ServeConfig
from aocr.serving import metrics as prometheus
from aocr.serving.answers import error_text, json_text
from aocr.serving.contract import Problem, metadata_answer, refuse_examples, status_answer, target_of
from aocr.serving.limits import Bodies, Keys
from aocr.serving.metrics import Metrics
from aocr.serving.reading import Reader
from aocr.serving.versions import Versions

JSON = "application/json"
PAGE = "static/index.html"
VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SECURITY = {"Content-Security-Policy": "default-src 'self' 'unsafe-inline' data: blob:; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff"}
Handler = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)


class App:
    """An ASGI application that answers requests; counts those in progress and can be told to drain."""

    def __init__(self, config: ServeConfig, versions: Versions, reader: Reader, metrics: Metrics, keys: Keys):
        self._config, self._versions, self._reader = config, versions, reader
        self._metrics, self._keys = metrics, keys
        self._seconds = config.timeout_ms / 1000
        self.bodies = Bodies(config.max_body_bytes, self._seconds)
        self.in_progress = 0
        self.draining = False
        routes = [("/healthz", self._health), ("/readyz", self._ready), ("/metrics", self._tell_metrics),
                  ("/aocr.json", self._about), ("/", self._page)]
        self._app: ASGIApp = Starlette(routes=[
            *(Route(path, self._guarded(path.strip("/") or "page", handler)) for path, handler in routes),
            Route("/{path:path}", self._guarded("rest", self._rest), methods=VERBS)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _guarded(self, method: str, handler: Handler) -> Handler:
        """Wraps a handler: turns problems into answers, counts requests, adds headers."""
        @functools.wraps(handler)
        async def guarded(request: Request) -> Response:
            started = time.monotonic()
            self.in_progress += 1
            request.state.method = method
            try:
                if method not in ("healthz", "readyz", "page") and request.method != "OPTIONS":
                    self._keys.check(request)
                response = await handler(request)
            except Problem as problem:
                response = _json(error_text(problem.message), problem.status, problem.headers)
            except Exception:
                log.exception("%s %s: internal error, please report it with this traceback", request.method,
                              request.url.path)
                response = _json(error_text("Internal error; the server's log tells why"), 500)
            finally:
                self.in_progress -= 1
            if self.draining:
                response.headers["Connection"] = "close"
            self._allow(request, response)
            self._metrics.requests.labels(request.state.method, str(response.status_code)).inc()
            self._metrics.seconds.labels(request.state.method).observe(time.monotonic() - started)
            return response

        return guarded

    def _allow(self, request, response):
        """Adds the CORS headers for an origin that is allowed."""
        origin = request.headers.get("origin")
        allowed = self._config.cors_origin
        if origin and (origin in allowed or "*" in allowed):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
            response.headers["Access-Control-Allow-Methods"] = "POST, GET"
            response.headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization, X-API-Key"

    # ---- TensorFlow Serving's contract

    async def _rest(self, request):
        path = request.scope.get("raw_path", request.url.path.encode()).split(b"?")[0].decode("latin-1")
        if not path.lower().startswith("/v1/"):
            request.state.method = "other"
            raise Problem(404, f"Not found: {request.method} {path}")
        if request.method == "OPTIONS" and "http" in request.headers.get("origin", ""):
            return Response(status_code=200, media_type=JSON)
        target = target_of(request.method, path)
        request.state.method = target.method or "status"
        if request.method == "GET":
            return _json(json_text(self._look(target)))
        if self.in_progress > self._config.max_queue:
            raise Problem(429, "The server has too many requests; try again later", {"Retry-After": "1"})
        async with self.bodies.received(request) as body:
            try:
                return _json(await asyncio.wait_for(self._call(target, body), self._seconds))
            except asyncio.TimeoutError:
                raise Problem(504, "Timed out waiting for notification") from None

    def _look(self, target):
        """Returns the status or the metadata of what a path names."""
        if target.method != "metadata":
            return status_answer(self._versions.status(target))
        servable = self._versions.get(target)
        return metadata_answer(self._versions.name, servable.version, servable.metadata)

    async def _call(self, target, body):
        if target.method == "predict":
            return await self._reader.predict(target, body)
        refuse_examples(body, target.method, lambda name: self._versions.get(target).signatures.get(name))
        raise AssertionError("models have no signature for examples")

    # ---- our own routes

    async def _health(self, _):
        return _json(json_text({"status": "alive"}))

    async def _ready(self, _):
        return _json(json_text({"status": "draining" if self.draining else "ready"}), 503 if self.draining else 200)

    async def _tell_metrics(self, _):
        return Response(self._metrics.text(), headers={"Content-Type": prometheus.CONTENT_TYPE})

    async def _about(self, _):
        """What the page needs to know."""
        servable = self._versions.current
        return _json(json_text({"name": self._versions.name, "version": str(servable.version),
                                "signatures": sorted(servable.signatures), "max_pixels": servable.limits.max_pixels,
                                "max_body_bytes": self._config.max_body_bytes}))

    async def _page(self, _):
        page = importlib.resources.files("aocr.serving") / PAGE
        if not page.is_file():
            raise Problem(404, "Not found: this server has no page; its models are under /v1/models/")
        return Response(page.read_bytes(), media_type="text/html; charset=utf-8", headers=SECURITY)


def _json(text, status=200, headers=None):
    return Response(text, status, headers, media_type=JSON)
