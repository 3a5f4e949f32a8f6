"""Runs of several processes: parameter servers keep the weights, a chief and workers train them. How they find each
other is here, what they do in `replica`, `worker` and `evaluator`.
"""

import dataclasses
import json
import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import NoReturn

import tensorflow.compat.v1 as tf

from aocr.errors import UserError
from aocr.files import cause
from aocr.job import Task

log = logging.getLogger(__name__)

# What is raised where a parameter server is gone, is another process than before, or holds no weights yet.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.FailedPreconditionError)
RETRY = 1.0  # seconds between two looks at a server that does not answer, and at a chief that is not there
NOT_READY, ENDED = 0, -1  # tokens that are no start of a chief


def join(task: Task, session_config: tf.ConfigProto) -> tuple[tf.train.Server, tf.ConfigProto]:
    """Starts this process's server: (server, session_config for sessions in it). UserError if it cannot be."""
    config = tf.ConfigProto()
    config.CopyFrom(session_config)
    # Whoever trains must not wait for others that train, which may come and go.
    config.device_filters.extend(["/job:ps", task.device])
    try:
        server = tf.train.Server(task.cluster, task.job, task.index, config=config)
    except tf.errors.OpError as error:
        raise UserError(f"{task.name}: cannot serve on {task.cluster[task.job][task.index]}: {cause(error)}; is "
                        "another process there?") from None
    return server, config


def serve(task: Task) -> NoReturn:
    """Keeps weights until the process is ended. UserError as `join`."""
    end_at_once()
    join(task, tf.ConfigProto(device_count={"GPU": 0}))
    log.info("%s serves on %s until it is ended", task.name, task.cluster[task.job][task.index])
    while True:
        signal.pause()


def end_at_once() -> None:
    """Signals end this process, even in the midst of a step: it has nothing to save."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@dataclasses.dataclass(frozen=True)
class Notice:
    """What the workers must know of a run."""

    description: str  # of the model, as in its description file
    first_step: int  # the global step that the run began at
    steps: int  # of the run in all


class Board:
    """Where the chief tells the workers of the run: on the first parameter server."""

    def __init__(self, target: str, session_config: tf.ConfigProto):
        self._target, self._session_config = target, session_config
        with tf.Graph().as_default() as self._graph, tf.device("/job:ps/task:0"), tf.variable_scope("board"):
            self._token = tf.get_variable("token", [], tf.int64, tf.zeros_initializer(), use_resource=True)
            self._notice = tf.get_variable("notice", [], tf.string, tf.constant_initializer(""), use_resource=True)
            self._given = tf.placeholder(tf.int64), tf.placeholder(tf.string)
            self._write = self._token.assign(self._given[0]).op, self._notice.assign(self._given[1]).op
            self._values = self._token.read_value(), self._notice.read_value()
        self._connect()

    def _connect(self):
        self._session = tf.Session(self._target, graph=self._graph, config=self._session_config)

    def write(self, token: int, notice: Notice) -> None:
        """Raises one of LOST if the server is gone."""
        self._run(self._write, dict(zip(self._given, (token, json.dumps(dataclasses.asdict(notice))))))

    def read(self) -> tuple[int, Notice | None]:
        """(token, notice): the token is the number of the chief's start, NOT_READY (without a notice) or ENDED."""
        try:
            token, notice = self._run(self._values)
        except LOST:
            return NOT_READY, None
        return int(token), Notice(**json.loads(notice)) if token != NOT_READY else None

    def _run(self, *what):
        try:
            return self._session.run(*what)
        except LOST:
            self._connect()
            raise


def wait_for_servers(task: Task, check: Callable[[], None] | None = None) -> None:
    """Returns when all parameter servers answer. `check`: called meanwhile, may raise."""
    told = False
    for address in task.servers:
        host, _, port = address.rpartition(":")
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=RETRY).close()
                break
            except OSError:
                if not told:
                    log.info("%s: waiting for the parameter server %s", task.name, address)
                told = True
                if check:
                    check()
                time.sleep(RETRY)


def wait_for_chief(task: Task, board: Board) -> tuple[int, Notice]:
    """(token, notice) when the servers hold weights, or the run has ended."""
    told = False
    while True:
        token, notice = board.read()
        if token != NOT_READY and notice:
            return token, notice
        if not told:
            log.info("%s: waiting for the chief", task.name)
        told = True
        time.sleep(RETRY)
