"""The model directory: its description, its checkpoints, and opening its model."""

import dataclasses
import json
import logging
import os
import posixpath
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow.compat.v1 as tf

import aocr
from aocr import original
from aocr.calibration import LEAST, MOST, UNCALIBRATED
from aocr.charset import FULL_ASCII, Charset
from aocr.config import ATTENTION, DECODINGS, IMAGE_HEIGHT, JOINT, Decoding, ModelConfig, SearchConfig, flags_of
from aocr.errors import UserError, usage_error
from aocr.evaluation import validations
from aocr.evaluation.validations import Validations
from aocr.files import cause, is_remote, load_json, make_directory, read_bytes, write_text
from aocr.graph import preprocess
from aocr.model import Model, open_model
from aocr.network import AnyNetwork, Network
from aocr.networks import ORIGINAL
from aocr.search.search import Search, search_of
from aocr.weights import files_of, is_there, read_weights

log = logging.getLogger(__name__)

DESCRIPTION_NAME = "model.json"
FORMAT_VERSION = 1
CHECKPOINT_PREFIX = "model.ckpt"
STATE_NAME = "checkpoint"  # TensorFlow's file that lists the checkpoints
BEST_NAME = "best"  # subdirectory of the best checkpoint
LAST, BEST = "last", "best"  # names of checkpoints
TRIES = 5  # to read a checkpoint, where a training deletes those that were chosen
LIMITS = ("max_pixels",)  # options of which each run may choose its own value
# Values for descriptions that are older than these options.
UNSAID = dict(cnn=ORIGINAL, attention_units=0, ctc=False, right_to_left=False)

Restored = TypeVar("Restored")  # result of restoring: see `attempt`


@dataclasses.dataclass(frozen=True)
class Description:
    """The content of a model directory's description file."""

    config: ModelConfig
    charset: Charset
    decoding: Decoding = None  # type: ignore[assignment]  # the best one known; None: joint if there is CTC
    temperature: float = UNCALIBRATED  # of the probabilities: see aocr/calibration.py

    def __post_init__(self) -> None:
        if not self.decoding:
            object.__setattr__(self, "decoding", Decoding(JOINT if self.config.ctc else ATTENTION))

    def to_json(self) -> str:
        """Returns the content of the description file."""
        return json.dumps({
            "format_version": FORMAT_VERSION,
            "aocr_version": aocr.__version__,
            "model": dataclasses.asdict(self.config),
            "network": network_numbers(self.config),
            "decoding": self.decoding._asdict(),
            "temperature": self.temperature,
            "charset": list(self.charset.characters),
            "preprocessing": {"version": preprocess.VERSION, "height": IMAGE_HEIGHT,
                              "canvas_width": self.config.canvas_width, "channels": self.config.channels},
        }, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, content: str, path: str) -> "Description":
        """Parses a description file. UserError, naming `path`, if it is of another version or broken."""
        try:
            values = load_json(content)
            version = values["format_version"]
            if version != FORMAT_VERSION or values["preprocessing"]["version"] != preprocess.VERSION:
                raise UserError(f"{path}: format {version}, preprocessing {values['preprocessing']['version']}; this "
                                f"aocr {aocr.__version__} reads format {FORMAT_VERSION}, preprocessing "
                                f"{preprocess.VERSION}. Use aocr {values['aocr_version']}")
            options = dict(UNSAID, **dict(values["model"].items()))
            for field in dataclasses.fields(ModelConfig):
                if type(value := options.get(field.name, field.default)) is not field.type:
                    raise TypeError(f"{field.name} is {value!r}, not {type(field.default).__name__}")
            if not isinstance(values["charset"], list):
                raise TypeError("charset is not a list")
            "".join(values["charset"]).encode()  # raises unless all are valid text
            config = ModelConfig(**options)
            if values.get("network", network_numbers(config)) != network_numbers(config):
                raise UserError(f"{path}: the network {config.cnn} of aocr {values['aocr_version']} differs from that "
                                f"of this aocr {aocr.__version__}; use the former version")
            decoding = Decoding(**values["decoding"]) if "decoding" in values else None
            if decoding:
                check_decoding(decoding, config)
            temperature = values.get("temperature", UNCALIBRATED)
            if type(temperature) not in (int, float) or not LEAST <= temperature <= MOST:
                raise ValueError(f"temperature is {temperature!r}")
            return cls(config, Charset(values["charset"], config.graphemes),
                       decoding, float(temperature))  # type: ignore[arg-type]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(f"{path}: broken description ({error!r}); restore it from a copy") from None


def network_numbers(config: ModelConfig) -> dict[str, Any]:
    """Returns the parameters of a model's network as stored in a description."""
    return {"stride": config.network.stride, "layers": [
        {name: list(value) if isinstance(value, tuple) else value for name, value in layer._asdict().items()}
        for layer in config.network.layers]}


def check_decoding(decoding: Decoding, config: ModelConfig) -> None:
    """Raises ValueError if a Decoding is invalid, or not available to a model of this config."""
    if decoding.method not in DECODINGS or not 0.0 <= decoding.ctc_share <= 1.0:
        raise ValueError(f"invalid decoding {decoding}")
    if decoding.method != ATTENTION and not config.ctc:
        raise ValueError(f"decoding {decoding.method} without a CTC branch")


def read_description(model_dir: str) -> Description | None:
    """Returns the description in a model directory, None if it is absent. UserError if it cannot be read."""
    return description_at(posixpath.join(model_dir, DESCRIPTION_NAME))


def description_at(path: str) -> Description | None:
    """Returns the description in a file, None if it is absent. UserError if it cannot be read."""
    try:
        return Description.from_json(read_bytes(path).decode(), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: broken description ({error}); restore it from a copy") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {cause(error)}; make it readable or restore it from a copy") from None


def write_description(model_dir: str, description: Description) -> None:
    """Writes the description atomically."""
    write_text(posixpath.join(model_dir, DESCRIPTION_NAME), description.to_json())


def set_decoding(model_dir: str, decoding: Decoding) -> None:
    """Makes this the decoding of a model directory's description, if it is another one."""
    description = read_description(model_dir)
    if description and description.decoding != decoding:
        write_description(model_dir, dataclasses.replace(description, decoding=decoding))


def set_temperature(model_dir: str, temperature: float) -> bool:
    """Makes this the temperature of a model directory's description. Returns whether it was another one."""
    description = read_description(model_dir)
    changes = bool(description and description.temperature != temperature)
    if description and changes:
        write_description(model_dir, dataclasses.replace(description, temperature=temperature))
    return changes


def latest_checkpoint(model_dir: str) -> str | None:
    """Returns the newest checkpoint's path without suffix; None if the directory holds none. UserError if unreadable.
    """
    found = _checkpoints(model_dir)
    return found[0] if found else None


def known_checkpoints(directory: str) -> list[str]:
    """Returns the paths, without suffix, of the checkpoints in a directory, oldest first. UserError if unreadable.

    Its state file may name files elsewhere. They can be read, but are another model's: not to be hidden or deleted.
    """
    return [path for path in _checkpoints(directory)[::-1] if _is_in(directory, path)]


def _is_in(directory, path):
    parents = posixpath.dirname(path), directory
    return len({parent if is_remote(parent) else os.path.realpath(parent) for parent in parents}) == 1


def _checkpoints(directory):
    """Returns the paths of the checkpoints that a directory's state file names and whose files exist, newest first.
    UserError if the state file is broken, or if none of the files it names exists.
    """
    path = posixpath.join(directory, STATE_NAME)
    named = found = []
    for _ in range(TRIES):
        before, named = named, _named_checkpoints(directory, path)
        found = [name for name in named if is_there(name)]
        if found or named == before:  # else a training may have replaced them meanwhile
            break
    if not named:
        return []
    newest = named[0]
    if not found:
        raise UserError(f"{path}: names {newest}, but neither its files nor older ones exist; restore them from a "
                        f"copy, or remove {path} to start from scratch")
    if found[0] != newest:
        log.warning("%s names %s, whose files are missing; using %s, the newest that exists", path, newest, found[0])
    return found


def _named_checkpoints(directory, path):
    """Returns the paths that a directory's state file, `path`, names, newest first. UserError if it is broken."""
    try:
        read_bytes(path)  # tf.train takes an unreadable file for a missing one; training would start from scratch
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {cause(error)}") from None
    try:
        state = tf.train.get_checkpoint_state(directory)
    except ValueError:  # an empty file
        state = None
    if not state and not tf.io.gfile.exists(path):  # removed in the meantime
        return []
    if not state:
        raise UserError(f"{path}: broken list of checkpoints; restore it from a copy, or remove it to start from "
                        "scratch")
    newest = state.model_checkpoint_path
    named = [newest, *(name for name in reversed(state.all_model_checkpoint_paths) if name != newest)]
    # A copied directory may name the files of the one before.
    copies = [posixpath.join(directory, posixpath.basename(name)) for name in named]
    return list(dict.fromkeys(copy if not _is_in(directory, name) and is_there(copy) else name
                              for name, copy in zip(named, copies)))


def keep_checkpoints(directory: str, paths: Sequence[str]) -> None:
    """Hides all but these checkpoints of a directory from later commands: paths, oldest first."""
    names = [posixpath.basename(path) for path in paths]  # relative, so that the directory can be moved
    write_text(posixpath.join(directory, STATE_NAME), f'model_checkpoint_path: "{names[-1]}"\n' + "".join(
        f'all_model_checkpoint_paths: "{name}"\n' for name in names))


def step_of(path: str) -> int:
    """Returns the global step in a checkpoint's name; -1 if it has none."""
    step = path.rpartition("-")[2]
    return int(step) if step.isdecimal() else -1


def copy_checkpoint(path: str, directory: str) -> None:
    """Copies a checkpoint (without suffix) to a directory, replacing all there. Raises tf.errors.OpError or OSError."""
    make_directory(directory)
    before = known_checkpoints(directory)
    copy = posixpath.join(directory, posixpath.basename(path))
    if copy in before:
        hide_checkpoint(copy)
    for file in files_of(path):
        tf.io.gfile.copy(file, posixpath.join(directory, posixpath.basename(file)), overwrite=True)
    if not is_there(copy):
        raise tf.errors.NotFoundError(None, None, f"{path} no longer exists")
    keep_checkpoints(directory, [copy])
    for old in before:
        if old != copy:
            remove_checkpoint(old)


def remove_checkpoint(path: str) -> None:
    """Deletes the files of a checkpoint (path without suffix), the index first. A failure is only logged."""
    try:
        for file in sorted(files_of(path), key=lambda file: not file.endswith(".index")):
            tf.io.gfile.remove(file)
    except tf.errors.OpError as error:
        log.warning("%s: the old checkpoint cannot be deleted: %s", path, cause(error))


def forget_checkpoints(model_dir: str) -> None:
    """Hides the directory's checkpoints from later commands. The files stay until new ones replace them."""
    state = posixpath.join(model_dir, STATE_NAME)
    if tf.io.gfile.exists(state):
        tf.io.gfile.remove(state)


def hide_checkpoint(path: str) -> None:
    """Hides one checkpoint from later commands, as it is about to be overwritten, which may be interrupted."""
    directory = posixpath.dirname(path)
    others = [known for known in known_checkpoints(directory) if known != path]
    if others:
        keep_checkpoints(directory, others)
    else:
        forget_checkpoints(directory)


def with_flags(description: Description, given: dict[str, Any], charset: Charset | None,
               model_dir: str) -> Description:
    """Returns the stored description with the given limits (LIMITS), which may differ from run to run.

    Raises: UserError, naming both values, if another given model flag contradicts the stored model.
    """
    asked = ModelConfig(**given)  # which spells values canonically
    for field in dataclasses.fields(ModelConfig):
        stored = getattr(description.config, field.name)
        if field.name in given and field.name not in LIMITS and getattr(asked, field.name) != stored:
            raise usage_error(f"{flags_of(field)[0]} is {given[field.name]}, but the model in {model_dir} has "
                              f"{stored}; leave the flag out")
    if charset and description.charset != charset:
        flag = "--full-ascii" if charset == Charset(FULL_ASCII) else "--charset"
        raise usage_error(f"{flag} asks for {charset.summary()}; but the model in {model_dir} has "
                          f"{description.charset.summary()}; leave the flag out")
    limits = {name: given[name] for name in LIMITS if name in given}
    return dataclasses.replace(description, config=dataclasses.replace(description.config, **limits))


def attempt(restore: Callable[[str], Restored], checkpoint: str) -> Restored:
    """Returns `restore(checkpoint)`. UserError if the files are broken or do not fit."""
    try:
        return restore(checkpoint)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"{checkpoint}: cannot be restored: {cause(error)}; use another checkpoint or model "
                        "directory") from None


class Trained(NamedTuple):
    """A trained model that was found, but is not built yet."""

    network: AnyNetwork
    decoding: Decoding
    checkpoint: str
    weights: dict[str, np.ndarray]  # by their names in the checkpoint
    temperature: float = UNCALIBRATED

    @property
    def config(self) -> ModelConfig:
        """The network's config."""
        return self.network.config

    @property
    def charset(self) -> Charset:
        """The network's charset."""
        return self.network.charset

    @property
    def is_original(self) -> bool:
        """Whether the original aocr wrote it."""
        return isinstance(self.network, original.OriginalNetwork)

    def search(self, config: SearchConfig) -> Search:
        """Returns the search that some options describe. UserError as of search.search_of."""
        return search_of(config, self.charset, self.network.decoder_steps - 1)

    def open(self, **how: Any) -> Model:
        """Returns the model with weights; keyword arguments as of model.open_model. UserError if they do not fit."""
        model = open_model(self.network, decoding=self.decoding, temperature=self.temperature, **how)
        try:
            model.take(self.weights, self.checkpoint)
        except BaseException:
            model.session.close()
            raise
        return model


def find_model(model_dir: str, given: dict[str, Any], charset: Charset | None = None, which: str | None = None,
               decoding: str | None = None) -> Trained:
    """Finds the trained model in a directory and reads its weights.

    Args:
      given: ModelConfig fields, and charset: the user's settings. They must not contradict the description; a directory
        that the original wrote has no description, only these settings.
      decoding: method; None: the one that read best when the checkpoint was validated, or else the description's.
      which: `last`, `best`, the path of a checkpoint (without suffix), or None: the best if it exists, else the last.

    Raises: UserError if no model is found, or if its weights cannot be read or are not finite.
    """
    checkpoint, weights = _find_weights(model_dir, which)
    description = read_description(model_dir)
    if description:
        description = with_flags(description, given, charset, model_dir)
        description = dataclasses.replace(description, decoding=_validated_decoding(checkpoint, description, model_dir))
        return Trained(Network(description.config, description.charset),
                       _chosen(decoding, description, model_dir), checkpoint, weights, description.temperature)
    if original.is_original(weights):
        try:
            description = Description(*original.settings(checkpoint, given, charset))
        except (LookupError, ArithmeticError) as error:
            raise UserError(f"{checkpoint}: variables of the original's model are missing or of another shape "
                            f"({error}); restore it from a copy") from None
        return Trained(original.OriginalNetwork(description.config, description.charset),
                       _chosen(decoding, description, model_dir), checkpoint, weights)
    raise UserError(f"{model_dir}: no {DESCRIPTION_NAME} beside the checkpoint; restore it from a copy")


def _validated_decoding(checkpoint, description, model_dir):
    """The Decoding that read best in a checkpoint's own validation; without one, that of the Description."""
    directory = model_dir.rstrip("/")
    own = posixpath.dirname(checkpoint) in (directory, posixpath.join(directory, BEST_NAME))
    found = own and Validations.read(posixpath.join(model_dir, validations.NAME)).at(step_of(checkpoint))
    if not found:
        return description.decoding
    decoding = Decoding(found["decoding"], found["ctc_share"])
    try:
        check_decoding(decoding, description.config)
    except ValueError as error:
        raise UserError(f"{posixpath.join(model_dir, validations.NAME)}: {error}; restore it from a copy, or remove "
                        "it") from None
    return decoding


def _chosen(method, description, model_dir):
    """Returns a Description's Decoding, by another method if requested. UserError if the model lacks it."""
    decoding = description.decoding
    if method and method != decoding.method:
        decoding = Decoding(method, decoding.ctc_share)
    try:
        check_decoding(decoding, description.config)
    except ValueError:
        raise usage_error(f"--decoding {method}: the model in {model_dir} has no CTC branch; use "
                          f"{ATTENTION}") from None
    return decoding


def _find_weights(model_dir, which):
    """Returns the path of a checkpoint, as for `find_model`, and its weights; chooses again if a training deletes it
    meanwhile. UserError if they cannot be read.
    """
    for _ in range(TRIES):
        checkpoint = _find_checkpoint(model_dir, which)
        try:
            return checkpoint, attempt(read_weights, checkpoint)
        except UserError:
            if is_there(checkpoint):
                raise
        log.info("%s: deleted before it was read; choosing again", checkpoint)
    raise UserError(f"{model_dir}: {TRIES} checkpoints were deleted before they were read; train with a larger --keep "
                    "or --steps-per-checkpoint, or try again")


def _find_checkpoint(model_dir, which):
    """Returns the path of a checkpoint, as for `find_model`. UserError if it does not exist."""
    if which not in (None, LAST, BEST):
        if not is_there(which):
            raise UserError(f"--checkpoint {which}: no such checkpoint; give {LAST}, {BEST} or a path without suffix, "
                            f"such as {posixpath.join(model_dir, CHECKPOINT_PREFIX)}-100")
        return which
    last = latest_checkpoint(model_dir)
    best = latest_checkpoint(posixpath.join(model_dir, BEST_NAME)) if which != LAST else None
    if which == BEST and not best:
        raise UserError(f"{model_dir}: no best checkpoint there; train with --validation or --validation-split, or "
                        f"give --checkpoint {LAST}")
    if not (best or last):
        raise UserError(f"{model_dir}: no checkpoint there; train one with `aocr train` or name another --model-dir")
    if best and not which:
        log.info("using the best checkpoint, %s; --checkpoint %s selects the newest", best, LAST)
    return best or last
