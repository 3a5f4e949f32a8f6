"""Train a model on a dataset.

Writes checkpoints, TensorBoard events and a description of the model to --model-dir, and resumes from the newest
checkpoint there. Canvas size, maximum label length and charset are fitted to the data unless set by flags. On SIGINT
and SIGTERM the run saves before it ends. With TF_CONFIG in the environment it is one process of a cluster.
"""

import argparse
import logging
from typing import TYPE_CHECKING, Any

from aocr import job
from aocr.charset import Charset
from aocr.commands import launch
from aocr.commands.flags import add_model_options, add_options, collect, given
from aocr.commands.runtime import (
    model_arguments,
    print_values,
    quiet_tensorflow,
    session_config,
    warn_of_slow_precision,
)
from aocr.config import ExportConfig, ParallelConfig, PlaceConfig, TrainConfig
from aocr.ending import at_once
from aocr.errors import usage_error
from aocr.training.schedule import Clock

if TYPE_CHECKING:
    from aocr.training.run import RunResult

log = logging.getLogger(__name__)

HELP = "train a model on a dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset made by `aocr dataset`, or a glob pattern such as 'data-*.tfrecords'")
    add_options(parser, PlaceConfig)
    add_options(parser, TrainConfig, "training")
    add_options(parser, ParallelConfig, "multiple machines and GPUs")
    add_model_options(parser, TrainConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    clock = Clock()  # before TensorFlow's import, which counts towards --max-minutes
    place, model_flags, charset = model_arguments(args, job.setting(job.CHECKPOINT_DIR))
    config, parallel = collect(args, TrainConfig), collect(args, ParallelConfig)
    task = job.task_of(job.setting(job.CLUSTER))
    if parallel.local_cluster:
        return launch.launch(parallel, args)
    check_options(config, parallel, task)
    warn_of_idle_flags(given(args, TrainConfig), config, use_gru="use_gru" in model_flags, charset=charset)
    quiet_tensorflow(in_batches=True)
    with at_once():
        from aocr.training import run
        from aocr.training.cluster import board, evaluator, worker

    if task and task.job == job.PARAMETER_SERVER:
        return board.serve(task)
    warn_of_slow_precision(config.precision, place.gpu_id)
    session = session_config(place.gpu_id, config.deterministic, parallel.gpus)
    evaluates = task is not None and task.job == job.EVALUATOR
    if task and not (task.is_chief or evaluates):
        return worker.work(args.dataset, config, session, parallel, task)
    # The process that validates exports: an evaluator finds the best checkpoint only after the chief has ended.
    target = job.setting(job.EXPORT_DIR) if evaluates == parallel.evaluator else None
    target = target and _export_target(target)
    if evaluates:
        code = evaluator.evaluate(args.dataset, place.model_dir, config, session)
    else:
        result = run.train(args.dataset, place.model_dir, model_flags, charset, config, session, parallel, clock, task)
        report(result, place.model_dir)
        code = result.exit_code
    if target and code == 0:
        _export(place.model_dir, target)
    return code


def report(result: "RunResult", model_dir: str) -> None:
    """Prints the result of a run."""
    values = dict(step=result.step, loss=result.loss, **{f"best_{name}": value for name, value
                                                         in (result.best or {}).items()}, model=model_dir)
    print_values({name: value for name, value in values.items() if value is not None})


def warn_of_idle_flags(flags: dict[str, Any], config: TrainConfig, use_gru: bool, charset: Charset | None) -> None:
    """Logs a warning for each given option that another one disables.

    Args: flags: the given TrainConfig fields. charset: the requested one.
    """
    for name, idle, why in (
            ("monitor", not config.validates, "without --validation or --validation-split"),
            ("charset_change", not config.init_from, "without --init-from"),
            ("charset_change", config.init_from and charset, "with --charset or --full-ascii"),
            ("weight_decay", config.optimizer != "adamw", f"with --optimizer {config.optimizer}"),
            ("forget_bias", use_gru, "with --use-gru"),
            ("max_gradient_norm", not config.gradient_clipping, "with --no-gradient-clipping")):
        if name in flags and idle:
            log.warning("--%s has no effect %s", name.replace("_", "-"), why)


def check_options(config: TrainConfig, parallel: ParallelConfig, task: job.Task | None) -> None:
    """Raises UserError for options that this process, or a cluster, does not support.

    `task`: None for a process that trains alone.
    """
    evaluates = task is not None and task.job == job.EVALUATOR
    if evaluates and not parallel.evaluator:
        raise usage_error(f"{job.CLUSTER} makes this process an evaluator; pass --evaluator to all processes, so that "
                          "the chief does not validate")
    if parallel.evaluator:
        if not config.validates:
            raise usage_error("--evaluator needs validation data; add --validation or --validation-split")
        for name, used in (("--patience", bool(config.patience)), ("--validate-every", bool(config.validate_every)),
                           ("--schedule plateau", config.schedule == "plateau")):
            if used:
                raise usage_error(f"{name} does not work with --evaluator, which validates each checkpoint while "
                                  "training continues; remove one of them")
    if not task:
        if parallel.sync:
            raise usage_error(f"--sync needs a cluster; add --local-cluster, or set {job.CLUSTER} in the environment")
    elif not evaluates:
        for name, used in (("--max-minutes", bool(config.max_minutes)), ("--accumulate", config.accumulate > 1),
                           ("--deterministic", config.deterministic),
                           ("--on-nan rollback", config.on_nan == "rollback"),
                           ("--schedule plateau", config.schedule == "plateau")):
            if used:
                raise usage_error(f"{name} does not work in a cluster ({job.CLUSTER}); remove it, or train in one "
                                  "process")


def _export_target(directory):
    with at_once():
        from aocr.tasks import export

    return export.target_of(directory, ExportConfig(force=True))


def _export(model_dir, target):
    """Exports the trained model, from the best checkpoint if it exists."""
    with at_once():
        from aocr.checkpoint import find_model
        from aocr.tasks import export

    with find_model(model_dir, {}).open(details=True, session_config=session_config(-1)) as model:
        print_values(export.export(model, target, ExportConfig(force=True)))
