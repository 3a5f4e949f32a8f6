"""Clusters on this machine: the processes train together, and recover when one of them is killed."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import tensorflow.compat.v1 as tf

from aocr.cli import main

SMALL = ["--attn-num-hidden", "8", "--batch-size", "2", "--log-path", "", "--log-step", "1", "--steps-per-checkpoint",
         "10"]
QUICK = ["--ctc-weight", "0", "--guided-attention", "0"]  # a smaller graph, which is built sooner
PATIENCE = 240  # timeout in seconds; a process starts in about 10, much later on a busy machine


class Process:
    """An `aocr` process, with a thread that reads its log."""

    def __init__(self, *argv, **environment):
        self.lines, self.seen = queue.Queue(), []
        self._process = subprocess.Popen([sys.executable, "-m", "aocr", *argv], stderr=subprocess.PIPE, text=True,
                                         stdout=subprocess.DEVNULL, env={**os.environ, **environment})
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self):
        return self._process.pid

    def _read(self):
        with self._process.stderr as log:
            for line in log:
                self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, pattern):
        """Waits for a line that matches the pattern. Returns the first group, or the line if there are no groups."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"{pattern!r} did not come after {''.join(self.seen[-20:])}"
            self.seen.append(line)
            found = re.search(pattern, line)
            if found:
                return found.group(1) if found.groups() else line

    def end(self, number=None):
        """Sends a signal, if given, and waits for the end. Returns the exit code."""
        if number:
            self._process.send_signal(number)
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()


@pytest.fixture
def start():
    """Returns a function that starts a Process, which is killed after the test."""
    started = []

    def start(*argv, **environment):
        started.append(Process(*argv, **environment))
        return started[-1]

    yield start
    for process in started:
        process.end(signal.SIGKILL)


def free_ports(count):
    """Returns unused ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def last_step(model_dir):
    """Returns the step of the newest checkpoint."""
    return int(tf.train.latest_checkpoint(str(model_dir)).rpartition("-")[2])


def test_whoever_is_killed_comes_back(dataset, tmp_path, words, start, capsys):
    ports = iter(free_ports(3))
    cluster = {job: [f"127.0.0.1:{next(ports)}"] for job in ("chief", "worker", "ps")}
    model_dir = tmp_path / "model"

    def begin(job, steps=100_000):
        return start("train", dataset, "--model-dir", str(model_dir), *SMALL, *QUICK, "--max-steps", str(steps),
                     TF_CONFIG=json.dumps(dict(cluster=cluster, task=dict(type=job, index=0))))

    ps, chief, worker = begin("ps"), begin("chief"), begin("worker")
    worker.wait_for(r"worker 0: step \d+")
    chief.wait_for("checkpoint ")

    assert worker.end(signal.SIGKILL) == -signal.SIGKILL
    before = int(chief.wait_for(r"step (\d+)"))
    worker = begin("worker")
    assert int(worker.wait_for(r"worker 0: step (\d+)")) > before

    assert ps.end(signal.SIGKILL) == -signal.SIGKILL
    chief.wait_for("chief 0: lost the parameter servers")
    worker.wait_for("worker 0: lost the parameter servers")
    saved = last_step(model_dir)
    ps = begin("ps")
    assert int(chief.wait_for(r"the parameter servers hold the weights of step (\d+)")) == saved
    assert int(worker.wait_for(r"worker 0: step (\d+)")) > saved
    assert int(chief.wait_for(r"step (\d+): loss")) > saved

    assert chief.end(signal.SIGKILL) == -signal.SIGKILL
    saved = last_step(model_dir)
    chief = begin("chief", saved + 30)
    assert int(chief.wait_for(r"the parameter servers hold the weights of step (\d+)")) == saved
    assert (chief.end(), worker.end()) == (0, 0)
    assert saved + 30 <= last_step(model_dir) <= saved + 32
    assert ps.end(signal.SIGTERM) == -signal.SIGTERM

    flags = ["--model-dir", str(model_dir), "--log-path", ""]
    assert main(["test", dataset, *flags]) == 0
    assert main(["predict", *flags, *words.images]) == 0
    assert "samples: 5" in capsys.readouterr().out
    assert main(["train", dataset, *flags, "--batch-size", "2", "--max-steps", "1"]) == 0  # in a single process


def test_a_local_cluster_in_step_with_an_evaluator(dataset, tmp_path, start):
    launcher = start("train", dataset, "--model-dir", str(tmp_path / "model"), *SMALL, "--max-steps", "20",
                     "--validation", dataset, "--sync", "--local-cluster", "ps=2,worker=1,evaluator=1",
                     AIP_TENSORBOARD_LOG_DIR=str(tmp_path / "logs"), AIP_MODEL_DIR=str(tmp_path / "exported"))
    assert launcher.end() == 0
    log = "".join(line for line in iter(launcher.lines.get, None))
    assert "[worker 0]" in log and "Traceback" not in log and " error: " not in log
    assert "[chief 0]" in log and "validation: " not in "".join(re.findall(r"\[chief 0\].*\n", log))
    assert last_step(tmp_path / "model") == 20
    # Both processes share every step, so the chief logs all of them.
    assert [int(step) for step in re.findall(r"\[chief 0\].* step (\d+): loss", log)] == list(range(1, 21))
    history = (tmp_path / "logs" / "evaluator" / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in history]
    assert [(entry["kind"], entry["step"]) for entry in history] == [("validation", 10), ("validation", 20)]
    best = min(history, key=lambda entry: (entry["cer"], entry["loss"]))["step"]
    assert last_step(tmp_path / "model" / "best") == best
    assert (tmp_path / "exported" / "saved_model.pb").exists()


def test_a_signal_to_the_launcher_saves(dataset, tmp_path, start):
    launcher = start("train", dataset, "--model-dir", str(tmp_path), *SMALL, *QUICK, "--local-cluster",
                     "ps=1,worker=0")
    step = int(launcher.wait_for(r"\[chief 0\] .* step (\d+): loss"))
    assert launcher.end(signal.SIGTERM) == 143
    assert last_step(tmp_path) >= step
    assert "SIGTERM: saving after this step" in "".join(iter(launcher.lines.get, None))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are found in /proc")
def test_a_parameter_server_that_dies_ends_the_local_cluster(dataset, tmp_path, start):
    launcher = start("train", dataset, "--model-dir", str(tmp_path), *SMALL, *QUICK, "--local-cluster",
                     "ps=1,worker=0")
    launcher.wait_for(r"\[chief 0\] .* checkpoint ")
    servers = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and serves(pid, launcher.pid)]
    assert len(servers) == 1
    os.kill(servers[0], signal.SIGKILL)
    launcher.wait_for("ps 0 exited with code -9 before the chief")
    assert launcher.end() == 143
    assert last_step(tmp_path) >= 10


def serves(pid, parent):
    """Returns whether a process is a parameter server that another one started."""
    try:
        with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/environ") as environ:
            return stat.read().rpartition(")")[2].split()[1] == str(parent) and '"type": "ps"' in environ.read()
    except OSError:
        return False
