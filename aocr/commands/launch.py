"""Runs a cluster on this machine: its processes start together and stop with the chief."""

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable

from aocr import job
from aocr.config import CommonConfig, ParallelConfig
from aocr.ending import Watch
from aocr.errors import usage_error

log = logging.getLogger(__name__)

FLAG = "--local-cluster"
LAST_WORDS = 15.0  # seconds that workers have to exit after the chief, and any process after SIGTERM
EVALUATION = 600.0  # seconds that an evaluator has to validate the last checkpoints after the chief exits
POLL = 0.1
MOST_PROCESSES = 64  # of a job


def sizes_of(text: str) -> dict[str, int]:
    """Returns the number of processes per job from text such as ps=1,worker=2. UserError if it is invalid."""
    sizes = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name not in (job.PARAMETER_SERVER, job.WORKER, job.EVALUATOR) or not number.isdecimal() or name in sizes:
            raise usage_error(f"{FLAG} is {text!r}; use something like ps=1,worker=2 (and evaluator=1); the chief "
                              "is implied")
        if len(number) > 4 or int(number) > MOST_PROCESSES:
            raise usage_error(f"{FLAG} is {text!r}; the maximum is {MOST_PROCESSES} processes of a kind")
        sizes[name] = int(number)
    if not sizes.get(job.PARAMETER_SERVER):
        raise usage_error(f"{FLAG} is {text!r}, without a ps to hold the weights; add ps=1")
    if sizes.get(job.EVALUATOR, 0) > 1:
        raise usage_error(f"{FLAG} has {sizes[job.EVALUATOR]} evaluators; the maximum is 1")
    return sizes


def launch(parallel: ParallelConfig, args: argparse.Namespace) -> int:
    """Runs this command as a cluster of processes on this machine.

    Args: args: the parsed command line; its `argv`: the original arguments.
    Returns: the chief's exit code. UserError if the options allow no cluster.
    """
    sizes = sizes_of(parallel.local_cluster)
    if job.setting(job.CLUSTER):
        raise usage_error(f"{FLAG} starts a cluster, but {job.CLUSTER} makes this process part of one; remove one of "
                          "them")
    if parallel.evaluator and not sizes.get(job.EVALUATOR):
        raise usage_error(f"--evaluator with {FLAG} {parallel.local_cluster}: no process validates; add evaluator=1")
    argv = [*arguments(args.argv), *(["--evaluator"] if sizes.get(job.EVALUATOR) else [])]
    return _Cluster(sizes, argv, getattr(args, "log_path", CommonConfig.log_path), parallel.sync).run()


def arguments(argv: Iterable[str]) -> list[str]:
    """Returns a command line without the launcher's own flag."""
    kept, skip = [], False
    for argument in argv:
        if not skip and argument != FLAG and not argument.startswith(f"{FLAG}="):
            kept.append(argument)
        skip = argument == FLAG
    return kept


class _Cluster:
    """The processes of a cluster."""

    def __init__(self, sizes, argv, log_path, sync):
        self._signal, self._needed = None, (job.PARAMETER_SERVER, *([job.WORKER] if sync else []))
        names = [(job.CHIEFS[0], 0), *((name, k) for name in (job.PARAMETER_SERVER, job.WORKER)
                                       for k in range(sizes.get(name, 0)))]
        cluster = {}
        for (name, _), port in zip(names, _free_ports(len(names))):
            cluster.setdefault(name, []).append(f"127.0.0.1:{port}")
        if sizes.get(job.EVALUATOR):
            names.append((job.EVALUATOR, 0))
        self._processes = {name: _start(cluster, name, argv, log_path) for name in names}
        self._chief = self._processes[names[0]]

    def run(self):
        """Waits for the chief, then stops the others. Returns the chief's exit code."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with Watch():  # a second signal kills all processes
                self._follow()
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)
        code = self._chief.returncode
        return code if code >= 0 else 128 - code

    def _follow(self):
        """Waits for the chief, and after it for those that have work left."""
        gone = set()
        while self._chief.poll() is None:
            time.sleep(POLL)
            self._look_after(gone)
        if self._chief.returncode == 0:
            self._wait(job.EVALUATOR, EVALUATION)
            self._wait(job.WORKER, LAST_WORDS)

    def _note(self, number, _):
        """Forwards a signal to the chief, which saves; a second signal kills all processes."""
        if self._signal:
            for process in self._processes.values():
                process.kill()
        self._signal = number
        self._chief.send_signal(number)

    def _look_after(self, gone):
        """Logs, once each, processes that fail before the chief. `gone`: the exited ones handled so far."""
        for (name, k), process in self._processes.items():
            if process is not self._chief and process.poll() is not None and (name, k) not in gone:
                gone.add((name, k))
                if not process.returncode:
                    continue
                log.error("%s %d exited with code %d before the chief", name, k, process.returncode)
                if name in self._needed:
                    log.error("the run cannot continue without it; the chief saves and stops")
                    self._chief.send_signal(signal.SIGTERM)

    def _wait(self, name, seconds):
        """Waits at most this long for the processes of a job."""
        end = time.monotonic() + seconds
        for (kind, k), process in self._processes.items():
            while kind == name and process.poll() is None and time.monotonic() < end and not self._signal:
                time.sleep(POLL)
            if kind == name and process.poll() is None and not self._signal:
                log.warning("%s %d is still running %.0f s after the chief; stopping it", name, k, seconds)

    def _end(self):
        """Stops the processes that still run."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(LAST_WORDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.relay.join()


def _free_ports(count):
    """Returns unused ports of the loopback interface."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start(cluster, task, argv, log_path):
    """Starts the process of a task (job name, index). A thread relays its stderr, each line prefixed with the task."""
    name, k = task
    stem, extension = os.path.splitext(log_path)
    own_log = f"{stem}-{name}-{k}{extension}" if log_path else ""
    tf_config = json.dumps({"cluster": cluster, "task": {"type": name, "index": k}})
    process = subprocess.Popen(
        [sys.executable, "-m", "aocr", *argv, "--log-path", own_log], env={**os.environ, job.CLUSTER: tf_config},
        stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True)  # so that Ctrl-C in a terminal reaches the launcher alone
    process.relay = threading.Thread(target=_relay, args=(process.stderr, f"{name} {k}"), daemon=True)
    process.relay.start()
    return process


def _relay(lines, name):
    with lines:
        for line in lines:
            sys.stderr.write(f"[{name}] {line}")
            sys.stderr.flush()
