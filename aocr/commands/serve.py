"""Answer requests over HTTP with a trained model, as TensorFlow Serving does.

DIR is an export (a SavedModel, a directory of its numbered versions, or a frozen graph) or a model directory. A new
version or a new checkpoint takes over when it is ready. Prints the URL once requests are answered.
"""

import argparse

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow, session_config
from aocr.commands.streams import write_line
from aocr.config import CheckpointConfig, ServeConfig
from aocr.ending import Watch, at_once
from aocr.errors import UserError

HELP = "answer requests over HTTP with a model"
GRACE = 5.0  # seconds to end beyond those for the requests in progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("directory", metavar="DIR", help="export or model directory")
    add_options(parser, ServeConfig)
    add_options(parser, CheckpointConfig)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    config = collect(args, ServeConfig)
    _check_packages()
    quiet_tensorflow()
    with at_once():
        from aocr.serving.server import Server
        from aocr.serving.sources import Source

    source = Source(args.directory, config, session_config(config.gpu_id), collect(args, CheckpointConfig).checkpoint)
    with Watch(config.drain_seconds + config.timeout_ms / 1000 + GRACE, 0.0), Server(source, config) as server:
        write_line(server.url)
        server.wait()
    return 0


def _check_packages():
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"aocr serve needs packages that are not installed ({error.name}); run "
                        "`pip install 'aocr[serve]'`") from None
