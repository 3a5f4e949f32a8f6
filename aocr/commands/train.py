"""Train a model on a dataset.

Writes checkpoints, TensorBoard events and a description of the model to --model-dir, and goes on from the newest
checkpoint there. The size of the canvas, the longest label and the alphabet are fitted to the data where no flag
limits them. SIGINT and SIGTERM save before they end the run.
"""

from aocr.commands.flags import add_model_options, add_options, collect
from aocr.commands.runtime import model_arguments, quiet_tensorflow, session_config, warn_of_slow_precision
from aocr.config import PlaceConfig, TrainConfig

HELP = "train a model on a dataset"


def add_arguments(parser):
    """The command's arguments."""
    parser.add_argument("dataset", metavar="DATASET",
                        help="dataset that `aocr dataset` made, or a pattern ('data-*.tfrecords') of several")
    add_options(parser, PlaceConfig)
    add_options(parser, TrainConfig, "training")
    add_model_options(parser, TrainConfig)


def run(args):
    """Runs the command; returns the exit code."""
    place, given, charset = model_arguments(args)
    config = collect(args, TrainConfig)
    quiet_tensorflow(in_batches=True)
    from aocr.training.run import train

    warn_of_slow_precision(config.precision, place.gpu_id)
    session = session_config(place.gpu_id, deterministic=config.deterministic)
    return train(args.dataset, place.model_dir, given, charset, config, session)
