"""The training run: from a dataset to checkpoints in a model directory."""

import collections
import contextlib
import functools
import logging
import math
import posixpath
import signal
import time

import tensorflow.compat.v1 as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from aocr import checkpoint, legacy
from aocr.augmentation import find_recipe
from aocr.checkpoint import Description
from aocr.config import IMAGE_HEIGHT
from aocr.data import fit, pipeline, scanning
from aocr.errors import UserError
from aocr.files import cause, make_directory
from aocr.model import Model

log = logging.getLogger(__name__)

# Images that batch norm statistics are estimated from before each checkpoint, at the least, or all there are.
STATISTICS_IMAGES = 512
HURRIED_IMAGES = 130  # the same when a signal asked the run to end
HELD = 1 / 3  # of a run, before the cosine schedule lowers the learning rate
LISTED_RECORDS = 20  # in the message about a loss that is no number


class Signals:
    """Notes SIGINT and SIGTERM while a block runs; a second one ends the program at once, as without us."""

    def __init__(self):
        self.received = None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.received = number
        log.warning("%s: saving after this step", signal.Signals(number).name)
        signal.signal(number, self._before[number])

    @property
    def exit_code(self):
        """128 + the signal's number, 0 without one."""
        return 128 + self.received if self.received else 0


class RecentBatches:
    """The newest batches' prepared images, as many batches as hold a number of images."""

    def __init__(self, images):
        self._images = images
        self._batches = collections.deque()

    def add(self, images):
        """images: (pixels [N, H, W, C], widths [N])."""
        self._batches.append(images)
        while sum(len(widths) for _, widths in self._batches) - len(self._batches[0][1]) >= self._images:
            self._batches.popleft()

    def newest(self, images):
        """The newest batches that together hold at least so many images, or all."""
        chosen, count = [], 0
        for batch in reversed(self._batches):
            if count >= images:
                break
            chosen.append(batch)
            count += len(batch[1])
        return chosen


def prepare_run(dataset, model_dir, given, charset, resume):
    """Looks at the data and the model directory, and settles what is trained.

    Returns: (scanning.Scan, Description, checkpoint to go on from or None). UserError if something does not fit.
    """
    newest = checkpoint.latest_checkpoint(model_dir) if resume else None
    stored = checkpoint.read_description(model_dir) if newest else None
    if newest and not stored:
        kind = "the original aocr wrote" if legacy.is_original(newest) else "has no description"
        raise UserError(f"{model_dir}: training cannot go on from a checkpoint that {kind}; name another --model-dir, "
                        "or start afresh with --no-resume")
    if stored:
        checkpoint.check_flags(stored, given, charset, model_dir)
    scan = scanning.scan(dataset)
    if stored:
        description = stored
        remedy = f"The model in {model_dir} is fixed: mend the labels, or train a new one in another --model-dir"
    else:
        config, widened = fit.fit_config(scan, given)
        charset, added = fit.fit_charset(scan, charset)
        if widened or added:
            log.info("fitted to the data: %s", "; ".join(widened + added))
        description = Description(config, charset)
        remedy = "Mend the labels, or leave out --full-ascii, --charset and --max-prediction to fit them to the data"
    fit.check_labels(scan, description.config, description.charset, remedy)
    squeezed = scan.wider_than(description.config.canvas_width)
    log.info("canvas %d x %d: %d images are squeezed to it; alphabet of %s", description.config.canvas_width,
             IMAGE_HEIGHT, squeezed, description.charset.summary())
    return scan, description, newest


def prepared_bytes(scan, config):
    """Memory that all prepared images of a dataset take: scan a scanning.Scan, config a ModelConfig."""
    columns = sum(min(width, config.canvas_width) * count for width, count in scan.widths.items())
    return columns * config.image_bytes // config.canvas_width


def scheduled_rate(config, done, steps):
    """The learning rate of a step: config a TrainConfig, `done` the steps of this run before it, of `steps` in all."""
    if config.schedule == "constant":
        return config.initial_learning_rate
    falling = max(0.0, (done / steps - HELD) / (1.0 - HELD))
    return config.initial_learning_rate * 0.5 * (1.0 + math.cos(math.pi * falling))


def train(dataset, model_dir, given, charset, config, session_config):
    """Trains a model until the epochs or steps are done, or a signal asks to end.

    Args:
      dataset, model_dir: paths. given: dict of the ModelConfig fields that the user set. charset: Charset that the
        user asked for, or None.
      config: TrainConfig. session_config: tf.ConfigProto.

    Returns: the exit code, 0 or 128 + the signal's number. UserError as `prepare_run`, if there is no such
      augmentation, if the loss is no number, or if the directory or a checkpoint cannot be written.
    """
    recipe = find_recipe(config.augment)
    scan, description, newest = prepare_run(dataset, model_dir, given, charset, config.resume)
    try:
        make_directory(model_dir)
    except OSError as error:
        raise UserError(f"{model_dir}: cannot be made: {cause(error)}; name another --model-dir") from None
    batches = functools.partial(pipeline.batches, scan, batch_size=config.batch_size,
                                image_bytes=description.config.image_bytes, cache=config.cache)
    if config.cache:
        log.info("keeping the prepared images in memory: %.0f MB", prepared_bytes(scan, description.config) / 1e6)
    if recipe:
        log.info("augmentation %s: %s", config.augment, recipe)
    with Model(description.config, description.charset, batches=batches, training=config, recipe=recipe,
               precision=config.precision, session_config=session_config) as model:
        if newest:
            checkpoint.restore(model, newest)
            log.info("going on from %s", newest)
        else:
            model.initialize()
        return Run(model, model_dir, description, config, scan, fresh=not newest).go()


class Run:
    """The loop around a model's training steps: logs, events, checkpoints, the end."""

    def __init__(self, model, model_dir, description, config, scan, *, fresh):
        """`fresh`: whether the first checkpoint begins a new model in `model_dir`. The rest as in `train`."""
        self._model, self._model_dir, self._description, self._config = model, model_dir, description, config
        self._scan, self._fresh = scan, fresh
        self._recent = RecentBatches(min(STATISTICS_IMAGES, scan.usable))
        self._saved_step = None
        self._last = None  # TrainStep
        self._first_step = model.step()
        steps = config.num_epoch * math.ceil(scan.usable / config.batch_size)
        self._steps_in_all = min(steps, config.max_steps or steps)

    def go(self):
        """Trains; returns the exit code."""
        config = self._config
        with contextlib.ExitStack() as stack:
            stack.enter_context(logging_redirect_tqdm([logging.getLogger("aocr")]))
            signals = stack.enter_context(Signals())
            events = stack.enter_context(self._model.event_writer(self._model_dir))
            bar = stack.enter_context(tqdm(desc="train", total=self._steps_in_all, unit="step", disable=None))
            started, images = time.monotonic(), 0
            for step, batch in self._steps():
                self._last = step
                self._check(step)
                self._recent.add(batch)
                images += len(step.numbers)
                bar.update()
                bar.set_postfix(loss=f"{step.loss:.3f}")
                if step.step % config.log_step == 0:
                    seconds = time.monotonic() - started
                    log.info("step %d: loss %.4f, perplexity %.3f, gradient norm %.2f, %.1f images/s", step.step,
                             step.loss, math.exp(min(step.loss, 300.0)), step.gradient_norm, images / seconds)
                    events.add_summary(step.summary, step.step)
                    started, images = time.monotonic(), 0
                if signals.received:
                    break
                if step.step % config.steps_per_checkpoint == 0:
                    self._save(STATISTICS_IMAGES)
            self._save(HURRIED_IMAGES if signals.received else STATISTICS_IMAGES)
        print(f"step: {self._last.step}\nloss: {self._last.loss:.6f}\nmodel: {self._model_dir}")
        return signals.exit_code

    def _steps(self):
        """The run's training steps, epoch after epoch: (TrainStep, images)."""
        samples = collections.Counter()  # by epoch
        first = self._config.seed + self._first_step
        for step, images in self._model.train(first, self._config.num_epoch, self._learning_rate):
            samples[step.epoch] += len(step.numbers)
            if samples.get(step.epoch - 1, self._scan.usable) != self._scan.usable:
                raise RuntimeError(f"an epoch gave {samples[step.epoch - 1]} of {self._scan.usable} samples")
            yield step, images
            if step.step - self._first_step == self._steps_in_all:
                return
        raise RuntimeError(f"the data ended before step {self._first_step + self._steps_in_all}")

    def _learning_rate(self, step):
        return scheduled_rate(self._config, step - self._first_step, self._steps_in_all)

    def _check(self, step):
        """Stops at a loss or gradient that is no number."""
        if math.isfinite(step.loss) and math.isfinite(step.gradient_norm):
            return
        numbers = ", ".join(map(str, step.numbers[:LISTED_RECORDS]))
        kept = f"checkpoint {self._saved_step}" if self._saved_step else "what was saved before this run"
        raise UserError(f"the loss is {step.loss} and the gradient norm {step.gradient_norm} at step {step.step} "
                        f"(learning rate {self._config.initial_learning_rate}; records {numbers}...); nothing is saved "
                        f"beyond {kept}: lower --initial-learning-rate, or look at these records")

    def _save(self, images):
        """Writes a checkpoint with batch norm statistics from the newest `images` images, unless just done."""
        if self._last is None or self._saved_step == self._last.step:
            return
        self._model.estimate_statistics(self._recent.newest(images))
        try:
            if self._fresh:
                # In this order, whenever a run is killed, no checkpoint is described by another model's description.
                checkpoint.forget_checkpoints(self._model_dir)
                checkpoint.write_description(self._model_dir, self._description)
                self._fresh = False
            path = self._model.save(posixpath.join(self._model_dir, checkpoint.CHECKPOINT_PREFIX))
        except (tf.errors.OpError, OSError, SystemError) as error:
            raise UserError(f"{self._model_dir}: the checkpoint of step {self._last.step} cannot be written: "
                            f"{cause(error)}; the one before it stays usable") from error
        self._saved_step = self._last.step
        log.info("checkpoint %s", path)
