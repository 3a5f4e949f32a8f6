"""The model directory: its description, its checkpoints, and opening what it holds."""

import dataclasses
import json
import logging
import posixpath
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import tensorflow.compat.v1 as tf

import aocr
from aocr import legacy
from aocr.charset import FULL_ASCII, Charset
from aocr.config import ATTENTION, DECODINGS, IMAGE_HEIGHT, JOINT, Decoding, ModelConfig, flags_of
from aocr.errors import UserError, usage_error
from aocr.evaluation import validations
from aocr.evaluation.validations import Validations
from aocr.files import cause, load_json, make_directory, read_bytes, write_text
from aocr.graph import preprocess
from aocr.model import Model, open_model
from aocr.network import AnyNetwork, Network
from aocr.networks import ORIGINAL

log = logging.getLogger(__name__)

DESCRIPTION_NAME = "model.json"
FORMAT_VERSION = 1
CHECKPOINT_PREFIX = "model.ckpt"
STATE_NAME = "checkpoint"  # TensorFlow's file that tells which checkpoints there are
BEST_NAME = "best"  # the directory of the best checkpoint, in that of the model
LAST, BEST = "last", "best"  # names of checkpoints
# What models are whose description does not say so, being older than these options.
UNSAID = dict(cnn=ORIGINAL, attention_units=0, ctc=False, right_to_left=False)

Restored = TypeVar("Restored")  # what restoring gives: see `attempt`


@dataclasses.dataclass(frozen=True)
class Description:
    """What a model directory says of its weights."""

    config: ModelConfig
    charset: Charset
    decoding: Decoding = None  # type: ignore[assignment]  # that reads best, as far as is known; None: joint, with CTC

    def __post_init__(self) -> None:
        if not self.decoding:
            object.__setattr__(self, "decoding", Decoding(JOINT if self.config.ctc else ATTENTION))

    def to_json(self) -> str:
        """The content of the description file."""
        return json.dumps({
            "format_version": FORMAT_VERSION,
            "aocr_version": aocr.__version__,
            "model": dataclasses.asdict(self.config),
            "network": network_numbers(self.config),
            "decoding": self.decoding._asdict(),
            "charset": list(self.charset.characters),
            "preprocessing": {"version": preprocess.VERSION, "height": IMAGE_HEIGHT,
                              "canvas_width": self.config.canvas_width, "channels": self.config.channels},
        }, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, content: str, path: str) -> "Description":
        """From a description file's content. UserError, naming `path`, if it is not of this version or broken."""
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
                    raise TypeError(f"{field.name} is {value!r}, no {type(field.default).__name__}")
            if not isinstance(values["charset"], list):
                raise TypeError("charset is no list")
            "".join(values["charset"]).encode()  # what is no text does not pass here
            config = ModelConfig(**options)
            if values.get("network", network_numbers(config)) != network_numbers(config):
                raise UserError(f"{path}: the network {config.cnn} of aocr {values['aocr_version']} is not that of "
                                f"this aocr {aocr.__version__}; use that version")
            decoding = Decoding(**values["decoding"]) if "decoding" in values else None
            if decoding:
                check_decoding(decoding, config)
            return cls(config, Charset(values["charset"], config.graphemes), decoding)  # type: ignore[arg-type]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: broken description ({error!r}); restore it from a copy") from None


def network_numbers(config: ModelConfig) -> dict[str, Any]:
    """The numbers of a model's network as they stand in a description."""
    return {"stride": config.network.stride, "layers": [
        {name: list(value) if isinstance(value, tuple) else value for name, value in layer._asdict().items()}
        for layer in config.network.layers]}


def check_decoding(decoding: Decoding, config: ModelConfig) -> None:
    """ValueError if a Decoding is none, or a model of this config cannot do it."""
    if decoding.method not in DECODINGS or not 0.0 <= decoding.ctc_share <= 1.0:
        raise ValueError(f"decoding {decoding}")
    if decoding.method != ATTENTION and not config.ctc:
        raise ValueError(f"decoding {decoding.method} without a CTC branch")


def read_description(model_dir: str) -> Description | None:
    """The description in a model directory, None if there is none. UserError if it cannot be read."""
    path = posixpath.join(model_dir, DESCRIPTION_NAME)
    if not tf.io.gfile.exists(path):
        return None
    try:
        return Description.from_json(read_bytes(path).decode(), path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: broken description ({error}); restore it from a copy") from None


def write_description(model_dir: str, description: Description) -> None:
    """Writes the description, complete at once."""
    write_text(posixpath.join(model_dir, DESCRIPTION_NAME), description.to_json())


def set_decoding(model_dir: str, decoding: Decoding) -> None:
    """Makes this the decoding of a model directory's description, if it is another one."""
    description = read_description(model_dir)
    if description and description.decoding != decoding:
        write_description(model_dir, dataclasses.replace(description, decoding=decoding))


def is_there(path: str) -> bool:
    """Whether the files of a checkpoint (path without suffix) are there."""
    return tf.io.gfile.exists(f"{path}.index") and bool(tf.io.gfile.glob(f"{path}.data-*"))


def latest_checkpoint(model_dir: str) -> str | None:
    """Path of the newest checkpoint, without suffix; None if the directory holds none. UserError if unreadable."""
    there = _checkpoints(model_dir)
    return there[0] if there else None


def known_checkpoints(directory: str) -> list[str]:
    """Paths, without suffix, of the checkpoints that a directory holds, the oldest first. UserError if unreadable."""
    return _checkpoints(directory)[::-1]


def _checkpoints(directory):
    """Paths of the checkpoints that a directory's state names and whose files are there, the one to take first.
    UserError if the state is broken, or if no file of what it names is there.
    """
    path = posixpath.join(directory, STATE_NAME)
    try:
        read_bytes(path)  # for tf.train, one that cannot be read is none, and training would start afresh
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {cause(error)}") from None
    try:
        state = tf.train.get_checkpoint_state(directory)
    except ValueError:  # of an empty file
        state = None
    if not state and not tf.io.gfile.exists(path):  # forgotten just now
        return []
    if not state:
        raise UserError(f"{path}: does not tell what checkpoints there are; restore it from a copy, or remove it to "
                        "start afresh")
    newest = state.model_checkpoint_path
    named = [newest, *(name for name in reversed(state.all_model_checkpoint_paths) if name != newest)]
    there = [name for name in named if is_there(name)]
    if not there:
        raise UserError(f"{path}: names {newest}, but neither its files nor older ones are there; restore them from a "
                        f"copy, or remove {path} to start afresh")
    if there[0] != newest:
        log.warning("%s names %s, whose files are missing; %s is the newest that is there", path, newest, there[0])
    return there


def keep_checkpoints(directory: str, paths: Sequence[str]) -> None:
    """Makes all but these checkpoints of a directory unknown to later commands: paths, the oldest first."""
    names = [posixpath.basename(path) for path in paths]  # relative, so that the directory can be moved
    write_text(posixpath.join(directory, STATE_NAME), f'model_checkpoint_path: "{names[-1]}"\n' + "".join(
        f'all_model_checkpoint_paths: "{name}"\n' for name in names))


def step_of(path: str) -> int:
    """The global step that a checkpoint's name tells; -1 if it tells none."""
    step = path.rpartition("-")[2]
    return int(step) if step.isdecimal() else -1


def copy_checkpoint(path: str, directory: str) -> None:
    """Copies a checkpoint (without suffix) to a directory, as the only one there. Raises tf.errors.OpError or OSError.
    """
    make_directory(directory)
    before = known_checkpoints(directory)
    copy = posixpath.join(directory, posixpath.basename(path))
    if copy in before:
        hide_checkpoint(copy)
    for file in tf.io.gfile.glob(f"{path}.*"):
        tf.io.gfile.copy(file, posixpath.join(directory, posixpath.basename(file)), overwrite=True)
    if not is_there(copy):
        raise tf.errors.NotFoundError(None, None, f"{path} is gone")
    keep_checkpoints(directory, [copy])
    for old in before:
        if old != copy:
            for file in tf.io.gfile.glob(f"{old}.*"):
                tf.io.gfile.remove(file)


def forget_checkpoints(model_dir: str) -> None:
    """Makes the directory's checkpoints unknown to later commands. The files stay, until new ones replace them."""
    state = posixpath.join(model_dir, STATE_NAME)
    if tf.io.gfile.exists(state):
        tf.io.gfile.remove(state)


def hide_checkpoint(path: str) -> None:
    """Makes one checkpoint unknown to later commands, since it is to be written over, which may be cut short."""
    directory = posixpath.dirname(path)
    others = [known for known in known_checkpoints(directory) if known != path]
    if others:
        keep_checkpoints(directory, others)
    else:
        forget_checkpoints(directory)


def check_flags(description: Description, given: dict[str, Any], charset: Charset | None, model_dir: str) -> None:
    """Raises UserError, naming both values, if a given model flag contradicts the stored model."""
    for field in dataclasses.fields(ModelConfig):
        stored = getattr(description.config, field.name)
        if field.name in given and given[field.name] != stored:
            raise usage_error(f"{flags_of(field)[0]} is {given[field.name]}, but the model in {model_dir} has "
                              f"{stored}; leave the flag out")
    if charset and description.charset != charset:
        flag = "--full-ascii" if charset == Charset(FULL_ASCII) else "--charset"
        raise usage_error(f"{flag} asks for {charset.summary()}; but the model in {model_dir} has "
                          f"{description.charset.summary()}; leave the flag out")


def attempt(restore: Callable[[str], Restored], checkpoint: str) -> Restored:
    """`restore(checkpoint)`. UserError if the files are broken or do not fit."""
    try:
        return restore(checkpoint)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"{checkpoint}: cannot be restored: {cause(error)}; use another checkpoint or model "
                        "directory") from None


class Trained(NamedTuple):
    """A trained model that was found, but not built yet."""

    network: AnyNetwork
    decoding: Decoding
    checkpoint: str

    @property
    def config(self) -> ModelConfig:
        """The network's."""
        return self.network.config

    @property
    def charset(self) -> Charset:
        """The network's."""
        return self.network.charset

    @property
    def is_original(self) -> bool:
        """Whether the original wrote it."""
        return isinstance(self.network, legacy.OriginalNetwork)

    def open(self, **how: Any) -> Model:
        """The model, its weights restored; keyword arguments as of model.open_model. UserError if they cannot be."""
        model = open_model(self.network, decoding=self.decoding, **how)
        attempt(model.restore, self.checkpoint)
        return model


def find_model(model_dir: str, given: dict[str, Any], charset: Charset | None = None, which: str | None = None,
               decoding: str | None = None) -> Trained:
    """The trained model in a directory.

    Args:
      given: ModelConfig fields, and charset: what the user set. They must not contradict the description; for a
        directory that the original wrote, which has none, they are all that is known.
      decoding: method; None: the one that read best when the checkpoint was validated, or that of the description.
      which: `last`, `best`, the path of a checkpoint (without suffix), or None: the best where there is one.

    Raises: UserError if there is none.
    """
    checkpoint = _find_checkpoint(model_dir, which)
    description = read_description(model_dir)
    if description:
        check_flags(description, given, charset, model_dir)
        description = dataclasses.replace(description, decoding=_validated_decoding(checkpoint, description, model_dir))
        return Trained(Network(description.config, description.charset),
                       _chosen(decoding, description, model_dir), checkpoint)
    if legacy.is_original(checkpoint):
        description = Description(*legacy.settings(checkpoint, given, charset))
        return Trained(legacy.OriginalNetwork(description.config, description.charset),
                       _chosen(decoding, description, model_dir), checkpoint)
    raise UserError(f"{model_dir}: no {DESCRIPTION_NAME} beside the checkpoint; restore it from a copy")


def _validated_decoding(checkpoint, description, model_dir):
    """The Decoding that read best in a checkpoint's own validation; without one, that of the Description."""
    own = posixpath.dirname(checkpoint) in (model_dir, posixpath.join(model_dir, BEST_NAME))
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
    """The Decoding of a Description, by another method if one is asked for. UserError if the model cannot do that."""
    decoding = description.decoding
    if method and method != decoding.method:
        decoding = Decoding(method, decoding.ctc_share)
    try:
        check_decoding(decoding, description.config)
    except ValueError:
        raise usage_error(f"--decoding {method}: the model in {model_dir} has no CTC branch; it decodes by "
                          f"{ATTENTION} only") from None
    return decoding


def _find_checkpoint(model_dir, which):
    """The path of a checkpoint, as `find_model`. UserError if there is none."""
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
        log.info("%s is the best checkpoint; --checkpoint %s takes the newest", best, LAST)
    return best or last
