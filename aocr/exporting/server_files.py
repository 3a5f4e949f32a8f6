"""Configuration files for `tensorflow_model_server`, as text protobuf."""

import tensorflow.compat.v1 as tf
from google.protobuf import text_encoding

from aocr.config import ExportConfig
from aocr.errors import UserError
from aocr.files import cause, write_text
from aocr.outputs import Kind, Output, start_of

MARK = "# Written by aocr export"
# Batching waits for other requests this long, and takes this many images together; all other values are the server's.
MOST_IMAGES, MOST_WAIT = 16, 2000  # images, microseconds
QUEUE = 64  # batches that wait; later requests are refused


def _is_ours(path):
    return start_of(path).startswith(MARK.encode())


KIND = Kind("a configuration that aocr export wrote", _is_ours)


def outputs_of(config: ExportConfig) -> list[Output]:
    """Returns the configuration files that an export writes."""
    asked = (("--models-config", config.models_config), ("--batching-config", config.batching_config))
    return [Output(path, KIND, flag) for flag, path in asked if path]


def write_server_files(directory: str, config: ExportConfig) -> dict[str, str]:
    """Writes the files that were asked for. Returns their paths by name. UserError if one cannot be written.

    `directory`: that of the versions, absolute.
    """
    written = {}
    for name, path, content in (
            ("models_config", config.models_config, models_config(config.model_name, directory)),
            ("batching_config", config.batching_config, batching_config())):
        if path:
            try:
                write_text(path, content)
            except (tf.errors.OpError, OSError) as error:
                raise UserError(f"{path}: cannot be written: {cause(error)}") from None
            written[name] = path
    return written


def models_config(name: str, directory: str) -> str:
    """Returns a `--model_config_file` of one model, whose versions are in a directory."""
    name, directory = (text_encoding.CEscape(text, as_utf8=True) for text in (name, directory))
    return f"""{MARK}, for tensorflow_model_server --model_config_file.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{directory}"
    model_platform: "tensorflow"
  }}
}}
"""


def batching_config() -> str:
    """Returns a `--batching_parameters_file`."""
    return f"""{MARK}, for tensorflow_model_server --enable_batching --batching_parameters_file.
max_batch_size {{ value: {MOST_IMAGES} }}
batch_timeout_micros {{ value: {MOST_WAIT} }}
max_enqueued_batches {{ value: {QUEUE} }}
"""
