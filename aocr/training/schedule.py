"""What comes when in a run: the learning rate of each step, and what is done every so many steps."""

import math

HELD = 1 / 3  # of a run, before the cosine schedule lowers the learning rate
PLATEAU = 3  # validations in a row without a better figure, after which the plateau schedule halves it


def scheduled_rate(config, done, steps):
    """The learning rate of a step.

    Args: config: TrainConfig. done: int, the steps of this run before it; below 0 the first one's rate, beyond the last
      its. steps: int, in all.
    Returns: float. After a linear warm-up, constant, or a third of the run constant and then half a cosine down to 0
      (Loshchilov and Hutter, arXiv 1608.03983, without restarts). What plateaus take off comes on top.
    """
    done = min(max(done, 0), steps)
    rate = config.initial_learning_rate * min(1.0, (done + 1) / (config.warm_up + 1))
    if config.schedule != "cosine":
        return rate
    falling = max(0.0, (done / steps - HELD) / (1.0 - HELD))
    return rate * 0.5 * (1.0 + math.cos(math.pi * falling))


def crossed(every, before, after):
    """Whether a multiple of `every` lies in (before, after], all of them int >= 0: whether what is done every so many
    steps is due when one step led from `before` to `after`.
    """
    return after // every > before // every
