"""The loop around a model's training steps."""

import collections
import contextlib
import datetime
import functools
import json
import logging
import math
import os
import posixpath

import tensorflow.compat.v1 as tf

from aocr import checkpoint
from aocr.augmentation import find_recipe
from aocr.data import pipeline
from aocr.errors import UserError, cause
from aocr.model import Model
from aocr.training import transfer
from aocr.training.prepare import prepare_run, prepared_bytes
from aocr.training.recent import RecentBatches
from aocr.training.reports import Reports, write_summary
from aocr.training.schedule import PLATEAU, scheduled_rate
from aocr.training.signals import Signals
from aocr.training.state import RunState
from aocr.training.validation import Validator, judge

log = logging.getLogger(__name__)

# Images that batch norm statistics are estimated from before each checkpoint, at the least, or all there are.
STATISTICS_IMAGES = 512
HURRIED_IMAGES = 130  # the same when a signal asked the run to end
LISTED_RECORDS = 20  # in the message about a loss that is no number
EXPLODED = 10.0  # times the loss of guessing, ln V, which a loss must stay below
MOST_ROLLBACKS = 3
LOG_DIR_VARIABLE = "AIP_TENSORBOARD_LOG_DIR"  # set by job services


def train(dataset, model_dir, given, charset, config, session_config):
    """Trains a model until the epochs or steps are done, it gets no better, or a signal asks to end.

    Args:
      dataset, model_dir: paths. given: dict of the ModelConfig fields that the user set. charset: Charset that the
        user asked for, or None.
      config: TrainConfig. session_config: tf.ConfigProto.

    Returns: the exit code, 0 or 128 + the signal's number. UserError as `prepare_run`, if there is no such
      augmentation, if the loss is no number, or if a checkpoint cannot be written.
    """
    recipe = find_recipe(config.augment)
    plan = prepare_run(dataset, model_dir, given, charset, config)
    description = plan.description
    tf.io.gfile.makedirs(model_dir)
    batches = functools.partial(pipeline.batches, plan.scan, batch_size=config.batch_size,
                                image_bytes=description.config.image_bytes, cache=config.cache)
    if config.cache:
        log.info("keeping the prepared images in memory: %.0f MB", prepared_bytes(plan.scan, description.config) / 1e6)
    if recipe:
        log.info("augmentation %s: %s", config.augment, recipe)
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(Model(
            description.config, description.charset, batches=batches, training=config, recipe=recipe,
            precision=config.precision, session_config=session_config))
        validator = None
        if plan.validation:
            validator = stack.enter_context(Validator(plan.validation, description, config.precision, session_config))
        return Run(model, model_dir, plan, config, validator).go()


class Run:
    """One run: from where its model directory stands to the last step."""

    def __init__(self, model, model_dir, plan, config, validator):
        """`plan`: prepare.Plan. `validator`: Validator or None. The rest as in `train`."""
        self._model, self._model_dir, self._plan, self._config = model, model_dir, plan, config
        self._validator, self._fresh = validator, not plan.newest
        self._best_dir = posixpath.join(model_dir, checkpoint.BEST_NAME)
        self._usable = plan.scan.usable
        self._recent = RecentBatches(min(STATISTICS_IMAGES, self._usable))
        self._last = None  # TrainStep
        self._saved = plan.newest  # the newest checkpoint
        self._fallen = 0  # roll-backs since it was written
        self._estimated_step = None  # that the batch norm statistics are of
        self._signals = Signals()
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._state = self._start()
        steps = config.num_epoch * math.ceil(self._usable / (config.batch_size * config.accumulate))
        self._steps_in_all = min(steps, config.max_steps or steps)
        self._end = self._state.first_step + self._steps_in_all

    def _start(self):
        """Sets the weights that the run starts from; returns its RunState."""
        model, plan, config = self._model, self._plan, self._config
        if plan.newest:
            lacking = checkpoint.attempt(model.resume, plan.newest)
            if [name for name in lacking if name != "training/state"]:
                log.warning("%s: was not trained with these options; %d values of the optimizer or of averages start "
                            "afresh (%s)", plan.newest, len(lacking), lacking[0])
            model.know_checkpoints(checkpoint.known_checkpoints(self._model_dir),
                                   checkpoint.known_checkpoints(self._best_dir))
            state = RunState.from_json(model.state, plan.newest)
        else:
            model.initialize()
            state = RunState(finished=True)
            if plan.source:
                transfer.start_from(model, plan.source)
        step, scan = model.step(), plan.scan
        order = json.dumps([scan.records, self._usable, config.batch_size, config.cache, config.seed])
        goes_on = state.begin(step, config.seed, order)
        if plan.newest:
            log.info("going on from %s%s", plan.newest, f": {step - state.first_step} steps of its run are done, at "
                     f"batch {state.batch} of pass {state.epoch}" if goes_on else "")
        return state

    def go(self):
        """Trains; returns the exit code."""
        step, done = self._model.step(), self._model.step() - self._state.first_step
        if step >= self._end:
            log.warning("the run of %d steps was ended after %d of them: nothing is left to do; give --max-steps or "
                        "--num-epoch for more", self._steps_in_all, done)
            print(f"step: {step}\nmodel: {self._model_dir}")
            return 0
        write_summary(self._model_dir, self._plan, self._config, self._outcome())
        with self._signals, Reports(
                self._model_dir, os.environ.get(LOG_DIR_VARIABLE) or self._model_dir, self._model.graph,
                first_step=step, steps=self._steps_in_all, done=done, log_step=self._config.log_step) as self._reports:
            for step, images in self._steps():
                if not self._sound(step):
                    continue
                self._last = step
                self._recent.add(images)
                self._reports.step(step)
                if self._after(step.step):
                    break
            self._reports.draw_curves()
        write_summary(self._model_dir, self._plan, self._config, self._outcome())
        self._tell()
        return self._signals.exit_code

    def _steps(self):
        """The run's training steps: (TrainStep, images)."""
        samples = collections.Counter()  # by epoch
        state = self._state
        whole = state.epoch + 1 if state.batch else state.epoch  # the first pass that is used from its start
        first_epoch, first_batch, looked_at = self._look_back()
        steps = self._model.train(first_epoch, None, first_batch, self._rate, looked_at)
        while True:
            try:
                step, images = next(steps)
            except tf.errors.DataLossError as error:
                raise UserError(f"{self._plan.scan.path}: broken since it was looked through: {cause(error)}; make "
                                "it again with `aocr dataset`") from None
            if step is None:
                self._recent.add(images)
                continue
            state.epoch, state.batch = step.epoch, step.index + 1
            samples[step.epoch] += len(step.numbers)
            before = samples.pop(step.epoch - 1, self._usable)
            if step.epoch > whole and before != self._usable and self._config.accumulate == 1:
                raise RuntimeError(f"an epoch gave {before} of {self._usable} samples")
            yield step, images

    def _look_back(self):
        """Where to start so that batch norm statistics are as if the run had never been ended: the batches that they
        come from are seen again. Returns (pass, its first batch, batches to look at).
        """
        state, in_pass = self._state, math.ceil(self._usable / self._config.batch_size)
        done = (state.epoch - self._config.seed) * in_pass + state.batch  # since the model's first pass
        wanted = math.ceil(self._recent.wanted / self._config.batch_size) + 1
        back = max(0, min(wanted, done)) if state.batch else 0
        passes, batch = divmod(done - back, in_pass)
        return self._config.seed + passes, batch, back

    def _rate(self):
        """The learning rate of the next step."""
        done = (self._last.step if self._last else self._model.step()) - self._state.first_step
        return scheduled_rate(self._config, done, self._steps_in_all) * self._state.rate_factor

    def _after(self, step):
        """What follows a step: validation, checkpoint. Returns whether the run ends with it."""
        config, ended = self._config, step >= self._end
        if self._validator and (ended or step % (config.validate_every or config.steps_per_checkpoint) == 0):
            self._estimate(STATISTICS_IMAGES)
            ended |= self._validate(step)
        if self._signals.received or ended or step % config.steps_per_checkpoint == 0:
            self._state.finished = ended and not self._signals.received
            self._estimate(HURRIED_IMAGES if self._signals.received else STATISTICS_IMAGES)
            self._save()
            self._reports.restart_clock()
        return ended or bool(self._signals.received)

    def _estimate(self, images):
        """Sets the batch norm statistics from the newest `images` images, unless just done."""
        if self._estimated_step != self._last.step:
            self._model.estimate_statistics(self._recent.newest(images))
            self._estimated_step = self._last.step

    def _validate(self, step):
        """Validates, keeps the best checkpoint; returns whether the run should end here."""
        config, state = self._config, self._state
        found = self._validator.validate(self._model.weights(), lambda: self._signals.received)
        self._reports.restart_clock()
        if not found:
            return False
        figures, readings = found
        data = f"{self._validator.scan.path}, {self._validator.scan.usable} records"
        best = judge(state, figures, step, config.monitor, data)
        self._reports.validation(step, figures, best)
        self._reports.samples(step, readings, self._validator.drawn_width)
        if best:
            self._save_best(step)
        elif config.schedule == "plateau" and state.without_gain % PLATEAU == 0:
            state.rate_factor *= 0.5
            log.info("no better figure in %d validations: the learning rate is halved", state.without_gain)
        if config.patience and state.without_gain >= config.patience:
            log.info("no better figure in %d validations (--patience): the best was at step %d", state.without_gain,
                     state.best["step"])
            return True
        return False

    def _sound(self, step):
        """Whether a step's loss is one to go on from; else stops, or goes back to the last checkpoint."""
        limit = EXPLODED * math.log(len(self._plan.description.charset))
        if math.isfinite(step.gradient_norm) and step.loss <= limit:  # which no NaN is
            return True
        numbers = ", ".join(map(str, step.numbers[:LISTED_RECORDS]))
        state = self._state
        told = (f"the loss is {step.loss} (the limit is {limit:.1f}) and the gradient norm {step.gradient_norm} at "
                f"step {step.step} (learning rate {step.learning_rate:g}; records {numbers}"
                f"{'...' if len(step.numbers) > LISTED_RECORDS else ''})")
        kept = checkpoint.known_checkpoints(self._model_dir) if self._saved else []
        if self._config.on_nan == "stop" or not kept or state.rollbacks == MOST_ROLLBACKS:
            tried = f"{state.rollbacks} roll-backs did not help; " if state.rollbacks else ""
            raise UserError(f"{told}; {tried}nothing is saved beyond {self._saved or 'the start'}: lower "
                            "--initial-learning-rate, or look at these records")
        self._fallen += 1
        good = kept[-min(self._fallen, len(kept))]  # the newest, then the one before: it may have been spoilt already
        state.rollbacks += 1
        state.rate_factor *= 0.5
        checkpoint.attempt(self._model.resume, good)
        self._recent, self._last = RecentBatches(self._recent.wanted), None
        log.warning("%s; roll-back %d of %d: going on from %s with half the learning rate", told, state.rollbacks,
                    MOST_ROLLBACKS, good)
        return False

    def _save(self):
        """Writes a checkpoint."""
        with self._writing(self._last.step):
            if self._fresh:
                # In this order, whenever a run is killed, no checkpoint is described by another model's description.
                checkpoint.forget_checkpoints(self._model_dir)
                self._describe()
            self._model.state = self._state.to_json()
            self._saved = self._model.save(posixpath.join(self._model_dir, checkpoint.CHECKPOINT_PREFIX))
            self._reports.write_history()
        self._fallen = 0
        log.info("checkpoint %s", self._saved)

    def _save_best(self, step):
        """Writes the best checkpoint."""
        prefix = posixpath.join(self._best_dir, checkpoint.CHECKPOINT_PREFIX)
        with self._writing(step):
            tf.io.gfile.makedirs(self._best_dir)
            if self._fresh:
                checkpoint.forget_checkpoints(self._model_dir)
                self._describe()
            if f"{prefix}-{step}" in checkpoint.known_checkpoints(self._best_dir):
                checkpoint.forget_checkpoints(self._best_dir)  # it is written over, which may be cut short
            self._model.state = self._state.to_json()
            self._model.save_best(prefix)

    def _describe(self):
        """Begins the model in the directory: no best checkpoint of an earlier one, a new description and history."""
        checkpoint.forget_checkpoints(self._best_dir)
        checkpoint.write_description(self._model_dir, self._plan.description)
        self._reports.forget_history()
        self._fresh = False

    @contextlib.contextmanager
    def _writing(self, step):
        try:
            yield
        except (tf.errors.OpError, OSError, SystemError) as error:
            raise UserError(f"{self._model_dir}: the checkpoint of step {step} cannot be written: "
                            f"{cause(error)}; the one before it stays usable") from error

    def _outcome(self):
        """What came of the run so far: plain values."""
        last = self._last
        return dict(started=self._started, first_step=self._state.first_step, step=last.step if last else None,
                    loss=last.loss if last else None, best=self._state.best, finished=self._state.finished,
                    signal=self._signals.received)

    def _tell(self):
        """The results, to standard output."""
        print(f"step: {self._last.step}\nloss: {self._last.loss:.6f}")
        if self._validator and self._state.best:
            print("".join(f"best_{name}: {value if name == 'step' else format(value, '.6f')}\n"
                          for name, value in self._state.best.items()), end="")
        print(f"model: {self._model_dir}")
