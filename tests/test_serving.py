"""`aocr serve`: readings, joined runs, new versions, limits, keys. Real HTTP on loopback, in this process."""

import base64
import gzip
import io
import json
import os
import shutil
import socket
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import ask
from PIL import Image

from aocr.config import ServeConfig
from aocr.errors import UserError
from aocr.serving.batching import Batcher, Full, Item, choose, joined
from aocr.serving.models import ImageLimits
from aocr.serving.server import Server, bind, url_of
from aocr.serving.sources import Source

PREDICT = "/v1/models/aocr:predict"


def body_of(*images, **more):
    """A request in the row form."""
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images], **more})


def read(url, *images, headers=()):
    """Returns status and answer to a request of images."""
    status, _, answer = ask(url, "POST", PREDICT, body_of(*images), headers)
    return status, answer


def assert_reads(answer, readings):
    assert [one["output"] for one in answer["predictions"]] == [text for text, _ in readings]
    assert [one["probability"] for one in answer["predictions"]] == pytest.approx([p for _, p in readings], rel=1e-4)


def as_tiff(image):
    file = io.BytesIO()
    Image.open(io.BytesIO(image)).save(file, "TIFF")
    return file.getvalue()


def wait_for(what, seconds=200):
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.02)
    assert found
    return found


# ---- readings

def test_the_export_reads_what_the_checkpoint_reads(tiny, tiny_server):
    status, answer = read(tiny_server.url, *tiny.images)
    assert status == 200
    assert_reads(answer, tiny.readings)


def test_the_frozen_graph_reads_the_same(tiny):
    found, = Source(tiny.frozen, ServeConfig(), None).find()
    assert found.version == 1
    read = found.open().read("serving_default", tiny.images)
    assert [text.decode() for text in read["output"]] == [text for text, _ in tiny.readings]
    assert list(read["probability"]) == pytest.approx([p for _, p in tiny.readings], rel=1e-4)


def test_details(tiny, tiny_server):
    """Characters of texts of several lengths, from runs that are not the same."""
    requests = [[tiny.images[0], as_tiff(tiny.images[4]), tiny.images[2]], [tiny.images[1]], [tiny.images[3]]]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda images: ask(tiny_server.url, "POST", PREDICT, body_of(
            *images, signature_name="serving_detail")), requests))
    assert [status for status, *_ in answers] == [200] * 3
    found = [one for *_, answer in answers for one in answer["predictions"]]
    for one, k in zip(found, (0, 4, 2, 1, 3)):
        text, probability = tiny.readings[k]
        assert one["output"] == "".join(one["characters"]) == text
        assert one["probability"] == pytest.approx(probability, rel=1e-4)
        assert len(one["confidences"]) == len(one["edges"]) == len(one["alternatives"]) == len(one["characters"])
        assert all(0 <= confidence <= 1 for confidence in one["confidences"])


def test_formats_that_the_graph_does_not_read(tiny, tiny_server):
    status, answer = read(tiny_server.url, as_tiff(tiny.images[1]))
    assert status == 200
    assert_reads(answer, tiny.readings[1:2])


def test_a_broken_image_fails_its_own_request_only(tiny, tiny_server):
    requests = [[image] for image in tiny.images for _ in range(4)]
    requests[7] = [tiny.images[0], b"no image"]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda images: read(tiny_server.url, *images), requests))
    for k, (status, answer) in enumerate(answers):
        if k == 7:
            assert status == 400 and "not a supported image" in answer["error"]
        else:
            assert status == 200
            assert_reads(answer, tiny.readings[k // 4:k // 4 + 1])


def test_every_signature_of_a_saved_model(tmp_path):
    """A graph with inputs of two kinds, one output for each byte, and one that does not depend on the image."""
    directory = str(tmp_path / "7")
    with tf.Graph().as_default(), tf.Session() as session:
        files = tf.placeholder(tf.string, [None])
        pixels, widths = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.int32, [None])
        signatures = {"lengths": (dict(files=files), dict(length=tf.strings.length(files))),
                      "serving_pixels": (dict(pixels=pixels, widths=widths),
                                         dict(total=tf.reduce_sum(pixels, 1) + tf.cast(widths, tf.float32)))}
        builder = tf.saved_model.Builder(directory)
        builder.add_meta_graph_and_variables(session, ["serve"], {
            name: tf.saved_model.predict_signature_def(*tensors) for name, tensors in signatures.items()})
        builder.save()
    config = ServeConfig(port=0, drain_seconds=0.0, name="any")
    with Server(Source(directory, config, None), config) as server:
        def predict(**body):
            return ask(server.url, "POST", "/v1/models/any/versions/7:predict", json.dumps(body))[::2]

        assert predict(signature_name="serving_pixels", instances=[
            {"pixels": [0.5, 2], "widths": 3}, {"pixels": [1, 1], "widths": 40}]) == (200, {"predictions": [5.5, 42.0]})
        assert predict(signature_name="serving_pixels", inputs={"pixels": [[0.25]], "widths": [1]}) == (
            200, {"outputs": [1.25]})
        status, answer = predict(signature_name="serving_pixels", inputs={"pixels": [1], "widths": [1]})
        assert status == 400 and "shape" in answer["error"]
        assert predict(instances=[1]) == (400, {"error": 'Serving signature name: "serving_default" not found in '
                                                         "signature def"})
        status, answer = predict(signature_name="lengths", inputs=[[]])
        assert status == 200 and answer == {"outputs": [[]]}
        facts = ask(server.url, "GET", "/aocr.json")[2]
        assert facts["signatures"] == ["lengths", "serving_pixels"] and facts["version"] == "7"


@pytest.mark.parametrize("directory, message", [("nothing", "no model there"), ("", "no model there")])
def test_a_directory_without_model(tmp_path, directory, message):
    with pytest.raises(UserError, match=message):
        Source(str(tmp_path / directory), ServeConfig(), None).find()


# ---- joined runs

def item(servable, image, width, pixels=100, arrived=0.0, signature="serving_default"):
    return Item(servable, signature, image, width, pixels, Future(), arrived)


class Limited:
    """Stands for a model, in tests that run none."""

    limits = ImageLimits(None, 1000)


def test_images_of_like_width_are_read_together():
    model = Limited()
    waiting = [item(model, b"", width) for width in (100, 201, 90, 300, 150, 49, 200)]
    chosen = [one.width for one in choose(waiting, 9)]
    assert chosen == [100, 90, 150]  # 49 and 200 would be fine with 100, but not with 150 and 90
    assert [one.width for one in choose(waiting, 2)] == [100, 90]
    assert [one.width for one in choose(waiting[1:], 9)] == [201, 200, 150, 300]
    narrow = [item(model, b"", width) for width in (3, 60, 64, 65)]
    assert [one.width for one in choose(narrow, 9)] == [3, 60, 64]


def test_runs_are_of_one_kind_and_of_few_pixels():
    one, other = Limited(), Limited()
    waiting = [item(one, b"", 50, 600), item(other, b"", 50), item(one, b"", 50, 300), item(one, b"", 50, 200),
               item(one, b"", 50, signature="other"), item(one, b"", 50, 100)]
    assert [waiting.index(chosen) for chosen in choose(waiting, 9)] == [0, 2, 5]


def test_images_that_wait_are_joined_and_a_broken_one_is_told_from_the_others(tiny, tiny_server):
    servable, runs = tiny_server.parts.versions.current, []
    batcher = Batcher(ServeConfig(batch_timeout_ms=10_000.0), runs.append)
    try:
        items = [item(servable, image, 60, arrived=time.monotonic()) for image in [*tiny.images[:3], b"no image"]]
        batcher.admit(len(items))
        for one in items:  # the first ones wait for those that were announced
            batcher.submit([one])
        rows = [one.result.result(60) for one in items[:3]]
        assert "not a supported image" in str(items[3].result.exception(60))
    finally:
        batcher.close()
    assert runs == [4, 1, 1, 1, 1]
    assert [row["output"].decode() for row in rows] == [text for text, _ in tiny.readings[:3]]


def test_an_image_waits_no_longer_than_allowed(tiny, tiny_server):
    runs = []
    batcher = Batcher(ServeConfig(batch_timeout_ms=50.0), runs.append)
    try:
        batcher.admit(2)  # the second one never comes
        one = item(tiny_server.parts.versions.current, tiny.images[0], 60, arrived=time.monotonic())
        batcher.submit([one])
        assert one.result.result(60)["output"].decode() == tiny.readings[0][0]
    finally:
        batcher.close()
    assert runs == [1]


def test_the_queue_is_bounded():
    batcher = Batcher(ServeConfig(max_queue=5), print)
    try:
        batcher.admit(3)
        with pytest.raises(Full):
            batcher.admit(3)
        batcher.release(1)
        batcher.admit(3)
        assert batcher.load == 5
    finally:
        batcher.close()


def test_outputs_of_different_runs_are_padded():
    rows = [{"characters": np.array([b"A", b"B"], object), "edges": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)},
            {"characters": np.array([b"C"], object), "edges": np.array([[5.0, 6.0]], np.float32)}]
    outputs = joined(rows)
    assert outputs["characters"].tolist() == [[b"A", b"B"], [b"C", b""]]
    assert outputs["edges"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [0, 0]]]
    assert outputs["edges"].dtype == np.float32


def test_texts_of_other_lengths_are_whole():
    """As a run's outputs give them: a text is bytes, a probability a NumPy scalar."""
    rows = [{"output": text, "probability": np.float64(value)}
            for text, value in ((b"7", 0.5), ("Straße".encode(), 0.25))]
    outputs = joined(rows)
    texts = outputs["output"].tolist()
    assert texts == [b"7", "Straße".encode()] and {type(text) for text in texts} == {bytes}
    assert outputs["probability"].tolist() == [0.5, 0.25]


# ---- new versions

def test_a_new_version_takes_over_without_a_lost_request(tiny, tmp_path):
    versions = tmp_path / "versions"
    shutil.copytree(tiny.export, versions / "1")
    shutil.copytree(tiny.export, tmp_path / "next")
    (versions / "3").mkdir()
    (versions / "3" / "saved_model.pb").write_bytes(b"broken")
    (versions / "notes").mkdir()
    config = ServeConfig(port=0, poll_seconds=0.05, drain_seconds=0.0)
    with Server(Source(str(versions), config, None), config) as server, ThreadPoolExecutor(3) as pool:
        def states():
            status = ask(server.url, "GET", "/v1/models/aocr")[2]["model_version_status"]
            return [(one["version"], one["state"], one["status"]["error_code"]) for one in status]

        assert states() == [("3", "END", "INTERNAL"), ("1", "AVAILABLE", "OK")]
        assert str(versions) not in json.dumps(ask(server.url, "GET", "/v1/models/aocr")[2])
        old, answers, done = weakref.ref(server.parts.versions.current), [], []

        def send():
            while not done:
                answers.append(read(server.url, tiny.images[0]))

        senders = [pool.submit(send) for _ in range(3)]
        os.rename(tmp_path / "next", versions / "2")
        wait_for(lambda: ("2", "AVAILABLE", "OK") in states())
        before = len(answers)
        wait_for(lambda: len(answers) > before + 5)
        done.append(True)
        for sender in senders:
            sender.result()
        assert {status for status, _ in answers} == {200}
        assert states() == [("3", "END", "INTERNAL"), ("2", "AVAILABLE", "OK"), ("1", "END", "OK")]
        status, _, answer = ask(server.url, "POST", "/v1/models/aocr/versions/1:predict", body_of(tiny.images[0]))
        assert (status, answer) == (404, {"error": "Servable not found for request: Specific(aocr, 1)"})
        assert ask(server.url, "POST", "/v1/models/aocr/versions/2:predict", body_of(tiny.images[0]))[0] == 200
        wait_for(lambda: old() is None)  # it is released
        text = ask(server.url, "GET", "/metrics")[2]
        assert "aocr_model_version 2.0" in text and 'aocr_model_loads_total{result="failed"} 1.0' in text
        shutil.copytree(tiny.export, versions / "3", dirs_exist_ok=True)  # it has become whole
        wait_for(lambda: ("3", "AVAILABLE", "OK") in states())


def write_halved(model_dir, step):
    """Writes another checkpoint, with half of each weight."""
    last = tf.train.load_checkpoint(model_dir)
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.Variable(last.get_tensor(name) / 2, name=name) for name in last.get_variable_to_shape_map()]
        session.run([variable.initializer for variable in variables])
        tf.train.Saver(variables, save_relative_paths=True).save(session, os.path.join(model_dir, "model.ckpt"), step)


def test_a_new_checkpoint_takes_over(tiny, tmp_path):
    model_dir = str(tmp_path / "model")
    shutil.copytree(tiny.model_dir, model_dir)
    config = ServeConfig(port=0, poll_seconds=0.05, drain_seconds=0.0)
    with Server(Source(model_dir, config, None), config) as server:
        assert server.parts.versions.current.version == 3
        assert_reads(read(server.url, *tiny.images)[1], tiny.readings)
        write_halved(model_dir, 9)
        wait_for(lambda: ask(server.url, "GET", "/v1/models/aocr/versions/9")[0] == 200
                 and server.parts.versions.current.version == 9)
        other = read(server.url, *tiny.images)[1]["predictions"]
        assert [one["probability"] for one in other] != pytest.approx([p for _, p in tiny.readings], rel=0.1)


# ---- limits, keys, other origins

@pytest.fixture(scope="module")
def guarded(tiny, tmp_path_factory):
    """A server with low limits, keys and an allowed origin."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("# ours\nfirst key\n\n  zweiter-schlüssel\n", encoding="utf-8")
    config = ServeConfig(port=0, runs=2, max_queue=6, max_body_bytes=20_000, max_pixels=3000, timeout_ms=1500,
                         api_key_file=str(keys), cors_origin=("https://example.org",), drain_seconds=0.0)
    with Server(Source(tiny.export, config, None), config) as server:
        yield server


KEY = {"Authorization": "Bearer first key"}


def test_keys(tiny, guarded):
    body = body_of(tiny.images[0])
    for headers in (KEY, {"X-API-Key": "first key"}, {"authorization": "bearer first key"},
                    {"X-API-Key": "zweiter-schlüssel".encode()}):
        assert ask(guarded.url, "POST", PREDICT, body, headers)[0] == 200
    for headers in ({}, {"Authorization": "Bearer first"}, {"X-API-Key": "# ours"},
                    {"Authorization": "Basic first key"}):
        status, answered, answer = ask(guarded.url, "POST", PREDICT, body, headers)
        assert status == 401 and set(answer) == {"error"} and answered["WWW-Authenticate"] == "Bearer"
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/aocr.json", 401),
                         ("/v1/models/aocr", 401)):
        assert ask(guarded.url, "GET", path)[0] == status


@pytest.mark.parametrize("content, message", [("", "holds no key"), ("# a\n\n", "holds no key"),
                                              (None, "cannot be read")])
def test_a_file_of_keys_without_keys(tiny, tmp_path, content, message):
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    config = ServeConfig(port=0, api_key_file=str(path))
    with pytest.raises(UserError, match=message), Server(Source(tiny.export, config, None), config):
        pass


def test_bodies_are_bounded(tiny, guarded):
    big = body_of(bytes(20_000))
    status, headers, answer = ask(guarded.url, "POST", PREDICT, big, KEY)
    assert status == 413 and "20000 bytes" in answer["error"] and headers["Connection"] == "close"
    chunks = (big[k:k + 5000].encode() for k in range(0, len(big), 5000))  # without a length
    assert ask(guarded.url, "POST", PREDICT, chunks, KEY)[0] == 413
    packed = {**KEY, "Content-Encoding": "gzip"}
    assert ask(guarded.url, "POST", PREDICT, gzip.compress(body_of(tiny.images[0]).encode()), packed)[0] == 200
    assert ask(guarded.url, "POST", PREDICT, gzip.compress(bytes(10_000_000)), packed)[0] == 413
    for broken in (b"no gzip", gzip.compress(b"{}" * 50)[:-9]):
        assert ask(guarded.url, "POST", PREDICT, broken, packed)[0] == 400


def test_bodies_are_bounded_together(tiny, guarded):
    bodies = guarded.parts.app.bodies
    assert bodies.held == 0
    bodies.held = 8 * 20_000 - 100  # those of others
    try:
        status, headers, _ = ask(guarded.url, "POST", PREDICT, body_of(tiny.images[0]), KEY)
        assert status == 429 and headers["Retry-After"] == "1"
    finally:
        bodies.held -= 8 * 20_000 - 100
    assert bodies.held == 0


def test_pixels_are_bounded(guarded):
    file = io.BytesIO()
    Image.new("L", (101, 31)).save(file, "PNG")
    status, _, answer = ask(guarded.url, "POST", PREDICT, body_of(file.getvalue()), KEY)
    assert (status, answer) == (400, {"error": "too many pixels: 101 x 31; the limit is --max-pixels 3000"})


def test_the_queue_is_full(tiny, guarded):
    assert ask(guarded.url, "POST", PREDICT, body_of(*tiny.images[:1] * 7), KEY)[0] == 413
    guarded.parts.batcher.admit(4)  # others' images
    try:
        assert ask(guarded.url, "POST", PREDICT, body_of(*tiny.images[:1] * 2), KEY)[0] == 200
        status, headers, answer = ask(guarded.url, "POST", PREDICT, body_of(*tiny.images[:1] * 3), KEY)
        assert status == 429 and headers["Retry-After"] == "1" and set(answer) == {"error"}
    finally:
        guarded.parts.batcher.release(4)
    assert guarded.parts.batcher.load == 0


def test_requests_that_do_not_arrive_or_end(tiny, guarded):
    with socket.create_connection((urlsplit(guarded.url).hostname, urlsplit(guarded.url).port), 30) as client:
        client.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer first key\r\n"
                       "Content-Length: 50\r\n\r\n{".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_reading_that_takes_too_long(tiny):
    config = ServeConfig(port=0, timeout_ms=400, max_batch=1, max_queue=2000, drain_seconds=0.0)
    with Server(Source(tiny.export, config, None), config) as server:
        status, answer = read(server.url, *tiny.images * 200)
        assert (status, answer) == (504, {"error": "Timed out waiting for notification"})
        assert server.parts.batcher.load == 0 and server.parts.batcher.waiting <= 1000
        wait_for(lambda: read(server.url, tiny.images[0])[0] == 200)


def test_other_origins(tiny, guarded, tiny_server):
    def allowed(url, method, origin):
        status, headers, _ = ask(url, method, PREDICT, body_of(tiny.images[0]), {**KEY, "Origin": origin})
        return status, headers.get("Access-Control-Allow-Origin")

    assert allowed(guarded.url, "POST", "https://example.org") == (200, "https://example.org")
    assert allowed(guarded.url, "POST", "https://example.com") == (200, None)
    assert allowed(guarded.url, "OPTIONS", "https://example.org") == (200, "https://example.org")
    assert allowed(guarded.url, "OPTIONS", "null") == (400, None)
    assert allowed(tiny_server.url, "POST", "https://example.org") == (200, None)


def test_an_address_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as caught:
            bind("127.0.0.1", port)
    assert str(caught.value) == (f"--host 127.0.0.1 --port {port}: cannot be served on: Address already in use; choose "
                                 "another address or port, or 0 for a free one")
    with pytest.raises(UserError, match="--host nowhere.invalid --port 1: cannot be served on"):
        bind("nowhere.invalid", 1)


def test_the_url_of_an_address():
    with bind("127.0.0.1", 0) as bound:
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


# ---- what a server tells of itself

def test_health_and_facts(tiny_server):
    assert ask(tiny_server.url, "GET", "/healthz")[::2] == (200, {"status": "alive"})
    assert ask(tiny_server.url, "GET", "/readyz")[::2] == (200, {"status": "ready"})
    status, _, facts = ask(tiny_server.url, "GET", "/aocr.json")
    assert status == 200 and (facts["name"], facts["version"]) == ("aocr", "1")
    assert "serving_default" in facts["signatures"]
    assert (facts["max_pixels"], facts["max_body_bytes"]) == (50_000_000, 33_554_432)


def test_metrics(tiny, tiny_server):
    def count(name):
        lines = ask(tiny_server.url, "GET", "/metrics")[2].splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def counts():
        return [count(name) for name in (
            'aocr_requests_total{code="200",method="predict"}', 'aocr_requests_total{code="400",method="predict"}',
            "aocr_batch_images_sum", "aocr_request_seconds_count")]

    before = counts()
    assert read(tiny_server.url, *tiny.images[:3])[0] == 200
    assert read(tiny_server.url, b"no image")[0] == 400
    after = counts()
    assert [new - old for new, old in zip(after, before)][:3] == [1, 1, 3]
    assert after[3] > before[3]
    assert count("aocr_model_version ") == 1 and count("aocr_images_in_progress ") == 0


def test_the_page(tiny_server):
    status, headers, text = ask(tiny_server.url, "GET", "/")
    if status == 404:
        assert "no page" in text["error"]
    else:
        assert status == 200 and headers["Content-Type"].startswith("text/html") and "<html" in text
    assert ask(tiny_server.url, "GET", "/nothing")[0] == 404
