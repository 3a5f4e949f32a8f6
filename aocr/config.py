"""All options, each with its default, meaning and limits, stated once.

The command line is generated from these classes (`commands/flags.py`), so a default stands nowhere else.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aocr.evaluation.metrics import METRICS
from aocr.networks import NETWORKS, Network

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

Pixels = TypeVar("Pixels", int, "tf.Tensor")  # a number of pixels, in Python or in a graph

IMAGE_HEIGHT = 32  # pixels; every image is scaled to this height
WIDEST_CANVAS = 2048  # pixels at height 32; the widest canvas that is derived from data
NO_AUGMENTATION, AUTO_AUGMENTATION = "none", "auto"
NETWORK_PARTS = ("cnn", "encoder", "decoder")  # scopes of the network's variables, which can be frozen
WEIGHT_SCOPES = (*NETWORK_PARTS, "ctc")
CACHED_BYTES = 256 << 20  # of prepared images, up to which they are kept in memory
AUGMENTED_RECORDS = 50_000  # up to which `--augment auto` varies images
DECODINGS = ATTENTION, CTC, JOINT = "attention", "ctc", "joint"


class Decoding(NamedTuple):
    """How a model comes to the text that it reads."""

    method: str
    ctc_share: float = 0.3  # of joint decoding's score, in [0, 1]; the rest is the attention's


# What else a run does unless told, by optimizer: what reads soonest with Adam, and with AdaDelta what the original did.
SOONEST = dict(initial_learning_rate=1e-3, ema=0.98, dropout=0.2, initializer="he", max_gradient_norm=1.0,
               guided_attention=1.0)
ORIGINAL = dict(initial_learning_rate=1.0, ema=0.0, dropout=0.5, initializer="glorot",
                max_gradient_norm=5.0, guided_attention=0.0)
CTC_WEIGHT = 0.6  # where nobody says another one
MOST_IMAGES, BATCH_COLUMNS, ORIGINAL_BATCH = 16, 6_400, 65  # of a training batch unless told: see `--batch-size`
RECIPES = {"adam": SOONEST, "adamw": SOONEST, "adadelta": ORIGINAL}


def scaled_width(width: Pixels, height: Pixels) -> Pixels:
    """Width after scaling to height 32, rounded half up; may be 0. Works on Python integers and integer tensors."""
    return (2 * width * IMAGE_HEIGHT + height) // (2 * height)


def option(default: Any, help: str, flags: tuple[str, ...] | None = None, least: float | None = None,
           most: float | None = None, above: float | None = None, choices: tuple[str, ...] | None = None,
           negated: bool = False) -> Any:
    """A dataclass field that is also a command line option.

    `flags`: its names (default: the field's name with dashes). `negated`: a switch that turns a True default off.
    `choices`, `least`, `most`, `above`: limits, checked when the class is made. A field of type tuple is an option
    that may be repeated.
    """
    metadata = dict(help=help, flags=flags, least=least, most=most, above=above, choices=choices, negated=negated)
    return dataclasses.field(default=default, metadata=metadata)


def derived(default: Any) -> Any:
    """A field that no flag sets: it follows from the data, or from other options."""
    return option(default, "", flags=())


def by_optimizer(name: str, help: str, **limits: Any) -> Any:
    """An option of TrainConfig whose default depends on the optimizer; `name`: the field's."""
    default = f"(default: {SOONEST[name]}; with --optimizer adadelta {ORIGINAL[name]})"
    return option(None, f"{help} {default}", **limits)


def precision_option() -> Any:
    """`--precision`, of the commands whose work is large enough for it to count."""
    return option("float32", "number format of the convolutions: bfloat16 is faster on GPUs since 2020 and on "
                             "processors with AVX512_BF16 or AMX, slower elsewhere; weights stay float32",
                  choices=("float32", "bfloat16"))


def graphemes_option() -> Any:
    """`--graphemes`, of what counts the characters of labels; the clusters are those of UAX #29."""
    return option(False, "a character is an extended grapheme cluster (a letter with its combining marks) instead of a "
                         "code point")


def augment_option(default: str) -> Any:
    """`--augment`; what the names stand for is in aocr/augmentation.py."""
    return option(default, "random variation of the training images: none; a built-in recipe (light, scan, scene, "
                           f"captcha, plate); auto: light up to {AUGMENTED_RECORDS:,} images, none above and with "
                           "--optimizer adadelta; or the path of a JSON recipe")


def flags_of(field: dataclasses.Field) -> tuple[str, ...]:
    """The command line names of a dataclass field, the first one being its main name."""
    flags = field.metadata["flags"]
    return ("--" + field.name.replace("_", "-"),) if flags is None else flags


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of the option classes: checks the limits that the fields declare."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, limits = getattr(self, field.name), field.metadata
            if value is None:
                continue
            name = flags_of(field)[0] if flags_of(field) else field.name
            if limits["choices"] and value not in limits["choices"]:
                raise ValueError(f"{name} is {value!r}; give one of {', '.join(limits['choices'])}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; give a finite number")
            if limits["least"] is not None and value < limits["least"]:
                raise ValueError(f"{name} is {value}; the least is {limits['least']}")
            if limits["most"] is not None and value > limits["most"]:
                raise ValueError(f"{name} is {value}; the most is {limits['most']}")
            if limits["above"] is not None and value <= limits["above"]:
                raise ValueError(f"{name} is {value}; give a number above {limits['above']}")


@dataclasses.dataclass(frozen=True)
class ModelConfig(Options):
    """The architecture: stored with the weights, and fixed for the life of a model directory."""

    max_width: int = option(160, "width of the widest image, at a height of --max-height", least=1)
    max_height: int = option(60, "height that --max-width is meant for; the canvas is "
                                 "ceil(max_width / max_height * 32) pixels wide and 32 high", least=1)
    max_prediction: int = option(8, "length of the longest label, in characters", least=1, most=1000)
    graphemes: bool = graphemes_option()
    color: bool = option(False, "read images in three channels instead of grey")
    use_gru: bool = option(False, "GRU cells instead of LSTM, in the encoder and the decoder")
    attn_num_layers: int = option(1, "layers of the decoder", least=1, most=16)
    attn_num_hidden: int = option(128, "units of each decoder layer; the encoder has --attn-num-layers times as many "
                                       "in each direction", least=1, most=4096)
    target_embedding_size: int = option(10, "size of the character embedding", least=1, most=4096)
    cnn: str = option("compact", "convolutional network; original is the original aocr's", choices=tuple(NETWORKS))
    attention_units: int = option(128, "units that attention compares its query and the memory in; 0: as many as the "
                                       "memory has, as in the original", least=0, most=4096)
    ctc: bool = derived(True)  # whether there is a CTC branch
    right_to_left: bool = derived(False)  # whether labels begin at the right end of their images

    @property
    def canvas_width(self) -> int:
        """Width in pixels, at height 32, beyond which an image is squeezed."""
        return -(-self.max_width * IMAGE_HEIGHT // self.max_height)

    @property
    def network(self) -> Network:
        """The convolutional network."""
        return NETWORKS[self.cnn]

    @property
    def channels(self) -> int:
        """Channels of the network's input: 1 or 3."""
        return 3 if self.color else 1

    @property
    def image_bytes(self) -> int:
        """Memory that a prepared image of the canvas' size takes, as float32."""
        return 4 * IMAGE_HEIGHT * self.canvas_width * self.channels

    @property
    def encoder_units(self) -> int:
        """Units of the encoder in each direction."""
        return self.attn_num_layers * self.attn_num_hidden


@dataclasses.dataclass(frozen=True)
class TrainConfig(Options):
    """How weights are trained; not part of the model."""

    batch_size: int = option(None, "images of the mean width in a training batch; of wider images there are fewer in "
                                   f"it, of narrower ones more (default: {MOST_IMAGES}, fewer where the mean width is "
                                   f"above {BATCH_COLUMNS // MOST_IMAGES} pixels at height {IMAGE_HEIGHT}; with "
                                   f"--optimizer adadelta {ORIGINAL_BATCH})", least=1)
    ctc_weight: float = option(None, "share of CTC in the loss; 0: no CTC branch, as in the original (default: "
                                     f"{CTC_WEIGHT})", least=0.0, most=1.0)
    guided_attention: float = by_optimizer("guided_attention", "weight of the penalty that keeps attention near the "
                                           "diagonal until the decoder reads; 0: none", least=0.0, most=100.0)
    num_epoch: int = option(1000, "times that this run goes through the data", least=1)
    max_steps: int = option(None, "end this run after so many steps", least=1)
    max_minutes: float = option(None, "end this run after so many minutes, start-up included; a resumed run continues "
                                      "with the rest of them", above=0.0)
    steps_per_checkpoint: int = option(100, "steps between two checkpoints", least=1)
    keep: int = option(5, "newest checkpoints to keep, besides the best one", least=1)
    validation: str = option(None, "dataset to validate on, or a pattern of several")
    validation_split: float = option(None, "share of the dataset to hold out for validation", above=0.0, most=0.5)
    validate_every: int = option(None, "steps between two validations (default: --steps-per-checkpoint)", least=1)
    monitor: str = option("cer", "validation metric that selects the best checkpoint; exact is short for exact_match",
                          choices=(*METRICS, "exact"))
    patience: int = option(None, "end the run after so many validations in a row without improvement", least=1)
    log_step: int = option(10, "steps between two log lines and TensorBoard points, each the mean over those steps",
                           least=1)
    resume: bool = option(True, "start from scratch, even if the model directory holds a checkpoint",
                          flags=("--no-resume",), negated=True)
    seed: int = option(0, "seed of the initial weights, the order of the samples, the dropout and the "
                       "augmentation", least=0, most=2**31 - 1)
    optimizer: str = option("adam", "optimizer; adadelta trains as the original aocr did",
                            choices=tuple(RECIPES))
    initial_learning_rate: float = by_optimizer("initial_learning_rate", "learning rate", least=0.0)
    warm_up: int = option(0, "first steps of this run, during which the rate rises linearly to the initial one",
                          least=0)
    schedule: str = option("auto", "learning rate over this run: constant; cosine (constant for a third of the run, "
                                   "then down to 0); plateau (halved after every three validations in a row without "
                                   "improvement); auto: cosine with --max-steps or --max-minutes, else constant, and "
                                   "always constant with --optimizer adadelta",
                           choices=("auto", "constant", "cosine", "plateau"))
    weight_decay: float = option(0.01, "weight decay of adamw on kernels",
                                 least=0.0, most=1.0)
    ema: float = by_optimizer("ema", "decay of the moving average of the weights that is used for reading (0: none; "
                                     "0.99 averages about a hundred steps)", least=0.0, most=0.99999)
    accumulate: int = option(1, "batches per step, whose gradients are averaged", least=1)
    label_smoothing: float = option(0.0, "share of a target's probability to spread evenly over all characters",
                                    least=0.0, most=0.9)
    dropout: float = by_optimizer("dropout", "dropout rate of the features in training", least=0.0, most=0.95)
    initializer: str = by_optimizer("initializer", "initializer of convolutions without batch norm (all else is "
                                                   "Glorot's): he or glorot", choices=("he", "glorot"))
    forget_bias: float = option(0.0, "initial bias of the forget gates of LSTMs", least=-10.0, most=10.0)
    freeze: str = option("", "parts not to train, separated by commas: cnn, encoder, decoder")
    init_from: str = option(None, "model directory to initialize a new model from; also one that the original aocr "
                                  "wrote")
    charset_change: str = option("union", "charset of a model initialized by --init-from: union of the old one and "
                                          "that of the data, new (the data's alone), or fail if the data need more",
                                 choices=("union", "new", "fail"))
    on_nan: str = option("stop", "at a NaN or infinite loss, or one above 10 x ln V: stop, or rollback to the last "
                                 "checkpoint with half the rate, three times at most",
                         choices=("stop", "rollback"))
    max_bad_records: float = option(0.01, "largest share of unreadable records", least=0.0, most=1.0)
    deterministic: bool = option(False, "one thread, so that equal runs end with equal weights to the bit; slow")
    precision: str = precision_option()
    augment: str = augment_option(AUTO_AUGMENTATION)
    cache: bool = option(False, "keep the prepared images in memory (a float32 for each pixel and channel, at height "
                                f"32) even above {CACHED_BYTES >> 20} MB, below which they always are")
    max_gradient_norm: float = by_optimizer("max_gradient_norm", "global norm to clip gradients to",
                                            above=0.0)
    gradient_clipping: bool = option(True, "leave gradients unclipped", flags=("--no-gradient-clipping",),
                                     negated=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in RECIPES[self.optimizer].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)  # the class is frozen for others
        if self.monitor == "exact":
            object.__setattr__(self, "monitor", "exact_match")
        if self.validation and self.validation_split:
            raise ValueError("--validation and --validation-split both say what to validate on; give one of them")
        if not self.validates:
            for name, used in (("--validate-every", self.validate_every), ("--patience", self.patience),
                               ("--schedule plateau", self.schedule == "plateau")):
                if used:
                    raise ValueError(f"{name} needs a validation; give --validation or --validation-split")
        unknown = set(self.frozen) - set(NETWORK_PARTS)
        if unknown or len(self.frozen) == len(NETWORK_PARTS):
            raise ValueError(f"--freeze is {self.freeze}; give one or two of {', '.join(NETWORK_PARTS)}")

    @property
    def validates(self) -> bool:
        """Whether the run looks at how good it is."""
        return bool(self.validation or self.validation_split)

    @property
    def falling(self) -> bool:
        """Whether the learning rate falls to 0 at the end of the run."""
        ends = bool(self.max_steps or self.max_minutes) and self.optimizer != "adadelta"
        return self.schedule == "cosine" or self.schedule == "auto" and ends

    @property
    def frozen(self) -> tuple[str, ...]:
        """The parts of the network that are not trained."""
        return tuple(sorted({part.strip() for part in self.freeze.split(",")} - {""}))


@dataclasses.dataclass(frozen=True)
class ParallelConfig(Options):
    """How processes and GPUs share the work of a run."""

    gpus: int = option(1, "GPUs of this machine that share each batch, from --gpu-id on", least=1, most=64)
    local_cluster: str = option(None, "start a cluster on this machine: processes per job, such as "
                                      "ps=1,worker=2,evaluator=1; the chief comes on top")
    sync: bool = option(False, "in a cluster, average the gradients of one batch of every process in each step; "
                               "without it, steps are asynchronous")
    evaluator: bool = option(False, "validate in a process of its own (task type evaluator) instead of the chief")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Options):
    """Which checkpoint to use."""

    checkpoint: str = option(None, "last, best, or a path (default: the best if there is one, else the last)")


def decoding_option() -> Any:
    """`--decoding`, of what reads."""
    return option(None, "decode by the attention decoder, by CTC, or by both jointly (default: what read best when the "
                        "model was trained)", choices=DECODINGS)


@dataclasses.dataclass(frozen=True)
class TestConfig(Options):
    """How a model is tested."""

    batch_size: int = option(64, "images of the mean width in a batch", least=1)
    decoding: str = decoding_option()
    distance: bool = option(True, "accuracy is the exact match instead of 1 - edit distance / length",
                            flags=("--no-distance",), negated=True)
    precision: str = precision_option()
    visualize: bool = option(False, "write attention pictures of every sample to --output-dir")
    output_dir: str = option("out", "directory of the attention pictures")


@dataclasses.dataclass(frozen=True)
class PredictConfig(Options):
    """How files are read by a model."""

    decoding: str = decoding_option()
    batch_size: int = option(16, "maximum batch size; paths on standard input are processed as they arrive",
                            least=1)


@dataclasses.dataclass(frozen=True)
class ExportConfig(Options):
    """How a model is exported."""

    decoding: str = decoding_option()
    format: str = option("savedmodel", "what to write", choices=("savedmodel", "frozengraph"))
    force: bool = option(False, "replace an earlier export in the target directory")
    model_version: int = option(None, "write the SavedModel to DIR/N, where TensorFlow Serving looks for "
                                      "versions", least=1)


@dataclasses.dataclass(frozen=True)
class DatasetConfig(Options):
    """How annotations become a dataset."""

    input_format: str = option("auto", "format of the inputs; auto: by extension (.tsv, .csv, .jsonl, .tfrecords), by "
                                       "what a directory holds (folder: NAME.png with NAME.gt.txt or NAME.txt; names: "
                                       "the label in the name), else lines",
                               choices=("auto", "lines", "tsv", "csv", "jsonl", "folder", "names", "tfrecord"))
    label_pattern: str = option(r"(.*?)(?:_[0-9]+)?", "regular expression of a file's whole name without extension; "
                                                      "its first group is the label (format names)")
    image_root: str = option(None, "directory to resolve relative image paths against, after the working directory and "
                                   "the annotation file's")
    force_uppercase: bool = option(True, "keep the case of the labels", flags=("--no-force-uppercase",), negated=True)
    normalize: str = option("NFC", "Unicode form of the labels", choices=("none", "NFC", "NFKC"))
    background: str = option("white", "background of transparent images: a colour's name or #RRGGBB")
    max_pixels: int = option(50_000_000, "largest image to decode, in pixels", least=1, most=1_000_000_000)
    strict: bool = option(False, "any problem of a row ends the command with exit code 1 and without output")
    rejects: str = option(None, "file to write the rejected rows to, unchanged")
    save_filename: bool = option(False, "store each image's path in the dataset (feature `comment`)")
    shards: int = option(1, "number of files: OUTPUT's name with -00000-of-0000N before its extension", least=1,
                         most=99999)
    compression: str = option("none", "compression of the files", choices=("none", "gzip"))
    split: str = option(None, "shares of two or three datasets, such as 0.9/0.1: OUTPUT's name with -train, "
                              "(-validation,) -test before its extension")
    split_by: str = option("image", "split by each row's image content, or by its label, so that equal labels stay "
                                    "together", choices=("image", "label"))
    workers: int = option(None, "processes that check the rows (default: one per core)", least=1)
    runner: str = option(None, "run on Apache Beam with this runner (DirectRunner, DataflowRunner, FlinkRunner, "
                               "SparkRunner); unknown flags are passed to Beam")
    log_step: int = option(500, "log every N-th record", least=1)


@dataclasses.dataclass(frozen=True)
class InspectConfig(Options):
    """What is reported about a dataset."""

    graphemes: bool = graphemes_option()
    json: bool = option(False, "print one JSON object instead of text")
    sheet: str = option(None, "PNG file to draw samples with their labels to")
    count: int = option(60, "samples on the sheet, chosen at random", least=1, most=1000)
    seed: int = option(0, "seed of the choice", least=0)


@dataclasses.dataclass(frozen=True)
class AugmentConfig(Options):
    """What a sheet of augmented images shows."""

    augment: str = augment_option("scene")
    count: int = option(8, "samples, one per row, chosen at random", least=1, most=1000)
    variants: int = option(6, "variants of each: those of the first passes of a training with this seed",
                           least=1, most=1000)
    seed: int = option(0, "seed of the choice and of the variants", least=0, most=2**31 - 1)
    color: bool = option(False, "images in three channels instead of grey")


@dataclasses.dataclass(frozen=True)
class SynthConfig(Options):
    """What words are drawn, and how they look."""

    count: int = option(100, "words to draw", least=1)
    # More would not fit beside an image's number in the state that the generators start from.
    seed: int = option(0, "seed of the words and of their rendering", least=0, most=2**32 - 1)
    words: str = option(None, "file of words to choose from, one per line, in UTF-8")
    pattern: str = option("[0-9A-Z]{3,6}", "pattern of the words: characters, \\ to escape one with a meaning, "
                                           "classes [A-Z_], groups (A|BC); then ?, {n} or {n,m} for how often")
    fonts: tuple = option((), "font (.ttf, .otf), directory or quoted pattern of fonts; may be repeated; without it, "
                              "Pillow's built-in font is used")
    min_font_size: int = option(20, "smallest font size, in pixels", least=6, most=400)
    max_font_size: int = option(40, "largest font size, in pixels", least=6, most=400)
    color: bool = option(False, "coloured ink and ground instead of grey")
    backgrounds: tuple = option((), "image, directory or quoted pattern of images whose pieces are drawn on; may be "
                                    "repeated; without it, grounds are even")
    workers: int = option(None, "processes that draw (default: one per core)", least=1, most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_font_size > self.max_font_size:
            raise ValueError(f"--min-font-size is {self.min_font_size}; the most is --max-font-size, "
                             f"{self.max_font_size}")


@dataclasses.dataclass(frozen=True)
class CommonConfig(Options):
    """Options of every command."""

    log_path: str = option("aocr.log", "file to append the log to; '' for none")


@dataclasses.dataclass(frozen=True)
class PlaceConfig(Options):
    """Where a model is stored, and the device that it runs on."""

    model_dir: str = option("./checkpoints", "directory of the model, its checkpoints and TensorBoard events",
                            flags=("--model-dir", "--job-dir"))
    gpu_id: int = option(0, "GPU to use; negative for the CPU")
