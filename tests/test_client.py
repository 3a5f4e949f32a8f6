"""The client of model servers, against a server that plays refusals and trouble."""

import concurrent.futures
import contextlib
import email.utils
import io
import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
import stub_server
import trustme
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from stub_server import StubServer, half, half_chunk, hang_up, no_http, reset, status

from aocr.cli import main
from aocr.client import connection, server
from aocr.client.answers import NotOurs, readings_in, signatures_in
from aocr.client.connection import Connection
from aocr.client.server import ModelServer, model_path
from aocr.config import ServerConfig
from aocr.errors import UserError
from aocr.image_files import BadImage
from aocr.prediction import Alternative, Character, Hypothesis, Reading

WIDTHS = (21, 34, 5, 55, 8, 89, 3)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.01)


@pytest.fixture
def stub():
    with StubServer() as made:
        yield made


def png(width, height=7, path=None):
    """Returns a PNG file; `path`: where to write it as well."""
    file = io.BytesIO()
    Image.new("L", (width, height), 200).save(file, "PNG")
    if path:
        path.write_bytes(file.getvalue())
    return file.getvalue()


def opened(stub, **options):
    return ModelServer(ServerConfig(server=stub.model, **{"server_timeout": 5.0, **options}))


def predict(stub, *arguments):
    return main(["predict", "--server", stub.model, "--log-path", "", *map(str, arguments)])


def test_readings_with_their_characters(stub):
    with opened(stub) as model:
        assert model.has_details
        reading, = model.read_images([png(21)], details=True)
    assert reading == Reading("21x7", 0.75, (
        Character("2", 1.0, (Alternative("2", 1.0), Alternative("?", 0.0)), 0.0, 0.25),
        Character("1", 0.9, (Alternative("1", 0.9), Alternative("?", 0.05)), 0.25, 0.5),
        Character("x", 0.8, (Alternative("x", 0.8), Alternative("?", 0.1)), 0.5, 0.75),
        Character("7", 0.7, (Alternative("7", 0.7), Alternative("?", 0.15)), 0.75, 1.0)),
        (Hypothesis("21x7", 0.75), Hypothesis("?", 0.125)))
    assert json.loads(stub.requests[-1][3])["signature_name"] == "serving_detail"


def test_without_details_the_default_signature_reads():
    with StubServer(signatures=("serving_default", "serving_pixels")) as stub, opened(stub) as model:
        assert not model.has_details
        for details in (False, True):
            assert model.read_images([png(21), png(4)], details=details) == [("21x7", 0.75, (), ()),
                                                                             ("4x7", 0.75, (), ())]
            assert json.loads(stub.requests[-1][3])["signature_name"] == "serving_default"


def test_one_connection_serves_all_requests(stub):
    with opened(stub) as model:
        for width in WIDTHS:
            assert model.read_images([png(width)])[0].text == f"{width}x7"
    assert stub.connections == 1


def test_threads_have_connections_of_their_own(stub):
    with opened(stub) as model, concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda width: model.read_images([png(width)])[0].text, [*WIDTHS] * 4))
    assert found == [f"{width}x7" for width in WIDTHS] * 4
    assert 2 <= stub.connections <= 4  # that of the metadata, and one of each thread


@pytest.mark.parametrize("trouble", [*map(status, (408, 429, 502, 503, 504)), reset, hang_up, half, half_chunk,
                                     no_http])
def test_trouble_that_passes(stub, trouble, caplog):
    with opened(stub) as model:
        stub.troubles = [trouble, trouble]
        assert model.read_images([png(21), png(4)]) == [Reading("21x7", 0.75), Reading("4x7", 0.75)]
    assert stub.sizes() == [2, 2, 2]
    again = caplog.text.count("trying again in")
    # A connection that is lost after use may have been idle too long: opened again at once, without a word.
    assert again == (1 if trouble in (reset, hang_up) else 2), caplog.text


def test_trouble_that_stays(stub):
    with opened(stub, server_retries=3) as model:
        stub.troubles = [status(503)] * 9
        with pytest.raises(UserError, match=r'status 503: .*played 503.*; gave up after 4 attempts; check that the'):
            model.read_images([png(21)])
    assert len(stub.troubles) == 5


def test_waits_double_up_to_a_limit(stub, monkeypatch):
    waits = []
    monkeypatch.setattr(connection.time, "sleep", waits.append)
    monkeypatch.setattr(connection, "FIRST_WAIT", 2.0)
    with opened(stub, server_retries=6) as model:
        stub.troubles = [status(503)] * 6
        model.read_images([png(21)])
    for wait, most in zip(waits, [2, 4, 8, 16, 30, 30], strict=True):
        assert most / 2 <= wait <= most
    assert len({wait / most for wait, most in zip(waits, [2, 4, 8, 16, 30, 30])}) > 3  # jitter


@pytest.mark.parametrize("after, least", [("7", 7), (lambda: email.utils.formatdate(time.time() + 9, usegmt=True), 7.5),
                                          ("soon", 0), (email.utils.formatdate(0), 0), ("-3", 0)])
def test_the_server_says_how_long_to_wait(stub, monkeypatch, after, least):
    waits = []
    monkeypatch.setattr(connection.time, "sleep", waits.append)
    with opened(stub) as model:
        stub.troubles = [status(429, Retry_After=after() if callable(after) else after)]
        model.read_images([png(21)])
    assert len(waits) == 1 and least <= waits[0] <= least + 2


def test_a_server_that_wants_hours_is_not_waited_for(stub):
    with opened(stub) as model:
        stub.troubles = [status(503, Retry_After="7200")]
        with pytest.raises(UserError, match="it asks to wait for 7200 seconds, the limit is 120; try again later"):
            model.read_images([png(21)])


def test_slow_answers(stub):
    def late(handler):
        time.sleep(0.6)

    with opened(stub, server_timeout=0.2, server_retries=1) as model:
        stub.troubles = [late, late]
        with pytest.raises(UserError, match="no answer within 0.2 seconds; gave up after 2 attempts"):
            model.read_images([png(21)])
        assert model.read_images([png(21)])[0].text == "21x7"


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1/models/aocr"
        with pytest.raises(UserError, match="cannot be reached: Connection refused; gave up after 2 attempts"):
            ModelServer(ServerConfig(server=url, server_retries=1))


def test_a_server_that_comes_later(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start(_):
        if not started:
            started.append(StubServer(port=port).__enter__())

    monkeypatch.setattr(connection.time, "sleep", start)
    with ModelServer(ServerConfig(server=f"http://127.0.0.1:{port}/v1/models/aocr")) as model:
        assert model.read_images([png(21)])[0].text == "21x7"
    started[0].__exit__()


def test_names_that_do_not_exist_fail_at_once(monkeypatch):
    monkeypatch.setattr(connection.time, "sleep", lambda _: pytest.fail("tried again"))
    with pytest.raises(UserError, match=r"http://nowhere.invalid: cannot be reached: "):
        ModelServer(ServerConfig(server="http://nowhere.invalid/v1/models/aocr"))


def test_certificates_are_checked(stub, monkeypatch, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    stub.socket = context.wrap_socket(stub.socket, server_side=True)
    url = stub.model.replace("http:", "https:")
    with pytest.raises(UserError, match="its certificate is not valid: .*; SSL_CERT_FILE names further authorities"):
        ModelServer(ServerConfig(server=url))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with ModelServer(ServerConfig(server=url)) as model:
        assert model.read_images([png(21)])[0].text == "21x7"
    with pytest.raises(UserError, match="gave up after 1 attempts"):  # plain HTTP to a server of TLS
        ModelServer(ServerConfig(server=stub.model, server_retries=0))


def test_a_refused_batch_is_split_until_the_broken_images_are_alone(stub):
    widths = [21, 34, 13, 55, 8, 89, 3]
    with opened(stub) as model:
        found = model.read_images([png(width) for width in widths])
    assert [one.text for one in found if isinstance(one, Reading)] == ["21x7", "34x7", "55x7", "8x7", "89x7", "3x7"]
    assert isinstance(found[2], BadImage)
    assert found[2].args == ("refused by the server", "13 x 7; the limit is --max-pixels 90")
    assert stub.sizes() == [7, 3, 1, 2, 1, 1, 4]


def test_a_batch_that_is_too_large_is_split(stub):
    with opened(stub) as model:
        stub.troubles = [status(413)]
        assert [one.text for one in model.read_images([png(21), png(4), png(9)])] == ["21x7", "4x7", "9x7"]
        assert stub.sizes() == [3, 1, 2]
        stub.troubles = [status(413)]
        assert model.read_images([png(21)])[0].args == ("refused by the server", "played 413")


def test_a_refusal_before_the_end_of_a_large_body(stub):
    """Such a server closes the connection while the client still sends."""
    def refuse(listening):
        with listening.accept()[0] as peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 20\r\n\r\n"
                         b'{"error": "too big"}')
            peer.shutdown(socket.SHUT_WR)
            time.sleep(0.3)  # a close while bytes are unread would reset the connection, and the answer with it

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=refuse, args=(listening,), daemon=True).start()
        sent = Connection(f"http://127.0.0.1:{listening.getsockname()[1]}", retries=0)
        assert sent.request("POST", "/", bytes(30 << 20)) == (413, b'{"error": "too big"}')


def test_requests_are_limited_in_bytes(stub, monkeypatch):
    images = [png(width, height=50) for width in WIDTHS]
    monkeypatch.setattr(server, "REQUEST_BYTES", len(images[0]) + len(images[1]))
    with opened(stub) as model:
        assert [one.text for one in model.read_images(images)] == [f"{width}x50" for width in WIDTHS]
    assert max(stub.sizes()) == 2 and sum(stub.sizes()) == 7


@pytest.mark.parametrize("answer, message", [
    (b"<html>", "its answer is not JSON; name a model exported by aocr"),
    (b"[" * 100_000, "its answer is not JSON"),
    (b"[]", "its answer is not an object of JSON"),
    ({"outputs": {}}, "its answer does not hold 2 predictions"),
    ({"predictions": [{"output": "A", "probability": 1}]}, "its answer does not hold 2 predictions"),
    ({"predictions": ["A", "B"]}, "its answer holds predictions of another form"),
    ({"predictions": [{"output": "A"}, {"output": "B"}]}, "(KeyError: 'probability')"),
    ({"predictions": [{"output": 3, "probability": 1}] * 2}, "(TypeError: int in place of a text)"),
    ({"predictions": [{"output": "A", "probability": 1, "characters": ["A"], "edges": [[0]]}] * 2},
     "holds predictions of another form (ValueError: not enough values"),
])
def test_answers_that_are_not_of_a_model_of_ours(stub, answer, message):
    with opened(stub) as model:
        stub.troubles = [lambda handler: handler.send(200, answer)]
        with pytest.raises(UserError) as raised:
            model.read_images([png(21), png(4)])
    assert message in str(raised.value) and str(raised.value).startswith(f"--server {stub.model}: ")


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                      lambda inner: st.lists(inner, max_size=3), max_leaves=6)
ROWS = st.fixed_dictionaries({"output": VALUES, "probability": VALUES}, optional=dict.fromkeys((
    "characters", "confidences", "edges", "alternatives", "alternative_probabilities", "hypotheses",
    "hypothesis_probabilities"), VALUES))


@given(st.lists(ROWS | VALUES, min_size=1, max_size=2))
def test_any_predictions_are_readings_or_not_ours(rows):
    try:
        found = readings_in(json.dumps({"predictions": rows}).encode(), len(rows))
    except NotOurs:
        return
    for row, reading in zip(rows, found, strict=True):
        assert isinstance(row, dict) and reading.text == row["output"] and isinstance(reading.confidence, float)
        assert all(type(one.text) is str for one in (*reading.characters, *reading.hypotheses))


@given(VALUES)
def test_any_metadata_lists_signatures_or_is_not_ours(value):
    for document in (value, {"metadata": value}, {"metadata": {"signature_def": {"signature_def": {"a": value}}}},
                     {"metadata": {"signature_def": {"signature_def": {"a": {"inputs": value, "outputs": value}}}}}):
        with contextlib.suppress(NotOurs):
            assert signatures_in(json.dumps(document).encode()) <= {"a"}


@pytest.mark.parametrize("code, message", [
    (302, "status 302: played 302; redirects are not followed, name the server itself"),
    (403, "status 403: played 403; check --api-key-file"),
    (404, "status 404: played 404; check the model's name and version in the URL"),
    (500, "status 500: played 500"),
])
def test_refusals_that_no_image_is_the_reason_of(stub, code, message):
    with opened(stub) as model:
        stub.troubles = [status(code, Location="http://127.0.0.1:1/")]
        with pytest.raises(UserError) as raised:
            model.read_images([png(21), png(4)])
    assert str(raised.value) == f"--server {stub.model}: {message}"


@pytest.mark.parametrize("found, message", [
    ({"model_spec": {}}, "its answer lists no signatures"),
    (stub_server.metadata(["other"]), "this model has no signature serving_default"),
])
def test_models_that_are_not_ours(stub, found, message):
    stub.troubles = [lambda handler: handler.send(200, found)]
    with pytest.raises(UserError, match=message):
        opened(stub)


def test_keys(tmp_path):
    file = tmp_path / "key"
    with StubServer(key="s3cret") as stub:
        with pytest.raises(UserError, match="status 401: no valid key; give its key by --api-key-file"):
            opened(stub)
        file.write_text("s3cret\n")
        with opened(stub, api_key_file=str(file)) as model:
            assert model.read_images([png(21)])[0].text == "21x7"
        for content in ("", "two words", "a\nb\n", "k\u00e9y", "\x01"):
            file.write_text(content, encoding="utf-8")
            with pytest.raises(UserError, match="must hold one line of ASCII characters without spaces, the key"):
                opened(stub, api_key_file=str(file))
        file.unlink()
        with pytest.raises(UserError, match="key: cannot be read: No such file"):
            opened(stub, api_key_file=str(file))


@pytest.mark.parametrize("url, path", [
    ("http://h/v1/models/aocr", "/v1/models/aocr"),
    ("https://h:8501/v1/models/a%20b/versions/3/", "/v1/models/a%20b/versions/3"),
    ("http://[::1]:8501/v1/models/aocr/labels/stable:predict", "/v1/models/aocr/labels/stable"),
    ("http://h/behind/a/proxy/v1/models/aocr", "/behind/a/proxy/v1/models/aocr"),
])
def test_urls_of_models(url, path):
    assert model_path(url) == path


@pytest.mark.parametrize("url, message", [
    ("", "is not a URL; use one like http://localhost:8501/v1/models/aocr"),
    ("localhost:8501", "is not a URL"),
    ("ftp://h/v1/models/aocr", "is not a URL"),
    ("http://h:99999/v1/models/aocr", "is not a URL"),
    ("http://h:0/v1/models/aocr", "is not a URL"),
    ("http://[::1/v1/models/aocr", "is not a URL"),
    ("http://h/v1/models/a b", "is not a URL"),
    ("http://h/v1/models/\u00e4", "is not a URL"),
    ("http://h:8501", "names no model; use /v1/models/NAME or /v1/models/NAME/versions/N as its path"),
    ("http://h/v1/models/", "names no model"),
    ("http://h/v1/models/a/versions/new", "names no model"),
    ("http://me:word@h/v1/models/aocr", "a user, query or fragment is not supported"),
    ("http://h/v1/models/aocr?key=1", "a user, query or fragment is not supported"),
])
def test_urls_that_name_no_model(url, message):
    with pytest.raises(UserError) as raised:
        model_path(url)
    assert message in str(raised.value) and raised.value.exit_code == 2 and "word@" not in str(raised.value)


# ---- the command


def test_predict_reads_with_a_server(stub, tmp_path, capsys, caplog):
    files = [tmp_path / f"{width}.png" for width in (21, 34, 13, 55, 8, 89, 3)]
    for file in files:
        png(int(file.stem), path=file)
    Image.new("L", (40, 6)).save(tmp_path / "scan.tif")  # a format that the server's model does not read
    broken = tmp_path / "broken.png"
    broken.write_bytes(png(30)[:60])
    with caplog.at_level(logging.ERROR, "aocr"):
        assert predict(stub, *files[:4], broken, tmp_path / "none.png", tmp_path / "scan.tif", *files[4:],
                       "--batch-size", 4) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"{tmp_path}/{name}\t0.750000\t{text}" for name, text in (
        ("21.png", "21x7"), ("34.png", "34x7"), ("55.png", "55x7"), ("scan.tif", "40x6"), ("8.png", "8x7"),
        ("89.png", "89x7"), ("3.png", "3x7"))]
    errors = [line for line in captured.err.splitlines() if line.startswith("aocr: error: ")]
    assert errors[0] == (f"aocr: error: {tmp_path}/13.png: refused by the server: 13 x 7; the limit is --max-pixels 90")
    assert errors[1].startswith(f"aocr: error: {broken}: unreadable image: ")
    assert errors[2] == f"aocr: error: {tmp_path}/none.png: no such file" and len(errors) == 3


def test_a_server_that_fails_ends_the_command(stub, tmp_path, capsys):
    png(21, path=tmp_path / "a.png")
    stub.predict_troubles = [status(500)]
    assert predict(stub, tmp_path / "a.png") == 1
    assert capsys.readouterr() == ("", f"aocr: error: --server {stub.model}: status 500: played 500\n")


def test_predict_reads_paths_as_they_arrive(stub, tmp_path):
    png(21, path=tmp_path / "a.png")
    png(34, path=tmp_path / "b.png")
    command = [sys.executable, "-c", "import sys, aocr.__main__; code = aocr.__main__.main(); "
               "assert not {'tensorflow', 'numpy', 'matplotlib'} & set(sys.modules); sys.exit(code)",
               "predict", "--server", stub.model, "--log-path", ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        for name, text in (("a", "21x7"), ("b", "34x7")):
            process.stdin.write(f"{tmp_path}/{name}.png\n")
            assert process.stdout.readline() == f"{tmp_path}/{name}.png\t0.750000\t{text}\n"
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("flags, message", [
    (["--model-dir", "m"], "--server and --model-dir are mutually exclusive"),
    (["--job-dir", "m"], "--server and --model-dir are mutually exclusive"),
    (["--checkpoint", "best"], "--server and --checkpoint are mutually exclusive"),
    (["--decoding", "ctc"], "--server and --decoding are mutually exclusive"),
    (["--visualize", "pictures"], "--server and --visualize are mutually exclusive"),
    (["--gpu-id", "-1"], "--server and --gpu-id are mutually exclusive"),
    (["--max-width", "99"], "--server and --max-width are mutually exclusive"),
    (["--charset", "abc"], "--server and --charset are mutually exclusive"),
    (["--full-ascii"], "--server and --full-ascii are mutually exclusive"),
    (["--server-timeout", "0"], "--server-timeout is 0.0; use a number above 0"),
    (["--server-retries", "-1"], "--server-retries is -1; the minimum is 0"),
])
def test_options_that_contradict_a_server(flags, message, capsys):
    assert main(["predict", "--server", "http://h/v1/models/aocr", "--log-path", "", *flags, "x.png"]) == 2
    assert message in capsys.readouterr().err


def test_predict_tells_characters_as_json(stub, tmp_path, capsys):
    png(21, path=tmp_path / "a.png")
    assert predict(stub, tmp_path / "a.png", "--output-format", "jsonl") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["text"], one["left"], one["right"]) for one in found["characters"]] == [
        ("2", 0.0, 5.25), ("1", 5.25, 10.5), ("x", 10.5, 15.75), ("7", 15.75, 21.0)]  # pixels of 21
    assert found["hypotheses"] == [{"text": "21x7", "confidence": 0.75}, {"text": "?", "confidence": 0.125}]


def test_options_that_need_a_server(capsys):
    assert main(["predict", "--api-key-file", "k", "--log-path", "", "x.png"]) == 2
    assert "--api-key-file needs --server; add it" in capsys.readouterr().err


def test_preparation_obeys_its_options(stub, tmp_path, capsys):
    png(21, path=tmp_path / "a.png")
    assert predict(stub, tmp_path / "a.png", "--max-pixels", 146) == 1
    assert "too many pixels: 21 x 7; the limit is --max-pixels 146" in capsys.readouterr().err
    assert predict(stub, tmp_path / "a.png", "--max-pixels", 147, "--background", "red") == 0
