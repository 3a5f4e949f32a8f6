"""How the processes of a cluster find each other: servers, and a board for the chief's notices.

Parameter servers hold the weights; a chief and workers train them: see `replica`, `worker`, and `evaluator`.
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

# Raised if a parameter server is unreachable, was restarted, or holds no weights yet.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.FailedPreconditionError)
RETRY = 1.0  # seconds between attempts to reach a server or a chief
NOT_READY, ENDED = 0, -1  # special tokens; others number the starts of a chief


def join(task: Task, session_config: tf.ConfigProto) -> tuple[tf.train.Server, tf.ConfigProto]:
    """Starts this process's server. Returns (server, session_config for its sessions). UserError if it cannot start."""
    config = tf.ConfigProto()
    config.CopyFrom(session_config)
    # A replica must not wait for other replicas, which may come and go.
    config.device_filters.extend(["/job:ps", task.device])
    try:
        server = tf.train.Server(task.cluster, task.job, task.index, config=config)
    except tf.errors.OpError as error:
        raise UserError(f"{task.name}: cannot serve on {task.cluster[task.job][task.index]}: {cause(error)}; free "
                        "this address or change TF_CONFIG") from None
    return server, config


def serve(task: Task) -> NoReturn:
    """Holds weights until the process is killed. UserError as `join`."""
    end_at_once()
    join(task, tf.ConfigProto(device_count={"GPU": 0}))
    log.info("%s: serving on %s until killed", task.name, task.cluster[task.job][task.index])
    while True:
        signal.pause()


def end_at_once() -> None:
    """Makes signals end this process even during a step: it has nothing to save."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@dataclasses.dataclass(frozen=True)
class Notice:
    """The chief's description of a run for the workers."""

    description: str  # of the model, as in its description file
    first_step: int  # the global step at which the run began
    steps: int  # total of the run


class Board:
    """Variables on the first parameter server that pass notices from the chief to the workers."""

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
        self.session = tf.Session(self._target, graph=self._graph, config=self._session_config)

    def write(self, token: int, notice: Notice) -> None:
        """Writes a token and a notice. Raises one of LOST if the server is lost."""
        self._run(self._write, dict(zip(self._given, (token, json.dumps(dataclasses.asdict(notice))))))

    def read(self) -> tuple[int, Notice | None]:
        """Returns (token, notice). Token: number of the chief's start, NOT_READY (without a notice) or ENDED."""
        try:
            token, notice = self._run(self._values)
        except LOST:
            return NOT_READY, None
        return int(token), Notice(**json.loads(notice)) if token != NOT_READY else None

    def _run(self, *arguments):
        try:
            return self.session.run(*arguments)
        except LOST:
            self._connect()
            raise


def wait_for_servers(task: Task, check: Callable[[], None] | None = None) -> None:
    """Waits until all parameter servers answer. `check`: called meanwhile, may raise."""
    logged = False
    for address in task.servers:
        host, _, port = address.rpartition(":")
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=RETRY).close()
                break
            except OSError:
                if not logged:
                    log.info("%s: waiting for the parameter server %s", task.name, address)
                logged = True
                if check:
                    check()
                time.sleep(RETRY)


def wait_for_chief(task: Task, board: Board) -> tuple[int, Notice]:
    """Waits until the servers hold weights or the run has ended; returns (token, notice)."""
    logged = False
    while True:
        token, notice = board.read()
        if token != NOT_READY and notice:
            return token, notice
        if not logged:
            log.info("%s: waiting for the chief", task.name)
        logged = True
        time.sleep(RETRY)
