"""One training at a time in a model directory."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from helpers import train

from aocr.errors import UserError
from aocr.training.lock import NAME, Lock

HOLD = """
import sys, time
from aocr.training.lock import Lock
lock = Lock(sys.argv[1])
lock.take()
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_second_training_is_refused_and_one_after_a_kill_is_not(holder, tmp_path, dataset, capsys):
    assert train(dataset, tmp_path, "--no-resume", "--max-steps", "1") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"aocr: error: {tmp_path}: is being trained by process {holder.pid} on "
                            f"{socket.gethostname()} since 2")
    assert error.endswith("; wait for it to end, stop it, or name another --model-dir")
    assert os.listdir(tmp_path) == [NAME]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / NAME).read_text())["pid"] == holder.pid  # it is left there
    with Lock(str(tmp_path)) as lock:
        assert lock.take() and not lock.take()
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
        with Lock(str(tmp_path)) as another, pytest.raises(UserError, match=f"by process {os.getpid()} on"):
            another.take()
    assert not os.listdir(tmp_path)


def test_a_training_holds_the_lock_to_its_end(tmp_path, dataset, monkeypatch):
    from aocr.training import run

    def taken(*_):
        with Lock(str(tmp_path)) as lock, pytest.raises(UserError, match="is being trained by"):
            lock.take()
        raise UserError("tried")

    monkeypatch.setattr(run, "prepare_run", taken)
    assert train(dataset, tmp_path) == 1
    assert not os.listdir(tmp_path)


def test_a_file_that_is_no_lock_is_left_alone(tmp_path):
    (tmp_path / NAME).write_text("mine")
    with Lock(str(tmp_path)) as lock, pytest.raises(UserError, match="training.lock: is not a lock of aocr; move it"):
        lock.take()
    assert (tmp_path / NAME).read_text() == "mine"


def test_remote_and_missing_directories_have_no_lock(tmp_path):
    for directory in ("gs://bucket/model", str(tmp_path / "none")):
        with Lock(directory) as lock:
            assert not lock.take()
