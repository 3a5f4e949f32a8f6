"""Common setup of the commands that run TensorFlow."""

import argparse
import contextlib
import dataclasses
import logging
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from aocr.charset import FULL_ASCII, Charset, splitter
from aocr.commands.flags import collect, given, warn_without_effect
from aocr.commands.streams import write_line
from aocr.config import ModelConfig, PlaceConfig
from aocr.ending import at_once
from aocr.errors import UserError, usage_error
from aocr.files import cause, exists, read_bytes

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
RETRIES = "GCS_RETRY_CONFIG_MAX_RETRIES"  # retries of a gs:// request, after 1, 2, 4 ... seconds
PROCESSOR = "/proc/cpuinfo"
BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is ARM's

log = logging.getLogger(__name__)


def quiet_tensorflow(in_batches: bool = False) -> None:
    """Imports TensorFlow without its messages on stderr, unless TF_CPP_MIN_LOG_LEVEL is set.

    `in_batches`: the command processes large batches. TensorFlow enables its oneDNN kernels by default on some CPUs
    only, but they speed up large batches (a training step took 1.4 instead of 2.2 s). Single images can be slower with
    them, so other commands leave the choice to TensorFlow. A value set by the user takes precedence.

    Storage that does not answer is retried for half a minute, not for TensorFlow's default of three and a half, in
    which nothing is logged. Here too a value set by the user takes precedence.

    The import writes straight to the file descriptor at any log level (about a missing GPU, for example), so stderr is
    redirected meanwhile; if the import fails, the captured output is written to it.

    No GPU is used until `session_config` chooses one.
    """
    os.environ.setdefault(RETRIES, "5")
    if in_batches:
        os.environ.setdefault(ONEDNN, "1")
    if LOG_LEVEL not in os.environ and "tensorflow" not in sys.modules:
        os.environ[LOG_LEVEL] = "3"
        with _stderr_aside() as stderr, at_once(stderr):
            import tensorflow  # noqa: F401
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _show_gpus([])


@contextlib.contextmanager
def _stderr_aside():
    """Redirects the file descriptor of stderr; yields another one of the stream."""
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    with _temporary_file() as aside:
        kept = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield kept
        except ImportError:
            aside.seek(0)
            with contextlib.suppress(OSError):
                os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _temporary_file():
    """Opens a file without a name; /dev/null where there is no place for one."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "r+b")


def session_config(gpu_id: int, deterministic: bool = False, gpus: int = 1) -> "tf.ConfigProto":
    """Returns the configuration for `gpus` GPUs from `gpu_id` on, memory allocated on demand; negative: for the CPU.

    `deterministic`: one thread, and deterministic GPU kernels only. UserError if there are GPUs, but not these. Without
    GPUs the CPU is used, as several virtual devices if `gpus` > 1.
    """
    import tensorflow.compat.v1 as tf

    config = tf.ConfigProto()
    config.allow_soft_placement = True  # a GPU's tower has ops without a GPU kernel: assertion messages
    if deterministic:
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = 1
    if gpu_id < 0:
        if gpus > 1:
            raise usage_error(f"--gpus is {gpus}, but --gpu-id {gpu_id} selects the CPU; remove one of them")
        config.device_count["GPU"] = 0
        return config
    devices = tf.config.list_physical_devices("GPU")
    here = len(devices)
    if here and gpu_id >= here:
        raise usage_error(f"--gpu-id is {gpu_id}, but the available GPUs are 0 to {here - 1}; use -1 for the CPU")
    if here and gpu_id + gpus > here:
        raise usage_error(f"--gpus is {gpus} from --gpu-id {gpu_id} on, but the available GPUs are 0 to {here - 1}; "
                          "use fewer")
    config.gpu_options.allow_growth = True
    if here:
        _show_gpus(devices[gpu_id:gpu_id + gpus])
        if deterministic:
            tf.compat.v2.config.experimental.enable_op_determinism()  # compat.v1 lacks it
        config.gpu_options.visible_device_list = ",".join(map(str, range(gpu_id, gpu_id + gpus)))
    elif gpus > 1:
        log.warning("--gpus %d: no GPU is available; using virtual CPU devices instead, which is no faster and only "
                    "for testing", gpus)
        config.device_count["CPU"] = gpus
    return config


def _show_gpus(devices):
    """Limits TensorFlow to these GPUs (list of tf.config.PhysicalDevice), their memory allocated on demand.

    A session's ConfigProto is not enough: building a dataset or a loop opens the process's eager context before there
    is a session. It would take all memory of all GPUs, and a session that numbers them otherwise would fail
    (github.com/tensorflow/tensorflow/issues/58952).
    """
    import tensorflow.compat.v1 as tf

    with contextlib.suppress(RuntimeError):  # the context is open: an earlier command of this process has chosen
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
        tf.config.set_visible_devices(devices, "GPU")


def print_values(values: dict[str, Any], formats: dict[str, str] | None = None) -> None:
    """Prints `name: value` lines, floats with six decimals unless `formats` (by name) overrides this."""
    for name, value in values.items():
        write_line(f"{name}: {format(value, (formats or {}).get(name, '.6f')) if isinstance(value, float) else value}")


def warn_of_slow_precision(precision: str, gpu_id: int) -> None:
    """Logs a warning if this machine is slow with the convolutions' data type."""
    import tensorflow.compat.v1 as tf

    if precision == "float32" or (gpu_id >= 0 and tf.config.list_physical_devices("GPU")):
        return
    try:
        with open(PROCESSOR, encoding="ascii", errors="replace") as file:
            features = set(file.read().split())
    except OSError:  # not Linux: CPU features unknown
        return
    if not features & BFLOAT16_FEATURES:
        log.warning("--precision %s: this CPU has no instructions for it and is slower than with float32",
                    precision)


def model_arguments(args: argparse.Namespace,
                    model_dir: str | None = None) -> tuple[PlaceConfig, dict[str, Any], Charset | None]:
    """Returns the place, the given ModelConfig fields, and the requested charset, all validated.

    `model_dir`: model directory if no flag names one; None: PlaceConfig's default.
    """
    place = collect(args, PlaceConfig)
    if model_dir and "model_dir" not in given(args, PlaceConfig):
        place = dataclasses.replace(place, model_dir=model_dir)
    if not place.model_dir:
        raise UserError("--model-dir is empty; name a directory", exit_code=2)
    config = collect(args, ModelConfig)
    warn_without_effect(args)
    return place, given(args, ModelConfig), _given_charset(args, config.graphemes)


def _given_charset(args, graphemes):
    """Returns the Charset that `--full-ascii` or `--charset` requests; None without them."""
    characters = getattr(args, "charset", None)
    if getattr(args, "full_ascii", False):
        if characters is not None:
            raise usage_error("--full-ascii and --charset are mutually exclusive; use one of them")
        return Charset(FULL_ASCII, graphemes)
    if characters is None:
        return None
    lines = [characters]
    try:
        if exists(characters):
            lines = read_bytes(characters).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--charset {characters}: cannot be read: {cause(error)}; name a UTF-8 file") from None
    try:
        split = splitter(graphemes)
        return Charset((character for line in lines for character in split(line)), graphemes)
    except ValueError as error:
        raise usage_error(f"--charset: {error}") from None
