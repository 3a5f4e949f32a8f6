"""Read images with a trained model.

Prints one line a file: path, probability and text, separated by tabs, in the order given. A file that cannot be read
is one line on stderr, and the exit code is 1 at the end. Without FILE arguments, paths are read from standard input,
one a line, and answered as they come.
"""

from aocr.commands.flags import add_model_options, add_options, collect
from aocr.commands.runtime import model_arguments, quiet_tensorflow, session_config
from aocr.config import CheckpointConfig, PlaceConfig, PredictConfig

HELP = "read images with a model"


def add_arguments(parser):
    """The command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="*", help="images (default: paths on standard input)")
    add_options(parser, PlaceConfig)
    add_options(parser, CheckpointConfig)
    add_options(parser, PredictConfig)
    add_model_options(parser, PredictConfig)


def run(args):
    """Runs the command; returns the exit code."""
    place, given, charset = model_arguments(args)
    config = collect(args, PredictConfig)
    quiet_tensorflow()
    from aocr.checkpoint import find_model
    from aocr.prediction import predict_files

    trained = find_model(place.model_dir, given, charset, collect(args, CheckpointConfig).checkpoint,
                         config.decoding)
    with trained.open(session_config=session_config(place.gpu_id)) as model:
        return 0 if predict_files(model, args.files, config.batch_size) else 1
