"""What comes when in a run: the learning rate of each step, and what is done every so many steps."""

import math
import time

from aocr.config import TrainConfig

HELD = 1 / 3  # of a run, before the cosine schedule lowers the learning rate
PLATEAU = 3  # validations in a row without a better figure, after which the plateau schedule halves it


class Clock:
    """The time that a run has taken, over all of its processes. A process's clock begins when it is made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.before = 0.0  # minutes that earlier processes of the run took

    @property
    def minutes(self) -> float:
        """Minutes that the run has taken."""
        return self.before + (time.monotonic() - self._began) / 60.0


def scheduled_rate(config: TrainConfig, done: int, steps: int, by_clock: float = 0.0) -> float:
    """The learning rate of a step.

    Args: done: the steps of this run before it; below 0 the first one's rate, beyond the last its. steps: in all.
      by_clock: share of the run's time that is over.
    Returns: after a linear warm-up, constant, or a third of the run constant and then half a cosine down to 0
      (Loshchilov and Hutter, arXiv 1608.03983, without restarts), over the steps or the time, whichever ends first.
      What plateaus take off comes on top.
    """
    done = min(max(done, 0), steps)
    rate = config.initial_learning_rate * min(1.0, (done + 1) / (config.warm_up + 1))
    if not config.falling:
        return rate
    falling = max(0.0, (min(1.0, max(done / steps, by_clock)) - HELD) / (1.0 - HELD))
    return rate * 0.5 * (1.0 + math.cos(math.pi * falling))


def crossed(every: int, before: int, after: int) -> bool:
    """Whether a multiple of `every` lies in (before, after], all of them >= 0: whether what is done every so many steps
    is due when one step led from `before` to `after`.
    """
    return after // every > before // every
