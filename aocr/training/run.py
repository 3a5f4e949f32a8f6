"""The loop around a model's training steps."""

import collections
import contextlib
import datetime
import json
import logging
import math
import posixpath
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from aocr import checkpoint, job
from aocr.charset import Charset
from aocr.config import ParallelConfig, TrainConfig
from aocr.data.pipeline import shard_size
from aocr.errors import UserError
from aocr.evaluation import validations
from aocr.evaluation.validations import Validations
from aocr.files import cause, make_directory
from aocr.graph.placement import in_process
from aocr.model import STATE_VARIABLE
from aocr.training import transfer
from aocr.training.cluster.replica import Chief, open_chief
from aocr.training.graph import TrainingGraph
from aocr.training.keeping import Keeper
from aocr.training.prepare import Plan, graph_maker, mean_width, prepare_run
from aocr.training.processes import SingleProcess
from aocr.training.reports import Reports, write_summary
from aocr.training.schedule import Clock, crossed, scheduled_rate
from aocr.training.signals import Signals
from aocr.training.state import RunState
from aocr.training.statistics import sample_size
from aocr.training.validation import SAMPLE, SAMPLE_COLUMNS, CheckpointValidator, Validator, read_outcomes

log = logging.getLogger(__name__)

HURRIED_IMAGES = 130  # that batch norm statistics are estimated from when a signal asked the run to end
LISTED_RECORDS = 20  # in the message about a loss that is no number
EXPLODED = 10.0  # times the loss of guessing, ln V, which a loss must stay below
MOST_ROLLBACKS = 3
CHOICE_STEPS = 50  # of training, before which no decoding reads anything that a choice could go by
CHOICE_MINUTES = 0.1  # that choosing the decoding takes at the end, about, where there is no validation


def train(dataset: str, model_dir: str, given: dict[str, Any], charset: Charset | None, config: TrainConfig,
          session_config: tf.ConfigProto, parallel: ParallelConfig, clock: Clock,
          task: job.Task | None = None) -> "RunResult":
    """Trains a model until the epochs or steps are done, it gets no better, or a signal asks to end.

    Args:
      given: the ModelConfig fields that the user set. charset: that the user asked for.
      task: of a chief; None for a process that trains alone.

    Raises: UserError as `prepare_run`, if there is no such augmentation, if the loss is no number, or if the directory
      or a checkpoint cannot be written.
    """
    plan = prepare_run(dataset, model_dir, given, charset, config)
    description, config = plan.description, plan.config
    make = graph_maker(plan.scan, description, config, task.replica if task else (0, 1))
    try:
        make_directory(model_dir)
    except OSError as error:
        raise UserError(f"{model_dir}: cannot be made: {cause(error)}; name another --model-dir") from None
    with contextlib.ExitStack() as stack:
        graph = stack.enter_context(make(
            session_config=session_config, placement=None if task else in_process(parallel.gpus)))
        validator = None
        processes: SingleProcess | Chief = SingleProcess(graph)
        if plan.validation and not parallel.evaluator:
            validator = stack.enter_context(Validator(plan.validation, description, config.precision, session_config))
        if task:
            processes = open_chief(make, task, parallel, session_config, graph)
        return Run(graph, processes, model_dir, plan, parallel, validator, clock, session_config).go()


class RunResult(NamedTuple):
    """How a run ended."""

    exit_code: int  # 0, or 128 + the number of the signal that ended it
    step: int  # global
    loss: float | None = None  # None if no step was made
    best: dict | None = None  # step and metrics of the best validation


class Run:
    """One run: from where its model directory stands to the last step."""

    def __init__(self, graph: TrainingGraph, processes: SingleProcess | Chief, model_dir: str, plan: Plan,
                 parallel: ParallelConfig, validator: Validator | None, clock: Clock, session_config: tf.ConfigProto):
        """`processes`: with that graph, or a chief whose own graph it is. `validator`: None where this process does not
        validate. The rest as in `train`.
        """
        config = plan.config
        self._graph, self._model_dir, self._plan = graph, model_dir, plan
        self._config, self._parallel = config, parallel
        self._processes, self._clock, self._session_config = processes, clock, session_config
        self._closing = 0.0  # minutes that statistics, checkpoint and validation took the last time
        self._keeper = Keeper(graph, model_dir, plan.description, plan.newest)
        self._shard_size = shard_size(plan.scan.usable, processes.replica)  # records that this process trains on
        self._sample_size = sample_size(self._shard_size, mean_width(plan.scan, plan.description.config))
        self._signals = Signals()
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._unfitting = 0  # labels that CTC could not be trained on, so far
        self._reports: Reports = None  # type: ignore[assignment]  # from the start of the training on
        self._error: str | None = None  # what ended the run
        self._outcomes = Validations() if plan.newest is None else read_outcomes(model_dir)
        self._validation = None if not validator else CheckpointValidator(
            validator, model_dir, self._outcomes, posixpath.join(model_dir, validations.NAME), config)
        self._state = self._start()
        self._before = self._reached = graph.step()  # the global step before the last step, and after it
        # Where processes update by themselves, the batches of all of them make a pass.
        in_pass = self._shard_size if processes.sync else plan.scan.usable
        steps = math.ceil(config.num_epoch * math.ceil(in_pass / config.batch_size) / config.accumulate)
        self._steps_in_all = min(steps, config.max_steps or steps)
        self._end = self._state.first_step + self._steps_in_all

    def _start(self):
        """Sets the weights that the run starts from; returns its RunState."""
        graph, plan, config = self._graph, self._plan, self._config
        if plan.newest:
            lacking = checkpoint.attempt(graph.resume, plan.newest)
            if [name for name in lacking if name != STATE_VARIABLE]:
                log.warning("%s: was not trained with these options; %d values of the optimizer or of averages start "
                            "afresh (%s)", plan.newest, len(lacking), lacking[0])
            self._keeper.know_earlier()
            state = RunState.from_json(graph.state, plan.newest)
            outcomes = self._outcomes
            if state.earlier_best and not outcomes.entries:
                outcomes.entries.append(state.earlier_best)
            outcomes.forget_after(graph.step())
            state.validation_due &= bool(self._validation) and not outcomes.at(graph.step())
            if outcomes.best and not plan.validation:
                log.warning("without validation the best checkpoint stays that of step %d, which test, predict and "
                            "export use; give them --checkpoint last for the newest", outcomes.best["step"])
        else:
            graph.initialize()
            state = RunState(finished=True)
            if plan.source:
                transfer.start_from(graph, plan.source)
        step, scan = graph.step(), plan.scan
        count = self._processes.replica[1]
        shards = [count] if count > 1 else []
        order = json.dumps([scan.records, scan.usable, config.batch_size, config.cache, config.seed, *shards])
        resumed = state.begin(step, config.seed, order)
        if plan.newest:
            log.info("going on from %s%s", plan.newest, f": {step - state.first_step} steps of its run are done, at "
                     f"batch {state.batch} of pass {state.epoch}" if resumed else "")
        self._clock.before = state.minutes
        factor = state.rate_factor * self._outcomes.rate_factor(state.first_step)
        if factor != 1:
            log.info("the learning rate is %g of the one that is asked for, after the plateaus and roll-backs of this "
                     "run", factor)
        return state

    def go(self) -> RunResult:
        """Trains."""
        step = self._graph.step()
        done = step - self._state.first_step
        self._processes.prepare(self._plan.description.to_json(), self._state.first_step, self._steps_in_all,
                                self._signals)
        if step >= self._end and not self._state.validation_due:
            log.warning("the run of %d steps was ended after %d of them: nothing is left to do; give --max-steps or "
                        "--num-epoch for more", self._steps_in_all, done)
            self._processes.end(finished=True)
            return RunResult(0, step)
        try:
            self._write_summary()
        except (OSError, tf.errors.OpError) as error:
            raise UserError(f"{self._model_dir}: cannot be written: {cause(error)}; make room, or name another "
                            "--model-dir") from None
        try:
            log_dir = job.setting(job.LOG_DIR) or self._model_dir
            with self._signals, Reports(
                    self._model_dir, log_dir, self._graph.model.graph, first_step=step, steps=self._steps_in_all,
                    done=done, log_step=self._config.log_step) as self._reports:
                if not (self._state.validation_due and self._checkpoint(self._state.finished, validates=True)
                        or self._out_of_patience()):
                    self._train()
                self._processes.end(self._finished)
                self._reports.draw_curves()
        except Exception as error:
            self._error = str(error) or repr(error)
            self._end_summary()
            raise
        self._end_summary()
        self._warn_of_unfitting()
        # A signal that came when all was done changes nothing: who starts ended runs again should not start this one.
        return RunResult(0 if self._finished else self._signals.exit_code, self._reached, self._loss,
                         self._best if self._validation else None)

    def _train(self):
        """Makes the steps, up to the one that the run ends with."""
        for step in self._steps():
            if not self._sound(step):
                continue
            # Not only the last one: in a cluster others make steps too, and lost ones are made again.
            self._before, self._reached = max(0, min(self._reached, step.step - 1)), step.step
            self._reports.step(step, self._before)
            if self._after(step.step):
                break

    @property
    def _finished(self):
        """Whether nothing of the run is left to do."""
        return self._state.finished and not self._state.validation_due

    @property
    def _best(self):
        """Step, metrics and decoding of the best validation; None before the first."""
        best = self._outcomes.best
        return best and {name: value for name, value in best.items() if name not in ("data", "best", "halved")}

    def _steps(self):
        """The run's training steps: TrainStep."""
        samples = collections.Counter()  # by epoch
        state = self._state
        whole = state.epoch + 1 if state.batch else state.epoch  # the first pass that is used from its start
        steps = self._processes.train(state.epoch, None, state.batch, self._rate)
        while True:
            try:
                step = next(steps)
            except tf.errors.DataLossError as error:
                raise UserError(f"{self._plan.scan.path}: broken since it was looked through: {cause(error)}; make "
                                "it again with `aocr dataset`") from None
            state.epoch, state.batch = step.epoch, step.index + 1
            state.images += len(step.numbers)
            self._unfitting += step.unfitting
            samples[step.epoch] += len(step.numbers)
            before = samples.pop(step.epoch - 1, self._shard_size)
            if step.epoch > whole and before != self._shard_size and self._config.accumulate == 1:
                raise RuntimeError(f"an epoch gave {before} of {self._shard_size} samples")
            yield step

    def _rate(self):
        """The learning rate of the next step."""
        done = self._reached - self._state.first_step
        factor = self._state.rate_factor * self._outcomes.rate_factor(self._state.first_step)
        return scheduled_rate(self._config, done, self._steps_in_all, self._by_clock) * factor

    @property
    def _by_clock(self):
        """The share of the run's time that is over, what ends a run included; 0 where none is set."""
        limit = self._config.max_minutes
        choice = 0.0 if self._validation else CHOICE_MINUTES
        return (self._clock.minutes + self._closing + choice) / limit if limit else 0.0

    def _after(self, step):
        """Does what is due after a step: checkpoint, validation. Returns whether the run ends with it."""
        config, last = self._config, step >= self._end or self._by_clock >= 1.0
        validates = bool(self._validation) and (last or self._due(config.validate_every or config.steps_per_checkpoint))
        if not (last or validates or self._signals.received or self._due(config.steps_per_checkpoint)):
            return False
        step = self._reached = self._processes.take()
        # A chief that a signal interrupts in its step comes here with the step before once more.
        return self._checkpoint(last or step >= self._end, validates and not self._outcomes.at(step))

    def _checkpoint(self, ended, validates):
        """Writes a checkpoint and validates it; returns whether the run ends with it.

        `ended`: all steps are made. After a kill, the checkpoint itself says that its validation is due.
        """
        state, began = self._state, self._clock.minutes
        hurried = bool(self._signals.received)
        self._graph.estimate_statistics(HURRIED_IMAGES if hurried and (validates or not ended) else self._sample_size)
        if ended and not hurried and not self._validation:
            self._choose_decoding()
        state.finished, state.validation_due = ended, validates
        self._save()
        if validates and not hurried:
            self._validate()
        ends = self._out_of_patience() or ended or bool(self._signals.received)
        self._reports.restart_clock()
        self._closing = self._clock.minutes - began
        return ends

    def _due(self, every):
        """Whether work that is due every so many steps is due after the last one."""
        return crossed(every, self._before, self._reached)

    def _validate(self):
        """Validates the newest checkpoint, unless a signal interrupts it."""
        outcomes, first_step = self._outcomes, self._state.first_step
        if self._validation.validate(self._keeper.newest, first_step, lambda: self._signals.received,
                                     self._reports.validation):
            self._state.validation_due = False
            if outcomes.entries[-1]["halved"]:
                log.info("no better figure in %d validations: the learning rate is halved",
                         outcomes.without_gain(first_step))

    def _out_of_patience(self):
        """Ends a run that no longer improves, whatever steps are left; returns whether it ended it."""
        patience, without_gain = self._config.patience, self._outcomes.without_gain(self._state.first_step)
        if not patience or without_gain < patience:
            return False
        log.info("no better figure in %d validations (--patience): the best was at step %d", without_gain,
                 self._outcomes.best["step"])
        if not self._state.finished:
            self._state.finished = True
            self._save()
        return True

    def _choose_decoding(self):
        """Chooses by images that were trained on, for want of others: while a branch cannot read them, it shows."""
        plan = self._plan
        if self._parallel.evaluator or not plan.description.config.ctc or self._reached < CHOICE_STEPS:
            return
        width = mean_width(plan.scan, plan.description.config)
        share = min(SAMPLE, SAMPLE_COLUMNS / width) / plan.scan.usable
        sample = plan.scan.split(share)[1] if share < 0.5 else plan.scan
        with Validator(sample, plan.description, self._config.precision, self._session_config) as validator:
            found = validator.validate(self._graph.weights(), lambda: self._signals.received)
        if found:
            log.info("%d images that were trained on: %s", sample.usable, found[0])
            self._keeper.choose(found[0].decoding)

    def _sound(self, step):
        """Whether a step's loss is one to go on from; else stops, or goes back to the last checkpoint."""
        limit = EXPLODED * math.log(len(self._plan.description.charset))
        if math.isfinite(step.gradient_norm) and step.attention_loss <= limit:  # which no NaN is
            return True
        numbers = ", ".join(map(str, step.numbers[:LISTED_RECORDS]))
        state = self._state
        told = (f"the loss is {step.attention_loss} (the limit is {limit:.1f}) and the gradient norm "
                f"{step.gradient_norm} at step {step.step} (learning rate {step.learning_rate:g}; records {numbers}"
                f"{'...' if len(step.numbers) > LISTED_RECORDS else ''})")
        keeper = self._keeper
        kept = keeper.kept()
        if self._config.on_nan == "stop" or not kept or state.rollbacks == MOST_ROLLBACKS:
            tried = f"{state.rollbacks} roll-backs did not help; " if state.rollbacks else ""
            raise UserError(f"{told}; {tried}nothing is saved beyond {keeper.newest or 'the start'}: lower "
                            "--initial-learning-rate, or look at these records")
        state.rollbacks += 1
        state.rate_factor *= 0.5
        keeper.fall_back(kept, state.first_step)
        self._reached = self._graph.step()
        self._outcomes.forget_after(self._reached)
        log.warning("%s; roll-back %d of %d: going on from %s with half the learning rate", told, state.rollbacks,
                    MOST_ROLLBACKS, keeper.newest)
        return False

    def _save(self):
        """Writes a checkpoint, and with it what was noted for the history."""
        self._state.minutes = self._clock.minutes
        self._keeper.save(self._state)
        self._reports.write_history()

    def _write_summary(self):
        """Writes what the run is and what came of it so far."""
        write_summary(self._model_dir, self._plan, self._parallel, dict(
            started=self._started, first_step=self._state.first_step, step=self._reached, loss=self._loss,
            best=self._best, finished=self._finished and not self._error, signal=self._signals.received,
            error=self._error, replicas=self._processes.replica[1], images=self._state.images,
            minutes=round(self._clock.minutes, 3)))

    def _end_summary(self):
        """The same at the end of the run, whose model is there all the same if that fails."""
        try:
            self._write_summary()
        except (OSError, tf.errors.OpError) as error:
            log.warning("%s: the summary of the run cannot be written: %s", self._model_dir, cause(error))

    @property
    def _loss(self):
        """The loss to report; None before the first step."""
        return self._reports.loss if self._reports else None

    def _warn_of_unfitting(self):
        """One warning if labels did not fit CTC's steps."""
        if self._unfitting:
            log.warning("%d times a label had more characters than its image has steps of %d pixels: CTC was not "
                        "trained on it, the attention decoder was", self._unfitting,
                        self._plan.description.config.network.stride)
