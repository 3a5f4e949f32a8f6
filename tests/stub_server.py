"""A small server with TensorFlow Serving's REST interface, which can play trouble, for tests of clients.

Its model reads an image as "WIDTHxHEIGHT" and refuses those that are 13 pixels wide.
"""

import base64
import io
import json
import queue
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

REFUSAL = ("{{function_node __inference}} {{node decode/Assert}} assertion failed: [13 x 7; the limit is --max-pixels "
           "90]\n\t [[{{node decode/Assert}}]]")


class StubServer(ThreadingHTTPServer):
    """A server on loopback, on a free port unless one is given. A context manager.

    `troubles`: functions of the request's handler, each of which plays the server for one request to come;
    `predict_troubles`: for one prediction to come. `requests`: (method, path, headers, body) of all that came. `key`:
    which clients must send. `page`: what is at `/`. `outcome`: a queue of the objects posted to `/outcome`.
    """

    daemon_threads = True

    def __init__(self, signatures=("serving_default", "serving_detail"), key=None, page=None, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.signatures, self.key, self.page, self.outcome = signatures, key, page, queue.Queue()
        self.troubles, self.predict_troubles, self.requests, self.connections = [], [], [], 0
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.model = f"{self.url}/v1/models/aocr"
        self.info = dict(name="aocr", signatures=list(signatures), max_pixels=90_000, max_body_bytes=1 << 20)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def sizes(self):
        """The number of images in each predict request that came."""
        return [len(json.loads(body)["instances"]) for method, _, _, body in self.requests if method == "POST"]

    def handle_error(self, *_):
        """A client that goes away is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet

    def setup(self):
        super().setup()
        self.server.connections += 1

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._play(b"")

    def do_POST(self):
        self._play(self.rfile.read(int(self.headers["Content-Length"])))

    def _play(self, body):
        server = self.server
        if self.path == "/outcome":
            server.outcome.put(json.loads(body))
            self.send(200, {})
            return
        server.requests.append((self.command, self.path, dict(self.headers), body))
        if server.troubles:
            server.troubles.pop(0)(self)
        elif server.predict_troubles and body:
            server.predict_troubles.pop(0)(self)
        elif server.page and self.path == "/":
            self.send(200, server.page, kind="text/html; charset=utf-8")
        elif server.key and self.headers["Authorization"] != f"Bearer {server.key}":
            self.send(401, {"error": "no valid key"})
        elif self.path == "/aocr.json":
            self.send(200, server.info)
        elif not self.path.startswith("/v1/models/aocr"):
            self.send(404, {"error": "Servable not found for request: Latest(x)"})
        elif self.path.endswith("/metadata"):
            self.send(200, metadata(server.signatures))
        else:
            self.send(*self._predict(json.loads(body)))

    def _predict(self, request):
        if "inputs" in request:  # one image, in column form
            status, answer = self._predict({"instances": [request["inputs"]["input"]]})
            return status, {"outputs": answer["predictions"][0]} if status == 200 else answer
        try:
            images = [base64.b64decode(instance["b64"]) for instance in request["instances"]]
            sizes = [Image.open(io.BytesIO(image)).size for image in images]
        except OSError:
            return 400, {"error": "Unknown image file format."}
        if any(width == 13 for width, _ in sizes):
            return 400, {"error": REFUSAL}
        rows = [{"output": f"{width}x{height}", "probability": 0.75} for width, height in sizes]
        if request.get("signature_name") == "serving_detail":
            for row in rows:
                row.update(details(row["output"]))
        return 200, {"predictions": rows}

    def send(self, status, content, headers=(), kind="application/json"):
        """Answers with bytes, or with an object of JSON."""
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def metadata(signatures):
    """Metadata as TensorFlow Serving gives it, in the fields that clients look at."""
    tensor = {"dtype": "DT_STRING", "tensor_shape": {"dim": [], "unknown_rank": True}, "name": "x:0"}
    outputs = dict.fromkeys(("output", "probability"), tensor)
    found = {name: {"inputs": {"input": tensor}, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
             for name in signatures}
    return {"model_spec": {"name": "aocr", "signature_name": "", "version": "1"},
            "metadata": {"signature_def": {"signature_def": found}}}


def details(text, steps=9):
    """What the signature serving_detail adds: the k-th of the characters, of equal width, has confidence 1 - k / 10."""
    empty = [""] * (steps - len(text))
    return {"hypotheses": [text, "?"], "hypothesis_probabilities": [0.75, 0.125],
            "characters": [*text, *empty],
            "confidences": [1 - k / 10 for k in range(len(text))] + [0.0] * len(empty),
            "edges": [[k / len(text), (k + 1) / len(text)] for k in range(len(text))] + [[0.0, 0.0]] * len(empty),
            "alternatives": [[character, "?"] for character in text] + [["", ""]] * len(empty),
            "alternative_probabilities": [[1 - k / 10, k / 20] for k in range(len(text))] + [[0.0, 0.0]] * len(empty)}


def status(code, **headers):
    """Trouble: an answer with this status; headers with `_` for `-`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(code, {"error": f"played {code}"}, given)


def reset(handler):
    """Trouble: the connection is reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def hang_up(handler):
    """Trouble: the connection is closed without an answer."""
    handler.close_connection = True


def half(handler):
    """Trouble: the connection is closed in the middle of the answer."""
    handler.send(200, b'{"predictions": [', {"Content-Length": "999"})
    handler.close_connection = True


def half_chunk(handler):
    """Trouble: as `half`, of an answer in chunks."""
    handler.send(200, b"40\r\n{", {"Content-Length": "", "Transfer-Encoding": "chunked"})
    handler.close_connection = True


def no_http(handler):
    """Trouble: an answer that is not HTTP."""
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    handler.close_connection = True
