"""A training process in a cluster: its steps, and its recovery from the loss of others."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aocr.config import ParallelConfig
from aocr.errors import UserError
from aocr.files import cause
from aocr.graph.placement import in_cluster, towers
from aocr.job import Task
from aocr.training.cluster.board import (
    ENDED,
    LOST,
    NOT_READY,
    RETRY,
    Board,
    Notice,
    join,
    wait_for_chief,
    wait_for_servers,
)
from aocr.training.graph import TrainingGraph, TrainStep
from aocr.training.signals import Signals

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

log = logging.getLogger(__name__)

POLL_SHARE, LONGEST_POLL = 0.02, 0.05  # between polls: in step times, in seconds


class Ended(Exception):
    """The chief has ended the run."""


class Replica:
    """Common base of chief and worker."""

    def __init__(self, graph: TrainingGraph, task: Task, board: Board, sync: bool):
        """`graph`: has its weights on the servers. `sync`: whether steps are shared."""
        self.graph, self._task, self._board, self.sync = graph, task, board, sync
        self.shard = task.shard
        self._token = NOT_READY
        self._step_began = time.monotonic()

    def train(self, first_epoch: int, epochs: int | None, first_batch: int,
              learning_rate: Callable) -> Iterator[TrainStep]:
        """Trains as TrainingGraph.train, until the run ends."""
        while True:
            try:
                self._begin()
                for step in self.graph.train(first_epoch, epochs, first_batch, learning_rate):
                    completed = self._complete(step)  # if the servers are lost here, the batch is repeated
                    first_epoch, first_batch = step.epoch, step.index + 1
                    yield completed
                    self._step_began = time.monotonic()
                return
            except LOST as error:
                self._lost(error)
            except Ended:
                return

    def ready(self) -> int:
        """Waits until the servers hold weights; returns their step."""
        while True:
            try:
                self._begin()
                return self.graph.step()
            except LOST as error:
                self._lost(error)

    def _begin(self):
        """Waits until the servers hold the run's weights."""
        raise NotImplementedError

    def _complete(self, step):
        """Finishes a TrainStep, so that the next one may begin; returns it with its final values."""
        raise NotImplementedError

    def _check_signals(self):
        """Called while waiting; may raise."""

    def _connect(self):
        wait_for_servers(self._task, self._check_signals)
        self.graph.model.connect()

    def _lost(self, error):
        log.warning("%s: lost the parameter servers (%s); resuming when they are back", self._task.name,
                    type(error).__name__)
        time.sleep(RETRY)

    def _poll(self):
        """Sleeps for a small part of a step's time."""
        time.sleep(min(LONGEST_POLL, POLL_SHARE * (time.monotonic() - self._step_began)))


class Chief(Replica):
    """The replica that also loads the weights into the servers, and fetches them to be saved."""

    _notice: Notice  # both set by `prepare`
    _signals: Signals

    def __init__(self, graph: TrainingGraph, task: Task, board: Board, sync: bool, own: TrainingGraph):
        """`own`: this process's local graph, which a run starts from and which is saved."""
        super().__init__(graph, task, board, sync)
        self._own = own

    def prepare(self, description: str, first_step: int, steps: int, signals: Signals) -> None:
        """Must be called first. `description`: of the model, JSON. `first_step`, `steps`: first step and number of
        steps of the run. `signals`: those that may end it.
        """
        self._notice, self._signals = Notice(description, first_step, steps), signals

    def take(self) -> int:
        """Copies all variables from the servers to the local graph; returns their step."""
        while True:
            try:
                self._own.model.load(self.graph.model.values())
                return self._own.step()
            except LOST as error:
                self._lost(error)
                self.ready()

    def end(self, finished: bool) -> None:
        """Makes the workers end if the run is finished, else wait for another chief."""
        if self._token == NOT_READY:  # training has not started
            if not finished:
                return
            wait_for_servers(self._task, self._check_signals)
        try:
            self._board.write(ENDED if finished else NOT_READY, self._notice)
        except LOST as error:
            log.warning("cannot notify the workers of the end of the run: %s", cause(error))

    def _begin(self):
        self._connect()
        self._board.write(NOT_READY, self._notice)
        self.graph.model.load(self._own.model.values())
        if self.sync:
            self.graph.session.run(self.graph.train_ops.start_accumulating)
        self._token = time.time_ns()
        self._board.write(self._token, self._notice)
        log.info("the parameter servers hold the weights of step %d", self._own.step())

    def _check_signals(self):
        if self._signals.received:
            # Closing a session waits for the servers; a daemon thread lets the process end without them.
            for session in (self.graph.session, self._board.session):
                threading.Thread(target=session.close, daemon=True).start()
            raise UserError(f"interrupted while waiting for the parameter servers; the run is saved up to step "
                            f"{self._own.step()}", exit_code=self._signals.exit_code)

    def _complete(self, step):
        if not self.sync:
            return step
        count, run = self._task.shard.count, self.graph.session.run
        while run(self.graph.train_ops.accumulator.brought) < count:
            if self._signals.received:
                return step  # of the last update
            self._poll()
        norm, after = self.graph.update(step.learning_rate)
        return step._replace(gradient_norm=norm, step=after)


class Worker(Replica):
    """A replica that joins the chief's run."""

    def __init__(self, graph: TrainingGraph, task: Task, board: Board, sync: bool, notice: Notice):
        """`notice`: the one that the graph was built from."""
        super().__init__(graph, task, board, sync)
        self.notice = notice

    def _begin(self):
        self._connect()
        self._follow(*wait_for_chief(self._task, self._board))

    def _follow(self, token, notice):
        if token == ENDED:
            raise Ended
        if notice.description != self.notice.description:
            raise UserError("the chief now trains another model; restart this worker")
        self._token, self.notice = token, notice

    def _complete(self, step):
        end = self.notice.first_step + self.notice.steps
        now = self.graph.step() if self.sync else step.step
        while True:
            token, notice = self._board.read()
            if token == NOT_READY:
                token, notice = wait_for_chief(self._task, self._board)
            if token != self._token:
                self._follow(token, notice)
                break
            if now < end and (now != step.step or not self.sync):
                break
            self._poll()
            now = self.graph.step()
        return step._replace(step=now)


def open_chief(make: Callable[..., TrainingGraph], task: Task, parallel: ParallelConfig,
               session_config: "tf.ConfigProto", own: TrainingGraph) -> Chief:
    """Returns the chief of a cluster.

    Args: make: from `prepare.graph_maker`. own: as in Chief.
    """
    server, config = join(task, session_config)
    return Chief(_shared_graph(make, task, parallel, server, config), task, Board(server.target, config),
                 parallel.sync, own)


def open_worker(make: Callable[..., TrainingGraph], task: Task, parallel: ParallelConfig, server: "tf.train.Server",
                board: Board, config: "tf.ConfigProto", notice: Notice) -> Worker:
    """Returns a worker: as `open_chief`, with `server` and `config` from `join`, and the notice to follow."""
    return Worker(_shared_graph(make, task, parallel, server, config), task, board, parallel.sync, notice)


def _shared_graph(make, task, parallel, server, config):
    """Returns the TrainingGraph with its weights on the parameter servers."""
    return make(session_config=config, placement=in_cluster(
        server.target, len(task.servers), task.device, towers(parallel.gpus), parallel.sync))
