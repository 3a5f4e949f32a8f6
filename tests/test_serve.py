"""`aocr serve` as a process: its URL, its end, its errors."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import ask

PREDICT = "/v1/models/words:predict"


@pytest.fixture
def serve(tmp_path):
    """Starts `aocr serve` with these arguments on a free port; returns the process and its URL."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "aocr", "serve", *arguments, "--port", "0", "--log-path", str(tmp_path / "log")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_sigterm_loses_no_request(tiny, serve, tmp_path):
    """A long request is in progress, and others come, when the signal arrives."""
    process, url = serve(tiny.export, "--name", "words", "--max-batch", "1", "--max-queue", "3000",
                         "--drain-seconds", "0.5")
    assert url.startswith("http://127.0.0.1:")
    image = {"b64": base64.b64encode(tiny.images[4]).decode()}
    answers = []

    def send(count):
        answers.append((count, ask(url, "POST", PREDICT, json.dumps({"instances": [image] * count}))))

    slow = threading.Thread(target=send, args=(400,))
    slow.start()
    while "aocr_images_in_progress 400.0" not in ask(url, "GET", "/metrics")[2]:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    while (status := ask(url, "GET", "/readyz")[0]) == 200:
        time.sleep(0.01)
    assert status == 503
    assert ask(url, "GET", "/healthz")[0] == 200
    send(1)
    slow.join()
    assert process.wait(30) == 143
    assert {count: status for count, (status, _, _) in answers} == {1: 200, 400: 200}
    assert {count: len(answer["predictions"]) for count, (_, _, answer) in answers} == {1: 1, 400: 400}
    assert process.stdout.read() == ""
    log = (tmp_path / "log").read_text()
    assert "draining" in log and log.splitlines()[-1].endswith("terminated") and "Traceback" not in log


def test_a_second_signal_ends_at_once(tiny, serve):
    process, url = serve(tiny.export, "--drain-seconds", "60")
    process.send_signal(signal.SIGINT)
    while ask(url, "GET", "/readyz")[0] == 200:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def run(*arguments, code="from aocr.__main__ import main; sys.exit(main())"):
    """Runs `aocr serve`; returns its exit code and the lines on stderr."""
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}", "serve", *arguments, "--log-path", ""],
                          capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_packages_that_are_missing():
    code, lines = run("x", code="sys.modules['uvicorn'] = None; from aocr.__main__ import main; sys.exit(main())")
    assert code == 1
    assert lines == ["aocr: error: aocr serve needs packages that are not installed (uvicorn); run `pip install "
                     "'aocr[serve]'`"]


@pytest.mark.parametrize("arguments, message", [
    (["--name", "a/b"], "--name is 'a/b'; it is part of URLs, so it must not be empty or hold / or :"),
    (["--port", "70000"], "--port is 70000; the maximum is 65535")])
def test_options_that_cannot_be(arguments, message):
    assert run("x", *arguments) == (2, [f"aocr: error: {message}"])
