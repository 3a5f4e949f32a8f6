"""The training loop: steps, checkpoints, validations and rollbacks, up to the end of the run."""

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
from aocr.data.shard import Shard
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
from aocr.training.lock import Lock
from aocr.training.outputs import check_model_dir
from aocr.training.prepare import Plan, graph_maker, mean_width, prepare_run
from aocr.training.processes import SingleProcess
from aocr.training.reports import Reports, write_summary
from aocr.training.schedule import Clock, crossed, scheduled_rate
from aocr.training.signals import Signals
from aocr.training.state import RunState
from aocr.training.statistics import sample_size
from aocr.training.validation import SAMPLE, SAMPLE_COLUMNS, CheckpointValidator, Validator, read_outcomes
from aocr.training.watch import TrainingWatch
from aocr.weights import listed

log = logging.getLogger(__name__)

HURRIED_IMAGES = 130  # for batch norm statistics after a signal
LISTED_RECORDS = 20  # in the message about a diverging loss
EXPLODED = 10.0  # maximum loss, in units of ln V, the loss of uniform guessing
MOST_ROLLBACKS = 3
CHOICE_STEPS = 50  # minimum before decodings are compared: earlier, none reads anything
CHOICE_MINUTES = 0.1  # estimate for choosing the decoding at the end, without validation


def train(dataset: str, model_dir: str, given: dict[str, Any], charset: Charset | None, config: TrainConfig,
          session_config: tf.ConfigProto, parallel: ParallelConfig, clock: Clock,
          task: job.Task | None = None) -> "RunResult":
    """Trains a model until its epochs, steps or minutes are over, it no longer improves, or a signal arrives.

    Args:
      given: the ModelConfig fields set by the user. charset: the requested one.
      task: of a chief; None for a process that trains alone.

    Raises: UserError as `prepare_run`, if the augmentation is unknown, if the loss diverges, or if the directory or a
      checkpoint cannot be written.
    """
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(Lock(model_dir))
        lock.take()
        plan = prepare_run(dataset, model_dir, given, charset, config)
        if not plan.newest:
            check_model_dir(model_dir, [*plan.scan.files, *(plan.validation.files if plan.validation else ())])
        description, config = plan.description, plan.config
        make = graph_maker(plan.scan, description, config, task.shard if task else Shard())
        _create(model_dir, lock, plan)
        graph = stack.enter_context(make(
            session_config=session_config, placement=None if task else in_process(parallel.gpus)))
        validator = None
        processes: SingleProcess | Chief = SingleProcess(graph)
        if plan.validation and not parallel.evaluator:
            validator = stack.enter_context(Validator(plan.validation, description, config.precision, session_config))
        if task:
            processes = open_chief(make, task, parallel, session_config, graph)
        return Run(graph, processes, model_dir, plan, parallel, validator, clock, session_config).go()


def _create(model_dir, lock, plan):
    """Makes the directory of a run and takes its lock. UserError if that fails or another training was there first."""
    try:
        make_directory(model_dir)
    except OSError as error:
        raise UserError(f"{model_dir}: cannot be created: {cause(error)}; name another --model-dir") from None
    if lock.take() and plan.config.resume and checkpoint.latest_checkpoint(model_dir) != plan.newest:
        raise UserError(f"{model_dir}: another training wrote checkpoints there while this one was prepared; start "
                        "again to continue from them, or name another --model-dir")


class RunResult(NamedTuple):
    """The outcome of a run."""

    exit_code: int  # 0, or 128 + number of the signal that ended the run
    step: int  # global
    loss: float | None = None  # None if no step was made
    best: dict | None = None  # step and metrics of the best validation


class Run:
    """One run, from the state of its model directory to the last step."""

    def __init__(self, graph: TrainingGraph, processes: SingleProcess | Chief, model_dir: str, plan: Plan,
                 parallel: ParallelConfig, validator: Validator | None, clock: Clock, session_config: tf.ConfigProto):
        """`graph`: that of `processes`, or a chief's own. `validator`: None if this process does not validate. The rest
        as in `train`.
        """
        config = plan.config
        self._graph, self._model_dir, self._plan = graph, model_dir, plan
        self._config, self._parallel = config, parallel
        self._processes, self._clock, self._session_config = processes, clock, session_config
        self._closing = 0.0  # minutes that the last statistics, checkpoint and validation took
        self._keeper = Keeper(graph, model_dir, plan.description, plan.newest)
        self._shard_size = processes.shard.size(plan.scan.usable)  # records in this process's shard
        self._sample_size = sample_size(self._shard_size, mean_width(plan.scan, plan.description.config))
        self._signals = Signals()
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._unfitting = 0  # labels too long for CTC, so far
        self._data = TrainingWatch(plan.scan, plan.description.charset, config.cache)
        self._reports: Reports = None  # type: ignore[assignment]  # set when training starts
        self._error: str | None = None  # what ended the run
        self._outcomes = Validations() if plan.newest is None else read_outcomes(model_dir)
        self._validation = None if not validator else CheckpointValidator(
            validator, model_dir, self._outcomes, posixpath.join(model_dir, validations.NAME), config)
        self._state = self._start()
        self._before = self._reached = graph.step()  # the global step before the last step, and after it
        # In asynchronous runs, the batches of all processes together make an epoch.
        in_pass = self._shard_size if processes.sync else plan.scan.usable
        steps = math.ceil(config.num_epoch * math.ceil(in_pass / config.batch_size) / config.accumulate)
        self._steps_in_all = min(steps, config.max_steps or steps)
        self._end = self._state.first_step + self._steps_in_all

    def _start(self):
        """Initializes or restores the weights; returns the RunState."""
        graph, plan, config = self._graph, self._plan, self._config
        if plan.newest:
            missing = checkpoint.attempt(graph.resume, plan.newest)
            if [name for name in missing if name != STATE_VARIABLE]:
                log.warning("%s: was trained with other options; %d optimizer or average variables are reinitialized "
                            "(%s)", plan.newest, len(missing), missing[0])
            self._keeper.know_earlier()
            state = RunState.from_json(graph.state, plan.newest)
            outcomes = self._outcomes
            if state.earlier_best and not outcomes.entries:
                outcomes.entries.append(state.earlier_best)
            outcomes.forget_after(graph.step())
            state.validation_due &= bool(self._validation) and not outcomes.at(graph.step())
            if outcomes.best and not plan.validation:
                log.warning("without validation the best checkpoint remains that of step %d, which test, predict and "
                            "export use; give them --checkpoint last for the newest", outcomes.best["step"])
        else:
            graph.initialize()
            state = RunState(finished=True)
            if plan.source:
                transfer.start_from(graph, plan.source)
        step, scan = graph.step(), plan.scan
        count = self._processes.shard.count
        shards = [count] if count > 1 else []
        order = json.dumps([scan.records, scan.usable, config.batch_size, config.cache, config.seed, *shards])
        resumed = state.begin(step, config.seed, order)
        if plan.newest:
            log.info("continuing from %s%s", plan.newest, f": {step - state.first_step} steps of its run are done, and "
                     f"{state.batch} batches of epoch {state.epoch}" if resumed else "")
        self._clock.before = state.minutes
        factor = state.rate_factor * self._outcomes.rate_factor(state.first_step)
        if factor != 1:
            log.info("the scheduled learning rate is multiplied by %g, after plateaus and rollbacks of this run",
                     factor)
        return state

    def go(self) -> RunResult:
        """Runs the training loop."""
        step = self._graph.step()
        done = step - self._state.first_step
        self._processes.prepare(self._plan.description.to_json(), self._state.first_step, self._steps_in_all,
                                self._signals)
        if step >= self._end and not self._state.validation_due:
            log.warning("nothing to do: the run has %d steps, and %d are done; raise --max-steps or --num-epoch for "
                        "more", self._steps_in_all, done)
            self._processes.end(finished=True)
            return RunResult(0, step)
        try:
            self._write_summary()
        except (OSError, tf.errors.OpError) as error:
            raise UserError(f"{self._model_dir}: cannot be written: {cause(error)}; fix this or name another "
                            "--model-dir") from None
        try:
            log_dir = job.setting(job.LOG_DIR) or self._model_dir
            with self._data.explaining(), self._signals, Reports(
                    self._model_dir, log_dir, self._graph.model.graph, first_step=step, steps=self._steps_in_all,
                    done=done, log_step=self._config.log_step) as self._reports:
                if self._plan.newest:
                    self._reports.history.go_back(step, validated=not self._state.validation_due)
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
        # A signal after the last step is ignored: its exit code would make a job service start a finished run again.
        return RunResult(0 if self._finished else self._signals.exit_code, self._reached, self._loss,
                         self._best if self._validation else None)

    def _train(self):
        """Makes the remaining steps."""
        for step in self._steps():
            if not self._check_loss(step):
                continue
            # Not simply the last one: in a cluster, other processes make steps too, and lost steps are repeated.
            self._before, self._reached = max(0, min(self._reached, step.step - 1)), step.step
            self._reports.step(step, self._before)
            if self._end_step(step.step):
                break

    @property
    def _finished(self):
        """Whether the run is complete, its last validation included."""
        return self._state.finished and not self._state.validation_due

    @property
    def _best(self):
        """Step, metrics and decoding of the best validation; None before the first."""
        best = self._outcomes.best
        return best and {name: value for name, value in best.items() if name not in ("data", "best", "halved")}

    def _steps(self):
        """Yields the run's TrainSteps, and keeps count of the data."""
        samples = collections.Counter()  # per epoch
        state = self._state
        first_whole = state.epoch + 1 if state.batch else state.epoch  # first epoch that is trained on from its start
        steps = self._processes.train(state.epoch, None, state.batch, self._rate)
        while True:
            step = next(steps)
            self._data.look(step.epoch, seldom=step.epoch == state.epoch)
            state.epoch, state.batch = step.epoch, step.index + 1
            state.images += len(step.numbers)
            self._unfitting += step.unfitting
            samples[step.epoch] += len(step.numbers)
            before = samples.pop(step.epoch - 1, self._shard_size)
            if step.epoch > first_whole and before != self._shard_size and self._config.accumulate == 1:
                raise RuntimeError(f"an epoch had {before} of {self._shard_size} samples")
            yield step

    def _rate(self):
        """Returns the learning rate of the next step."""
        done = self._reached - self._state.first_step
        factor = self._state.rate_factor * self._outcomes.rate_factor(self._state.first_step)
        return scheduled_rate(self._config, done, self._steps_in_all, self._elapsed_share) * factor

    @property
    def _elapsed_share(self):
        """The elapsed share of --max-minutes, the time to end the run included; 0 without a limit."""
        limit = self._config.max_minutes
        choice = 0.0 if self._validation else CHOICE_MINUTES
        return (self._clock.minutes + self._closing + choice) / limit if limit else 0.0

    def _end_step(self, step):
        """Saves and validates after a step, if that is due. Returns whether the run ends."""
        config, last = self._config, step >= self._end or self._elapsed_share >= 1.0
        validates = bool(self._validation) and (last or self._due(config.validate_every or config.steps_per_checkpoint))
        if not (last or validates or self._signals.received or self._due(config.steps_per_checkpoint)):
            return False
        step = self._reached = self._processes.take()
        # A signal during a chief's step leads here again with the previous step.
        return self._checkpoint(last or step >= self._end, validates and not self._outcomes.at(step))

    def _checkpoint(self, ended, validates):
        """Writes a checkpoint and validates it; returns whether the run ends.

        `ended`: all steps are done. After a kill, the state in the checkpoint shows that its validation is due.
        """
        state, began = self._state, self._clock.minutes
        self._signals.saving()
        hurried = bool(self._signals.received)
        self._data.look(state.epoch)
        self._graph.estimate_statistics(HURRIED_IMAGES if hurried and (validates or not ended) else self._sample_size)
        self._data.sampled |= not hurried
        if spoilt := self._keeper.spoilt():
            self._go_back(f"NaN or infinite values after step {self._reached} in {listed(spoilt)}",
                          f"lower --initial-learning-rate, which is {self._config.initial_learning_rate:g}")
            return False
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
        """Returns whether work that is due every `every` steps is due after the last one."""
        return crossed(every, self._before, self._reached)

    def _validate(self):
        """Validates the newest checkpoint, unless a signal interrupts it."""
        outcomes, first_step = self._outcomes, self._state.first_step
        if self._validation.validate(self._keeper.newest, first_step, lambda: self._signals.received,
                                     self._reports.validation):
            self._state.validation_due = False
            if outcomes.entries[-1]["halved"]:
                log.info("no improvement in %d validations: halving the learning rate",
                         outcomes.without_gain(first_step))

    def _out_of_patience(self):
        """Ends a run that no longer improves, whatever steps remain. Returns whether it did."""
        patience, without_gain = self._config.patience, self._outcomes.without_gain(self._state.first_step)
        if not patience or without_gain < patience:
            return False
        log.info("no improvement in %d validations (--patience): the best was at step %d", without_gain,
                 self._outcomes.best["step"])
        if not self._state.finished:
            self._state.finished = True
            self._save()
        return True

    def _choose_decoding(self):
        """Chooses the decoding on training images, for lack of others: they show if a branch cannot read yet."""
        plan = self._plan
        if self._parallel.evaluator or not plan.description.config.ctc or self._reached < CHOICE_STEPS:
            return
        if self._data.changed:
            log.warning("%s: changed, so no decoding is chosen on it", plan.scan.path)
            return
        width = mean_width(plan.scan, plan.description.config)
        share = min(SAMPLE, SAMPLE_COLUMNS / width) / plan.scan.usable
        sample = plan.scan.split(share)[1] if share < 0.5 else plan.scan
        with Validator(sample, plan.description, self._config.precision, self._session_config) as validator:
            found = validator.validate(self._graph.weights(), lambda: self._signals.received)
        if found:
            log.info("decoding chosen on %d training images: %s", sample.usable, found[0])
            self._keeper.choose(found[0].decoding)

    def _check_loss(self, step):
        """Returns whether a step's loss is valid; if not, stops, or rolls back to the last checkpoint."""
        limit = EXPLODED * math.log(len(self._plan.description.charset))
        if math.isfinite(step.gradient_norm) and step.attention_loss <= limit:  # false for NaN
            return True
        numbers = ", ".join(map(str, step.numbers[:LISTED_RECORDS]))
        problem = (f"the loss is {step.attention_loss} (limit {limit:.1f}) and the gradient norm "
                   f"{step.gradient_norm} at step {step.step} (learning rate {step.learning_rate:g}; records {numbers}"
                   f"{'...' if len(step.numbers) > LISTED_RECORDS else ''})")
        self._go_back(problem, "lower --initial-learning-rate or inspect these records")
        return False

    def _go_back(self, problem, remedy):
        """Stops with UserError for a problem with the weights, or rolls back to the last checkpoint."""
        state, keeper = self._state, self._keeper
        kept = keeper.kept()
        if self._config.on_nan == "stop" or not kept or state.rollbacks == MOST_ROLLBACKS:
            tried = f"{state.rollbacks} rollbacks did not help; " if state.rollbacks else ""
            raise UserError(f"{problem}; {tried}nothing is saved after {keeper.newest or 'the start'}; {remedy}")
        state.rollbacks += 1
        state.rate_factor *= 0.5
        keeper.fall_back(kept, state.first_step)
        self._reached = self._graph.step()
        self._outcomes.forget_after(self._reached)
        self._reports.history.go_back(self._reached)
        log.warning("%s; rollback %d of %d: resuming from %s with half the learning rate", problem, state.rollbacks,
                    MOST_ROLLBACKS, keeper.newest)

    def _save(self):
        """Writes the pending lines of the history, and a checkpoint."""
        self._state.minutes = self._clock.minutes
        self._keeper.start_model()
        self._reports.write_history()
        self._keeper.save(self._state)

    def _write_summary(self):
        """Writes the summary of the run, with its outcome so far."""
        write_summary(self._model_dir, self._plan, self._parallel, dict(
            started=self._started, first_step=self._state.first_step, step=self._reached, loss=self._loss,
            best=self._best, finished=self._finished and not self._error, signal=self._signals.received,
            error=self._error, replicas=self._processes.shard.count, images=self._state.images,
            minutes=round(self._clock.minutes, 3)))

    def _end_summary(self):
        """Writes the final summary. A failure is only logged: the model is saved all the same."""
        try:
            self._write_summary()
        except (OSError, tf.errors.OpError) as error:
            log.warning("%s: cannot write the summary of the run: %s", self._model_dir, cause(error))

    @property
    def _loss(self):
        """The loss to report; None before the first step."""
        return self._reports.loss if self._reports else None

    def _warn_of_unfitting(self):
        """Logs a warning if labels were too long for CTC."""
        if self._unfitting:
            log.warning("%d times a label was too long for CTC at one step per %d pixels of its image: only the "
                        "attention decoder was trained on it", self._unfitting,
                        self._plan.description.config.network.stride)
