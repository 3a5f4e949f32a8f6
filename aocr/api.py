"""The Python interface: `load`, `train`, `evaluate` and `dataset`, over what the commands call.

Options are named like the fields of the option classes in `aocr/config.py`: `--max-steps 5` is `max_steps=5`.
"""

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from aocr.charset import Charset
from aocr.commands import runtime
from aocr.commands.flags import names_of, options_of
from aocr.commands.test import check_options as check_test_options
from aocr.commands.train import check_options, warn_of_idle_flags
from aocr.config import (
    READ_TOGETHER,
    CheckpointConfig,
    DatasetConfig,
    ModelConfig,
    ParallelConfig,
    PlaceConfig,
    PredictConfig,
    SearchConfig,
    TestConfig,
    TrainConfig,
)
from aocr.training.schedule import Clock

if TYPE_CHECKING:
    from aocr.reading.reader import Reader
    from aocr.tasks.test import TestResult

PathLike = str | os.PathLike[str]

CHARSET = ("charset", "full_ascii")  # options beside those of ModelConfig
COMMAND_ONLY = ("model_dir", "local_cluster", "sync", "evaluator", "fail_under", "runner")


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The outcome of a training."""

    model_dir: str
    step: int  # of the model, earlier runs included
    loss: float | None  # None if no step was made
    best: dict[str, float]  # step and metrics of the best validation; empty without one
    complete: bool  # False if a signal ended it


@dataclasses.dataclass(frozen=True)
class DatasetResult:
    """The outcome of making a dataset."""

    records: int
    skipped: int  # rows that cannot be used
    problems: dict[str, int]  # kind -> rows that were skipped, or kept with a note
    datasets: tuple[str, ...]  # paths or glob patterns of what was written, one for each share of `split`


class _Model(NamedTuple):
    """The options about a model."""

    given: dict[str, Any]  # fields of ModelConfig
    charset: Charset | None


def load(path: PathLike, *, checkpoint: str | None = None, decoding: str | None = None, details: bool = True,
         batch_size: int = READ_TOGETHER, gpu_id: int = PlaceConfig.gpu_id, **search: Any) -> "Reader":
    """Opens a model to read images with.

    Args:
      path: a model directory; or an export: the directory of a SavedModel, of its versions (the newest is used), or of
        a frozen graph.
      checkpoint: `last`, `best`, or the path of a checkpoint; None: the best if it exists, else the last.
      decoding: attention, ctc or joint; None: the one that read best in training. An export has its own.
      details: whether results hold the characters, with their confidences, alternatives and edges.
      batch_size: most images that are read together.
      gpu_id: GPU to use; negative for the CPU.
      search: beam, n_best, lexicon, lexicon_weight, pattern, allow: which texts are searched for, as in `aocr predict`.

    Returns: a Reader. Close it, or use it in a `with` statement.
    Raises: UserError if there is no model, or it cannot be read; TypeError for an unknown option.
    """
    options_of("load", dict(batch_size=batch_size, gpu_id=gpu_id, decoding=decoding), PredictConfig, PlaceConfig)
    searching, = options_of("load", search, SearchConfig)
    from aocr.reading.engines import open_engine
    from aocr.reading.reader import Reader

    engine = open_engine(os.fspath(path), searching, checkpoint=checkpoint, decoding=decoding, details=details,
                         session_config=runtime.session_config(gpu_id))
    return Reader(engine, details=details, batch_size=batch_size)


def train(dataset: PathLike, model_dir: PathLike, **options: Any) -> TrainResult:
    """Trains a model, or resumes its training, as `aocr train`.

    Args: dataset: its path, or a glob pattern. model_dir: directory of the model.
      options: those of `aocr train`, such as max_steps, max_minutes, validation, charset.
    Raises: UserError; TypeError for an unknown option.
    """
    clock = Clock()
    config, parallel, place, _ = options_of("train", options, TrainConfig, ParallelConfig, PlaceConfig, ModelConfig,
                                            without=COMMAND_ONLY, beside=CHARSET)
    model = _model_of(options)
    check_options(config, parallel, None)
    warn_of_idle_flags(options, config, use_gru="use_gru" in model.given, charset=model.charset)
    from aocr.training import run

    runtime.warn_of_slow_precision(config.precision, place.gpu_id)
    session = runtime.session_config(place.gpu_id, config.deterministic, parallel.gpus)
    result = run.train(os.fspath(dataset), os.fspath(model_dir), model.given, model.charset, config, session, parallel,
                       clock)
    return TrainResult(os.fspath(model_dir), result.step, result.loss, result.best or {}, result.exit_code == 0)


def evaluate(dataset: PathLike, model_dir: PathLike, **options: Any) -> "TestResult":
    """Tests a model on a dataset, as `aocr test`.

    Args: dataset: its path, or a glob pattern. model_dir: directory of the model.
      options: those of `aocr test`, such as checkpoint, decoding, report.
    Returns: decoding, samples, skipped, metrics (by name), seconds, images_per_second.
    Raises: UserError; TypeError for an unknown option.
    """
    config, place, which, _ = options_of("evaluate", options, TestConfig, PlaceConfig, CheckpointConfig, ModelConfig,
                                         without=COMMAND_ONLY, beside=CHARSET)
    check_test_options(config)
    model = _model_of(options)
    from aocr.checkpoint import find_model
    from aocr.tasks.test import test

    runtime.warn_of_slow_precision(config.precision, place.gpu_id)
    trained = find_model(os.fspath(model_dir), *model, which.checkpoint, config.decoding)
    return test(os.fspath(dataset), trained, config, runtime.session_config(place.gpu_id))


def dataset(annotations: PathLike | Iterable[PathLike], output: PathLike, **options: Any) -> DatasetResult:
    """Makes a dataset from annotated images, as `aocr dataset`.

    Rows are checked in `workers` processes. In a script, call it below `if __name__ == "__main__":`, as for
    `multiprocessing`, or with workers=1.

    Args: annotations: a path, or several, of annotation files, directories or datasets. output: file to write.
      options: those of `aocr dataset`, such as split, force_uppercase.
    Raises: UserError; TypeError for an unknown option.
    """
    config, = options_of("dataset", options, DatasetConfig, without=COMMAND_ONLY)
    paths: Iterable[PathLike] = [annotations] if isinstance(annotations, (str, os.PathLike)) else annotations
    from aocr.data.build import make_dataset

    counts, parts = make_dataset([os.fspath(path) for path in paths], os.fspath(output), config)
    return DatasetResult(counts.written, counts.skipped, dict(counts.rejected + counts.noted),
                         tuple(part.pattern for part in parts))


def _model_of(options: dict[str, Any]) -> _Model:
    """Returns the options about the model."""
    given = {name: value for name, value in options.items() if name in names_of(ModelConfig)}
    charset = runtime.charset_of(options.get("charset"), bool(options.get("full_ascii")), given.get("graphemes", False))
    return _Model(given, charset)
