"""The worker of a cluster: it follows the chief and writes no files."""

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING

from aocr.checkpoint import Description
from aocr.config import ParallelConfig, TrainConfig
from aocr.data import fit
from aocr.errors import UserError
from aocr.job import Task
from aocr.training.cluster.board import ENDED, Board, end_at_once, join, wait_for_chief, wait_for_servers
from aocr.training.cluster.replica import Ended, open_worker
from aocr.training.prepare import graph_maker, look_at_data, settled
from aocr.training.schedule import scheduled_rate
from aocr.training.watch import TrainingWatch

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

log = logging.getLogger(__name__)


def work(dataset: str, config: TrainConfig, session_config: "tf.ConfigProto", parallel: ParallelConfig,
         task: Task) -> int:
    """Takes part in the chief's run until it ends. Model and position come from the chief.

    Returns: the exit code. UserError if the data do not fit, or the loss diverges.
    """
    end_at_once()
    server, session_config = join(task, session_config)
    wait_for_servers(task)
    board = Board(server.target, session_config)
    token, notice = wait_for_chief(task, board)
    if token == ENDED:
        log.info("%s: the run has ended", task.name)
        return 0
    description = Description.from_json(notice.description, "the chief's description")
    scan, _ = look_at_data(dataset, config, description.config.graphemes, description.config.max_pixels)
    fit.check_labels(scan, description.config, description.charset, "Use the same data in all processes")
    config = settled(config, scan, description.config)
    make = graph_maker(scan, description, config, task.shard)
    worker = open_worker(make, task, parallel, server, board, session_config, notice)
    watch = TrainingWatch(scan, description.charset, config.cache)
    watch.sampled = True  # only the chief estimates batch norm statistics
    with contextlib.suppress(Ended), watch.explaining():
        _train(worker, config, task.shard.size(scan.usable), task, watch)
    log.info("%s: the run has ended", task.name)
    return 0


def _train(worker, config, share, task, watch):
    """Trains until the run ends. `share`: number of records in this worker's shard. `watch`: TrainingWatch."""
    last = logged = worker.ready()
    losses, images, started = [], 0, time.monotonic()

    def rate():
        return scheduled_rate(config, last - worker.notice.first_step, worker.notice.steps)

    # About the position of a worker that has been there from the start.
    done = last if worker.sync else last // task.shard.count
    passes, batch = divmod(done, math.ceil(share / config.batch_size))
    for step in worker.train(config.seed + passes, None, batch, rate):
        if not math.isfinite(step.gradient_norm):
            raise UserError(f"{task.name}: the loss is {step.loss} and the gradient norm {step.gradient_norm} at step "
                            f"{step.step} (learning rate {step.learning_rate:g}); lower --initial-learning-rate")
        watch.look(step.epoch, seldom=True)
        last, images = step.step, images + len(step.numbers)
        losses.append(step.loss)
        if abs(last - logged) >= config.log_step:
            log.info("%s: step %d: loss %.4f, gradient norm %.2f, %.1f images/s", task.name, last,
                     sum(losses) / len(losses), step.gradient_norm, images / (time.monotonic() - started))
            logged, losses, images, started = last, [], 0, time.monotonic()
