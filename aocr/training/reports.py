"""The output of a run: log lines, progress bar, TensorBoard events, history, curves, summary."""

import collections
import contextlib
import dataclasses
import io
import json
import logging
import math
import platform
import posixpath
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import PIL
import tensorflow.compat.v1 as tf
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

import aocr
from aocr.config import ParallelConfig
from aocr.errors import UserError
from aocr.evaluation.curves import draw_curves
from aocr.evaluation.validations import Validation
from aocr.evaluation.visualize import attention_picture
from aocr.files import write_text
from aocr.prediction import Prediction
from aocr.training import history
from aocr.training.events import EventFile
from aocr.training.graph import TrainStep
from aocr.training.history import History
from aocr.training.prepare import Plan
from aocr.training.schedule import crossed
from aocr.training.validation import Validator

log = logging.getLogger(__name__)

BAR_METRICS = ("exact_match", "cer")  # of a validation, on the progress bar
CURVES_NAME, SUMMARY_NAME = "curves.png", "run.json"


class Reports:
    """Reports a run to people and programs. A context manager: on exit, pending output is written."""

    def __init__(self, model_dir: str, log_dir: str, graph: tf.Graph, *, first_step: int, steps: int | None, done: int,
                 log_step: int):
        """
        Args:
          model_dir: of the history and the curves. log_dir: of the events. graph: shown in TensorBoard.
          first_step: the global step at the start. steps: total of the run, `done` of them already made. None: only
            validations are reported.
          log_step: steps between log lines.
        """
        self._model_dir, self._log_step = model_dir, log_step
        self._history_path = posixpath.join(model_dir, history.NAME)
        self.history = History(self._history_path)
        # Batches hold images of similar width, so the loss of one says little: means are reported.
        self._losses, self._norms, self._by_attention, self._by_ctc = (
            collections.deque(maxlen=log_step) for _ in range(4))
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(logging_redirect_tqdm([logging.getLogger("aocr")]))
        self._events = EventFile(log_dir, graph, first_step)
        self._bar = self._stack.enter_context(
            tqdm(desc="train", total=steps, initial=done, unit="step", disable=None if steps else True))
        self._shown = {}
        self.restart_clock()

    def __enter__(self) -> "Reports":
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()
        self.history.close()
        self._events.close()

    def step(self, step: TrainStep, before: int) -> None:
        """Reports a training step. `before`: the global step before it."""
        self._images += len(step.numbers)
        self._padding.append(step.padding)
        self._bar.update(step.step - before)
        self._losses.append(step.loss)
        self._norms.append(step.gradient_norm)
        self._by_attention.append(step.attention_loss)
        self._by_ctc.append(step.ctc_loss)
        self._shown["loss"] = f"{self.loss:.3f}"
        if crossed(self._log_step, before, step.step):
            per_second = self._images / (time.monotonic() - self._started)
            norm, by_attention, by_ctc = (
                float(np.mean(values)) for values in (self._norms, self._by_attention, self._by_ctc))
            parts = f" (attention {by_attention:.4f}, CTC {by_ctc:.4f})" if by_ctc else ""
            log.info("step %d: loss %.4f%s, perplexity %.3f, gradient norm %.2f, %.1f images/s", step.step, self.loss,
                     parts, math.exp(min(by_attention, 300.0)), norm, per_second)
            metrics = dict(loss=self.loss, attention_loss=by_attention, ctc_loss=by_ctc,
                           learning_rate=step.learning_rate, images_per_second=per_second)
            self.history.add("train", step.step, dict(metrics, gradient_norm=norm))
            self._add_scalars(step.step, dict(metrics, total_gradient_norm=norm, padding=float(np.mean(self._padding))))
            self._shown["images/s"] = f"{per_second:.0f}"
            self.restart_clock()
        self._bar.set_postfix(self._shown)

    @property
    def loss(self) -> float | None:
        """The mean loss of the last `log_step` steps (at most) of this process; None before the first."""
        return float(np.mean(self._losses)) if self._losses else None

    def validation(self, step: int, validation: Validation, best: bool, predictions: Iterable[Prediction],
                   validator: Validator) -> None:
        """Reports a validation. `best`: whether it is the best so far. `predictions`: the validator's, to draw."""
        log.info("step %d: validation: %s%s", step, validation, " (the best so far)" if best else "")
        self.history.add(history.VALIDATION, step, validation.metrics)
        self._add_scalars(step, {f"validation/{name}": value for name, value in validation.metrics.items()})
        self._shown.update({name: f"{validation.metrics[name]:.3f}" for name in BAR_METRICS})
        self._add_pictures(step, predictions, validator)
        self.write_history()

    def _add_pictures(self, step, readings, validator):
        """Adds pictures of predictions and their attention to TensorBoard."""
        values = []
        for k, reading in enumerate(readings):
            try:
                with Image.open(io.BytesIO(reading.encoded)) as image:
                    size = image.size
                picture = attention_picture(reading.encoded, validator.split(reading.text), reading.label,
                                            reading.attention, validator.drawn_steps(*size))
            except (OSError, Image.DecompressionBombError) as error:
                # TensorFlow has decoded it; Pillow is stricter about some files.
                log.warning("record %d: cannot be drawn: %s", reading.number, error)
                continue
            file = io.BytesIO()
            picture.save(file, "PNG")
            values.append(tf.Summary.Value(tag=f"validation/sample{k}", image=tf.Summary.Image(
                width=picture.width, height=picture.height, colorspace=3, encoded_image_string=file.getvalue())))
        self._events.add(step, values)

    def restart_clock(self) -> None:
        """Restarts the measurement of images per second; to be called after work other than training."""
        self._started, self._images, self._padding = time.monotonic(), 0, []

    def write_history(self) -> None:
        """Appends the pending lines to the history and flushes the TensorBoard events."""
        self._events.flush()
        self.history.write()

    def draw_curves(self) -> None:
        """Draws the history if it exists and matplotlib is installed."""
        if not tf.io.gfile.exists(self._history_path):
            return
        try:
            draw_curves(self._history_path, posixpath.join(self._model_dir, CURVES_NAME))
        except ImportError:
            log.info("%s not drawn: matplotlib is missing; install aocr[plots]", CURVES_NAME)
        except UserError as error:  # the model is saved all the same
            log.warning("%s not drawn: %s", CURVES_NAME, error)

    def _add_scalars(self, step, metrics):
        self._events.add(step, [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()])


def write_summary(model_dir: str, plan: Plan, parallel: ParallelConfig, outcome: dict[str, Any]) -> None:
    """Writes the summary of a run: its outcome so far, data, options and versions."""
    def facts(scan):
        return dict(path=scan.path, files=scan.files, records=scan.records, used=scan.usable,
                    unreadable=len(scan.unreadable), widest=scan.widest_image, longest_label=scan.longest_label)

    values = dict(
        **outcome, data=facts(plan.scan),
        validation=facts(plan.validation) if plan.validation else None,
        model=dataclasses.asdict(plan.description.config), characters=len(plan.description.charset.characters),
        flags={**dataclasses.asdict(plan.config), **dataclasses.asdict(parallel)}, seed=plan.config.seed,
        versions=dict(aocr=aocr.__version__, python=platform.python_version(), tensorflow=tf.__version__,
                      numpy=np.__version__, pillow=PIL.__version__))
    write_text(posixpath.join(model_dir, SUMMARY_NAME), json.dumps(values, indent=2, ensure_ascii=False) + "\n")
