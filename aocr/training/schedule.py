"""The timing of a run: its clock, learning rate schedule, and periodic work."""

import math
import time

from aocr.config import TrainConfig

HELD = 1 / 3  # share of a run before the cosine schedule lowers the learning rate


class Clock:
    """The time that a run has taken, summed over its resumed processes. It starts when it is constructed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.before = 0.0  # minutes that earlier processes of the run took

    @property
    def minutes(self) -> float:
        """Minutes that the run has taken."""
        return self.before + (time.monotonic() - self._began) / 60.0


def scheduled_rate(config: TrainConfig, done: int, steps: int, by_clock: float = 0.0) -> float:
    """Returns the learning rate of a step, before plateaus and rollbacks lower it.

    A linear warm-up, then constant; or, if it falls, constant for a third of the run and then half a cosine down to 0
    (Loshchilov and Hutter, arXiv 1608.03983, without restarts), over the steps or the time, whichever ends first.

    Args: done: steps of this run before it, clipped to [0, steps]. steps: of the run.
      by_clock: elapsed share of the run's time.
    """
    done = min(max(done, 0), steps)
    rate = config.initial_learning_rate * min(1.0, (done + 1) / (config.warm_up + 1))
    if not config.falling:
        return rate
    falling = max(0.0, (min(1.0, max(done / steps, by_clock)) - HELD) / (1.0 - HELD))
    return rate * 0.5 * (1.0 + math.cos(math.pi * falling))


def crossed(every: int, before: int, after: int) -> bool:
    """Returns whether a multiple of `every` lies in (before, after], all >= 0: whether periodic work is due after a
    step from global step `before` to `after`.
    """
    return after // every > before // every
