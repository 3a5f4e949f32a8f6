"""Defines every option once: its default, help text and limits.

`commands/flags.py` generates the command line from these classes, so no default is repeated elsewhere.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aocr.colors import canonical
from aocr.metrics import METRICS
from aocr.networks import COMPACT, NETWORKS, Network

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

Pixels = TypeVar("Pixels", int, "tf.Tensor")  # a Python integer or an integer tensor

IMAGE_HEIGHT = 32  # pixels; every image is scaled to this height
LONGEST_LABEL = 1000  # characters; labels and predictions are never longer
WIDEST_CANVAS = 2048  # pixels at height 32; widest canvas fitted to data
MOST_PIXELS = 50_000_000  # default of --max-pixels
MOST_BYTES = 256 << 20  # largest image file that is read
NO_AUGMENTATION, AUTO_AUGMENTATION = "none", "auto"
NETWORK_PARTS = ("cnn", "encoder", "decoder")  # variable scopes that --freeze accepts
WEIGHT_SCOPES = (*NETWORK_PARTS, "ctc")
CACHED_BYTES = 256 << 20  # largest total of prepared images that is cached without --cache
AUGMENTED_RECORDS = 50_000  # largest dataset that `--augment auto` augments
AUTO_VERSION, LAST_VERSION = "auto", 2**63 - 1  # of --model-version
DECODINGS = ATTENTION, CTC, JOINT = "attention", "ctc", "joint"
CONSTRAINED_BEAM, WIDEST_BEAM = 16, 256  # default of --beam where texts are constrained; its maximum


class Decoding(NamedTuple):
    """How a model decodes an image's text."""

    method: str
    ctc_share: float = 0.5  # weight of CTC in the joint score, in [0, 1]; attention has the rest


# Defaults that depend on the optimizer: the fastest to converge with Adam, the original's with AdaDelta.
SOONEST = dict(initial_learning_rate=1e-3, ema=0.98, dropout=0.2, initializer="he", max_gradient_norm=1.0,
               guided_attention=1.0)
ORIGINAL = dict(initial_learning_rate=1.0, ema=0.0, dropout=0.5, initializer="glorot",
                max_gradient_norm=5.0, guided_attention=0.0)
# Limits of options: what is beyond them is a slip of the hand, and would fail later or never end.
MOST_SIDE = 100_000  # of --max-width and --max-height
MOST_CANVAS = 20_000  # pixels; no text line that is one image is wider at height 32
MOST_BATCH = 10_000  # images
MOST_STEPS = 1_000_000_000
LARGEST_FACTOR = 1e30  # of what float32 multiplies
READ_TOGETHER = 32  # images of a batch when files are read
WARM_UP_STEPS = 200  # of a model that starts from another one's weights: Adam's first steps would undo them
CTC_WEIGHT = 0.6  # default of `--ctc-weight`
MOST_IMAGES, BATCH_COLUMNS, ORIGINAL_BATCH = 16, 6_400, 65  # defaults of a training batch: see `--batch-size`
RECIPES = {"adam": SOONEST, "adamw": SOONEST, "adadelta": ORIGINAL}


def scaled_width(width: Pixels, height: Pixels) -> Pixels:
    """Returns the width after scaling to height 32, rounded half up; may be 0. Takes integers and integer tensors."""
    return (2 * width * IMAGE_HEIGHT + height) // (2 * height)


def option(default: Any, help: str, flags: tuple[str, ...] | None = None, least: float | None = None,
           most: float | None = None, above: float | None = None, choices: tuple[str, ...] | None = None,
           negated: bool = False) -> Any:
    """Returns a dataclass field that is also a command line option.

    `flags`: its names (default: the field's name with dashes). `negated`: a switch that turns a True default off.
    `choices`, `least`, `most`, `above`: limits, checked on construction. A field of type tuple is a repeatable option.
    """
    metadata = dict(help=help, flags=flags, least=least, most=most, above=above, choices=choices, negated=negated)
    return dataclasses.field(default=default, metadata=metadata)


def derived(default: Any) -> Any:
    """Returns a field without a flag, derived from the data or from other options."""
    return option(default, "", flags=())


def by_optimizer(name: str, help: str, **limits: Any) -> Any:
    """Returns an option of TrainConfig whose default depends on the optimizer; `name`: the field's name."""
    default = f"(default: {SOONEST[name]}; {ORIGINAL[name]} with --optimizer adadelta)"
    return option(None, f"{help} {default}", **limits)


def precision_option() -> Any:
    """Returns `--precision`, for commands whose workload is large enough to benefit."""
    return option("float32", "data type of the convolutions: bfloat16 is faster on GPUs from 2020 or later and on CPUs "
                             "with AVX512_BF16 or AMX, slower elsewhere; weights stay float32",
                  choices=("float32", "bfloat16"))


def graphemes_option() -> Any:
    """Returns `--graphemes`, for commands that split labels into characters; clusters are as in UAX #29."""
    return option(False, "split labels into extended grapheme clusters (a letter with its combining marks) instead of "
                         "code points")


def augment_option(default: str) -> Any:
    """Returns `--augment`; aocr/augmentation.py defines the recipes."""
    return option(default, "augmentation of the training images: none; a built-in recipe (light, scan, scene, captcha, "
                           f"plate); auto: light up to {AUGMENTED_RECORDS:,} images, none above that or with "
                           "--optimizer adadelta; or the path of a JSON recipe")


def max_pixels_option() -> Any:
    """Returns `--max-pixels`, for commands that decode images."""
    return option(MOST_PIXELS, "largest image to decode, in pixels", least=1, most=1_000_000_000)


def flags_of(field: dataclasses.Field) -> tuple[str, ...]:
    """Returns the command line names of a dataclass field, the main one first."""
    flags = field.metadata["flags"]
    return ("--" + field.name.replace("_", "-"),) if flags is None else flags


def flag_of(options: "type[Options]", name: str) -> str:
    """Returns the main command line name of a field of an option class."""
    return flags_of(options.__dataclass_fields__[name])[0]


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of the option classes: enforces the limits that the fields declare."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, limits = getattr(self, field.name), field.metadata
            if value is None:
                continue
            name = flags_of(field)[0] if flags_of(field) else field.name
            if limits["choices"] and value not in limits["choices"]:
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(limits['choices'])}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; use a finite number")
            if limits["least"] is not None and value < limits["least"]:
                raise ValueError(f"{name} is {value}; the minimum is {limits['least']}")
            if limits["most"] is not None and value > limits["most"]:
                raise ValueError(f"{name} is {value}; the maximum is {limits['most']}")
            if limits["above"] is not None and value <= limits["above"]:
                raise ValueError(f"{name} is {value}; use a number above {limits['above']}")

    def _make_background_canonical(self) -> None:
        """Replaces the colour `background` by its canonical spelling, so that equal colours compare equal."""
        background = vars(self)["background"]
        try:
            # A frozen dataclass rejects plain assignment.
            object.__setattr__(self, "background", background and canonical(background))
        except ValueError:
            raise ValueError(f"--background is {background}; give a colour name or #RRGGBB") from None


@dataclasses.dataclass(frozen=True)
class ModelConfig(Options):
    """The architecture, stored with the weights and fixed for the life of a model directory."""

    max_width: int = option(160, "maximum image width, at a height of --max-height", least=1,
                            most=MOST_SIDE)
    max_height: int = option(60, "height that --max-width refers to; the canvas is "
                                 "ceil(max_width / max_height * 32) pixels wide and 32 high", least=1, most=MOST_SIDE)
    max_prediction: int = option(8, "maximum label length, in characters", least=1, most=LONGEST_LABEL)
    graphemes: bool = graphemes_option()
    color: bool = option(False, "read images in colour (three channels) instead of grey")
    use_gru: bool = option(False, "use GRU instead of LSTM cells in encoder and decoder")
    attn_num_layers: int = option(1, "decoder layers", least=1, most=16)
    attn_num_hidden: int = option(128, "units per decoder layer; the encoder has --attn-num-layers times as many per "
                                       "direction", least=1, most=4096)
    target_embedding_size: int = option(10, "size of the character embedding", least=1, most=4096)
    cnn: str = option(COMPACT, "convolutional network; fine: compact with twice the resolution along the text; "
                               "original: that of the original aocr", choices=tuple(NETWORKS))
    attention_units: int = option(128, "units to which attention projects query and memory; 0: the depth of the "
                                       "memory, as in the original", least=0, most=4096)
    background: str = option("white", "background of transparent images, that of the training data: a colour name or "
                                      "#RRGGBB")
    max_pixels: int = max_pixels_option()
    ctc: bool = derived(True)  # the model has a CTC branch
    right_to_left: bool = derived(False)  # labels start at the right edge of their images

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.canvas_width > MOST_CANVAS:
            raise ValueError(f"--max-width is {self.max_width} at a --max-height of {self.max_height}: a canvas of "
                             f"{self.canvas_width} pixels; the maximum is {MOST_CANVAS}")
        self._make_background_canonical()

    @property
    def canvas_width(self) -> int:
        """Canvas width in pixels at height 32; wider images are squeezed."""
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
        """Bytes of a prepared float32 image as wide as the canvas."""
        return 4 * IMAGE_HEIGHT * self.canvas_width * self.channels

    @property
    def encoder_units(self) -> int:
        """Encoder units per direction."""
        return self.attn_num_layers * self.attn_num_hidden


@dataclasses.dataclass(frozen=True)
class TrainConfig(Options):
    """How weights are trained; not part of the model."""

    batch_size: int = option(None, "training batch size for images of the mean width; batches of wider images hold "
                                   f"fewer, of narrower ones more (default: {MOST_IMAGES}, fewer if the mean width is "
                                   f"above {BATCH_COLUMNS // MOST_IMAGES} pixels at height {IMAGE_HEIGHT}; "
                                   f"{ORIGINAL_BATCH} with --optimizer adadelta)", least=1, most=MOST_BATCH)
    ctc_weight: float = option(None, "share of CTC in the loss; 0: no CTC branch, as in the original (default: "
                                     f"{CTC_WEIGHT})", least=0.0, most=1.0)
    guided_attention: float = by_optimizer("guided_attention", "weight of the penalty that keeps attention and CTC "
                                           "near the diagonal, then near each other; 0: none", least=0.0, most=100.0)
    num_epoch: int = option(1000, "end this run after N epochs", least=1, most=1_000_000)
    max_steps: int = option(None, "end this run after N steps", least=1, most=MOST_STEPS)
    max_minutes: float = option(None, "end this run after X minutes, start-up included; a resumed run gets the "
                                      "remaining time", above=0.0, most=10_000_000.0)
    steps_per_checkpoint: int = option(100, "steps between checkpoints", least=1, most=MOST_STEPS)
    keep: int = option(5, "newest checkpoints to keep, besides the best one", least=1, most=10_000)
    validation: str = option(None, "validation dataset, or a glob pattern")
    validation_split: float = option(None, "fraction of the dataset to hold out for validation", above=0.0, most=0.5)
    validate_every: int = option(None, "steps between validations (default: --steps-per-checkpoint)", least=1,
                                 most=MOST_STEPS)
    monitor: str = option("cer", "validation metric that selects the best checkpoint; exact is short for exact_match",
                          choices=(*METRICS, "exact"))
    patience: int = option(None, "end the run after N consecutive validations without improvement", least=1,
                           most=1_000_000)
    log_step: int = option(10, "steps between log lines and TensorBoard points, each a mean over those steps",
                           least=1, most=1_000_000)
    resume: bool = option(True, "start from scratch, even if the model directory holds a checkpoint",
                          flags=("--no-resume",), negated=True)
    seed: int = option(0, "seed for initial weights, sample order, dropout and augmentation", least=0,
                       most=2**31 - 1)
    optimizer: str = option("adam", "optimizer; adadelta trains like the original aocr",
                            choices=tuple(RECIPES))
    initial_learning_rate: float = by_optimizer("initial_learning_rate", "learning rate", least=0.0,
                                                most=LARGEST_FACTOR)
    warm_up: int = option(None, "steps of linear warm-up of the learning rate at the start of this run (default: "
                                f"{WARM_UP_STEPS} with --init-from, at most a fifth of --max-steps; else 0)",
                          least=0, most=MOST_STEPS)
    schedule: str = option("auto", "learning rate schedule: constant; cosine (constant for a third of this run, then "
                                   "down to 0); plateau (halved after every three consecutive validations without "
                                   "improvement); auto: cosine with --max-steps or --max-minutes, else constant; "
                                   "always constant with --optimizer adadelta",
                           choices=("auto", "constant", "cosine", "plateau"))
    weight_decay: float = option(0.01, "weight decay of adamw, on kernels only",
                                 least=0.0, most=1.0)
    ema: float = by_optimizer("ema", "decay of the moving average of the weights, which inference uses (0: none; 0.99 "
                                     "averages about 100 steps)", least=0.0, most=0.99999)
    accumulate: int = option(1, "batches per step, their gradients averaged", least=1, most=10_000)
    label_smoothing: float = option(0.0, "probability mass of each target to spread evenly over all characters",
                                    least=0.0, most=0.9)
    dropout: float = by_optimizer("dropout", "dropout rate on the CNN features", least=0.0, most=0.95)
    initializer: str = by_optimizer("initializer", "initializer of convolutions without batch norm; all other weights "
                                                   "use glorot", choices=("he", "glorot"))
    forget_bias: float = option(0.0, "initial bias of the LSTM forget gates", least=-10.0, most=10.0)
    freeze: str = option("", "parts to freeze, comma-separated: cnn, encoder, decoder (default: none)")
    init_from: str = option(None, "model directory of this or the original aocr to initialize a new model from")
    charset_change: str = option("union", "charset of a model initialized by --init-from: union (the old and the "
                                          "data's), new (the data's only), or fail if the data has new characters",
                                 choices=("union", "new", "fail"))
    on_nan: str = option("stop", "on a NaN or infinite loss, or one above 10 x ln V: stop, or rollback to the last "
                                 "checkpoint with half the learning rate, at most three times",
                         choices=("stop", "rollback"))
    max_bad_records: float = option(0.01, "maximum fraction of unreadable records", least=0.0, most=1.0)
    deterministic: bool = option(False, "use one thread, so that equal runs give bit-identical weights; slow")
    precision: str = precision_option()
    augment: str = augment_option(AUTO_AUGMENTATION)
    cache: bool = option(False, "cache the prepared images in memory (one float32 per pixel and channel, at height 32) "
                                f"even above {CACHED_BYTES >> 20} MB; smaller datasets always are")
    max_gradient_norm: float = by_optimizer("max_gradient_norm", "clip gradients to this global norm",
                                            above=0.0, most=LARGEST_FACTOR)
    gradient_clipping: bool = option(True, "do not clip gradients", flags=("--no-gradient-clipping",),
                                     negated=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in RECIPES[self.optimizer].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)  # a frozen dataclass rejects plain assignment
        if self.warm_up is None:
            most = min(WARM_UP_STEPS, (self.max_steps or MOST_STEPS) // 5)
            object.__setattr__(self, "warm_up", most if self.init_from else 0)
        if self.monitor == "exact":
            object.__setattr__(self, "monitor", "exact_match")
        if self.validation and self.validation_split:
            raise ValueError("--validation and --validation-split are mutually exclusive; use one of them")
        if not self.validates:
            for name, used in (("--validate-every", self.validate_every), ("--patience", self.patience),
                               ("--schedule plateau", self.schedule == "plateau")):
                if used:
                    raise ValueError(f"{name} needs validation; add --validation or --validation-split")
        unknown = set(self.frozen) - set(NETWORK_PARTS)
        if unknown or len(self.frozen) == len(NETWORK_PARTS):
            raise ValueError(f"--freeze is {self.freeze}; use one or two of {', '.join(NETWORK_PARTS)}")

    @property
    def validates(self) -> bool:
        """Whether the run validates."""
        return bool(self.validation or self.validation_split)

    @property
    def falling(self) -> bool:
        """Whether the learning rate decays to 0 by the end of the run."""
        ends = bool(self.max_steps or self.max_minutes) and self.optimizer != "adadelta"
        return self.schedule == "cosine" or self.schedule == "auto" and ends

    @property
    def frozen(self) -> tuple[str, ...]:
        """The frozen parts of the network, sorted."""
        return tuple(sorted({part.strip() for part in self.freeze.split(",")} - {""}))


@dataclasses.dataclass(frozen=True)
class ParallelConfig(Options):
    """How processes and GPUs share the work of a run."""

    gpus: int = option(1, "GPUs of this machine, from --gpu-id on, that share each batch", least=1, most=64)
    local_cluster: str = option(None, "start a cluster on this machine: processes per job besides the chief, such as "
                                      "ps=1,worker=2,evaluator=1")
    sync: bool = option(False, "in a cluster, average the gradients of one batch per replica in each step; without it, "
                               "steps are asynchronous")
    evaluator: bool = option(False, "validate in a separate process (task type evaluator) instead of the chief")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Options):
    """Which checkpoint to use."""

    checkpoint: str = option(None, "last, best, or a path (default: best if it exists, else last)")


def decoding_option() -> Any:
    """Returns `--decoding`, for commands that run inference."""
    return option(None, "decode with the attention decoder, with CTC, or with both jointly (default: the most accurate "
                        "one in training)", choices=DECODINGS)


def gpu_option() -> Any:
    """Returns `--gpu-id`, for commands that run a model."""
    return option(0, "GPU to use; negative for the CPU", least=-1024, most=1023)


@dataclasses.dataclass(frozen=True)
class SearchConfig(Options):
    """How the text is searched for, and which texts may be read."""

    beam: int = option(None, "beam width: texts of an image that are followed side by side; 1: greedy (default: 1; "
                             f"{CONSTRAINED_BEAM} with --lexicon, --pattern or --allow; at least --n-best)",
                       least=1, most=WIDEST_BEAM)
    n_best: int = option(None, "find the N best texts of each image, at most as many as --beam", least=1,
                         most=WIDEST_BEAM)
    lexicon: str = option(None, "read only the words of this UTF-8 file, one per line")
    lexicon_weight: float = option(None, "prefer the words of --lexicon instead: multiply their probabilities by "
                                         "e^X, and read other texts as well", above=0.0, most=1000.0)
    pattern: str = option(None, "read only texts of this pattern, as of `aocr synth`, such as [A-Z]{3}-?[0-9]{2,4}")
    allow: str = option(None, "read only these characters")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam and self.n_best and self.n_best > self.beam:
            raise ValueError(f"--n-best is {self.n_best}, but --beam is {self.beam}; use a --beam of at least "
                             f"{self.n_best}")
        if self.lexicon_weight is not None and self.lexicon is None:
            raise ValueError(f"--lexicon-weight is {self.lexicon_weight}, but there is no --lexicon; add one")

    @property
    def constrained(self) -> bool:
        """Whether there are texts that may not be read, or are preferred."""
        return any(value is not None for value in (self.lexicon, self.pattern, self.allow))

    @property
    def width(self) -> int:
        """The beam width."""
        return self.beam or max(CONSTRAINED_BEAM if self.constrained else 1, self.n_best or 1)


@dataclasses.dataclass(frozen=True)
class TestConfig(SearchConfig):
    """How a model is tested."""

    batch_size: int = option(64, "batch size for images of the mean width", least=1, most=MOST_BATCH)
    decoding: str = decoding_option()
    distance: bool = option(True, "report the exact match as accuracy instead of 1 - edit distance / length",
                            flags=("--no-distance",), negated=True)
    precision: str = precision_option()
    visualize: bool = option(False, "write attention images of every sample to --output-dir")
    output_dir: str = option("out", "directory for the attention images")
    report: str = option(None, "directory to write a report to: a page with figures, plots and samples, and their data "
                               "as files")
    fail_under: tuple = option((), "METRIC=VALUE: exit with code 1 if the metric is below the value, or above it where "
                                   "lower is better (cer, wer); may be repeated")


@dataclasses.dataclass(frozen=True)
class CalibrateConfig(Options):
    """How a model is calibrated."""

    batch_size: int = option(64, "batch size for images of the mean width", least=1, most=MOST_BATCH)


@dataclasses.dataclass(frozen=True)
class CompareConfig(SearchConfig):
    """How two tests are compared."""

    dataset: str = option(None, "test two model directories on this dataset, or glob pattern, and compare them")
    count: int = option(20, "changed samples of each kind to list", least=0)
    resamples: int = option(1000, "bootstrap resamples, from which the intervals are estimated", least=100,
                            most=100_000)
    seed: int = option(0, "seed for the resamples", least=0)
    decoding: str = decoding_option()
    batch_size: int = option(64, "with --dataset: batch size for images of the mean width", least=1)
    gpu_id: int = gpu_option()


@dataclasses.dataclass(frozen=True)
class PredictConfig(SearchConfig):
    """How a model reads files."""

    decoding: str = decoding_option()
    batch_size: int = option(READ_TOGETHER, "maximum batch size; paths on stdin are processed as they arrive", least=1,
                            most=MOST_BATCH)
    recursive: bool = option(False, "read the directories in directories too")
    stdin0: bool = option(False, "paths on stdin end in NUL instead of a line feed, as `find -print0` writes them")
    output_format: str = option("tsv", "form of the results: tsv (path, probability, text); csv (path, confidence, "
                                       "text, error, with a header); jsonl (an object per image, with its characters "
                                       "and its error); text (the texts alone)",
                                choices=("tsv", "csv", "jsonl", "text"))
    min_confidence: float = option(None, "with --review: results of a lower probability are unsure", least=0.0,
                                   most=1.0)
    review: str = option(None, ".tsv or .csv file to write unsure and unreadable images to; correct its texts, then "
                               "give it to `aocr dataset`")
    visualize: str = option(None, "directory to write a picture of each image to, with where the model looked")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.min_confidence is None) != (self.review is None):
            raise ValueError("--min-confidence and --review go together; give both")


@dataclasses.dataclass(frozen=True)
class ServerConfig(Options):
    """A server that reads in place of a model here."""

    server: str = option(None, "read with the model at this URL of a server with TensorFlow Serving's REST interface, "
                               "such as http://localhost:8501/v1/models/aocr, instead of a model directory; "
                               "/versions/N after it chooses a version")
    api_key_file: str = option(None, "file that holds the server's key, sent as a bearer token")
    server_timeout: float = option(60.0, "seconds to wait for the server's answer to a request", above=0.0,
                                   most=86_400.0)
    server_retries: int = option(5, "further attempts of a request after connection errors and the statuses 408, 429, "
                                    "502, 503 and 504, with waits that double from half a second", least=0, most=100)


@dataclasses.dataclass(frozen=True)
class ExportConfig(SearchConfig):
    """How a model is exported."""

    decoding: str = decoding_option()
    format: str = option("savedmodel", "export format", choices=("savedmodel", "frozengraph", "onnx", "tflite"))
    quantize: str = option(None, "store the weights of a TFLite file in fewer bits, less exactly: float16, or dynamic "
                                 "(8-bit integers)", choices=("float16", "dynamic"))
    force: bool = option(False, "replace an existing export in the target directory")
    model_version: str = option(None, "write the SavedModel to DIR/N, where TensorFlow Serving looks for versions; "
                                      "auto: one above the highest number there")
    keep_versions: int = option(None, "with --model-version: remove older versions beyond N, the new one included",
                                least=1, most=1_000_000)
    verify: str = option(None, "dataset whose first images the export is compared on with the checkpoint (default: "
                               "drawn words)")
    verification: bool = option(True, "do not compare the export with the checkpoint", flags=("--no-verify",),
                                negated=True)
    warm_up: bool = option(True, "do not add requests that TensorFlow Serving answers when it loads the SavedModel",
                           flags=("--no-warm-up",), negated=True)
    models_config: str = option(None, "with --model-version: write a --model_config_file for tensorflow_model_server")
    batching_config: str = option(None, "write a --batching_parameters_file for tensorflow_model_server")
    model_name: str = option("aocr", "the model's name in --models-config")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_version not in (None, AUTO_VERSION):
            number = self.model_version
            if not (number.isascii() and number.isdecimal() and 0 < int(number) <= LAST_VERSION):
                raise ValueError(f"--model-version is {number}; use a number from 1 to {LAST_VERSION}, or "
                                 f"{AUTO_VERSION}")
        if self.verify and not self.verification:
            raise ValueError("--verify and --no-verify are mutually exclusive; use one of them")
        if not self.model_version:
            for name, used in (("--keep-versions", self.keep_versions), ("--models-config", self.models_config)):
                if used:
                    raise ValueError(f"{name} needs --model-version")
        if not self.model_name or any(character in "/:" for character in self.model_name):
            raise ValueError(f"--model-name is {self.model_name!r}; use a name without / and :")


@dataclasses.dataclass(frozen=True)
class ServeConfig(Options):
    """How a model answers requests."""

    host: str = option("127.0.0.1", "address to serve on; 0.0.0.0 for all of this machine's")
    port: int = option(8501, "port to serve on; 0 for a free one, which is printed", least=0, most=65535)
    name: str = option("aocr", "the model's name in URLs: /v1/models/NAME")
    decoding: str = option(None, "of a model directory: decode with the attention decoder, with CTC, or with both "
                                 "jointly (default: the most accurate one in training)", choices=DECODINGS)
    gpu_id: int = gpu_option()
    max_batch: int = option(16, "most images in a run of the graph", least=1, most=MOST_BATCH)
    batch_timeout_ms: float = option(5.0, "longest time that an image waits for others which are on their way, in "
                                          "milliseconds", least=0.0, most=10_000.0)
    runs: int = option(1, "runs of the graph at the same time", least=1, most=64)
    max_queue: int = option(256, "most images in progress, and most requests; others get status 429", least=1,
                            most=1_000_000)
    max_pixels: int = option(None, "largest image to decode, in pixels (default: that of the model)", least=1,
                             most=1_000_000_000)
    max_body_bytes: int = option(32 << 20, "largest request, in bytes; others get status 413", least=1, most=1 << 31)
    timeout_ms: int = option(30_000, "longest time to receive a request, and to answer it, in milliseconds; after it "
                                     "the status is 408 or 504", least=1, most=3_600_000)
    poll_seconds: float = option(1.0, "time between two looks for a new version or checkpoint", least=0.01,
                                 most=86_400.0)
    drain_seconds: float = option(1.0, "after SIGTERM: time in which new requests are still answered, while /readyz "
                                       "has status 503", least=0.0, most=3600.0)
    api_key_file: str = option(None, "UTF-8 file of keys, one per line; requests need one of them, as `Authorization: "
                                     "Bearer KEY`")
    cors_origin: tuple = option((), "origin whose pages may read answers, such as https://example.org, or '*' for all; "
                                    "may be repeated")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name or set(self.name) & set("/:"):
            raise ValueError(f"--name is {self.name!r}; it is part of URLs, so it must not be empty or hold / or :")


@dataclasses.dataclass(frozen=True)
class DatasetConfig(Options):
    """How annotations become a dataset."""

    input_format: str = option("auto", "input format; auto: by extension (.tsv, .csv, .jsonl, .json, .tfrecords), by "
                                       "the directory's contents (listed: lists such as labels.csv in it; folder: "
                                       "NAME.png with NAME.gt.txt or NAME.txt; names: label in the file name), else "
                                       "lines",
                               choices=("auto", "lines", "tsv", "csv", "jsonl", "json", "listed", "folder", "names",
                                        "tfrecord"))
    label_pattern: str = option(r"(.*?)(?:_[0-9]+)?", "format names: regular expression that matches a whole file name "
                                                      "without extension; group 1 is the label")
    image_root: str = option(None, "directory to resolve relative image paths against, after the working directory and "
                                   "the annotation file's")
    force_uppercase: bool = option(True, "do not uppercase labels", flags=("--no-force-uppercase",), negated=True)
    normalize: str = option("NFC", "Unicode normalization of labels", choices=("none", "NFC", "NFKC"))
    background: str = option(None, "background for transparent images: a colour name or #RRGGBB (default: that of the "
                                   "input datasets, else white)")
    max_pixels: int = max_pixels_option()
    strict: bool = option(False, "if a row has a problem, exit with code 1 and write no output")
    rejects: str = option(None, "file to write rejected rows to, unchanged")
    save_filename: bool = option(False, "store each image's path in the dataset (feature `comment`)")
    shards: int = option(1, "number of files, named like OUTPUT with -00000-of-0000N before the extension", least=1,
                         most=99999)
    compression: str = option("none", "compression of the files", choices=("none", "gzip"))
    split: str = option(None, "fractions of two or three datasets, such as 0.9/0.1, named like OUTPUT with -train, "
                              "(-validation,) -test before the extension")
    split_by: str = option("image", "split by image content, or by label so that equal labels stay together",
                           choices=("image", "label"))
    workers: int = option(None, "processes that check rows (default: one per core)", least=1, most=1000)
    runner: str = option(None, "run on Apache Beam with this runner (DirectRunner, DataflowRunner, FlinkRunner, "
                               "SparkRunner); unknown flags are passed to Beam")
    log_step: int = option(500, "log every N-th record", least=1, most=MOST_STEPS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._make_background_canonical()


@dataclasses.dataclass(frozen=True)
class InspectConfig(Options):
    """How a dataset is described."""

    graphemes: bool = graphemes_option()
    json: bool = option(False, "print one JSON object instead of text")
    sheet: str = option(None, "PNG file to draw labelled samples to")
    count: int = option(60, "random samples on the sheet", least=1, most=1000)
    seed: int = option(0, "seed for choosing samples", least=0, most=2**31 - 1)
    max_pixels: int = max_pixels_option()


@dataclasses.dataclass(frozen=True)
class AugmentConfig(Options):
    """Contents of a sheet of augmented images."""

    augment: str = augment_option("scene")
    count: int = option(8, "random samples, one per row", least=1, most=1000)
    variants: int = option(6, "variants per sample: those of the first epochs of a run with this seed",
                           least=1, most=1000)
    seed: int = option(0, "seed for choosing and augmenting samples", least=0, most=2**31 - 1)
    color: bool = option(False, "show images in colour instead of grey")
    max_pixels: int = max_pixels_option()


@dataclasses.dataclass(frozen=True)
class SynthConfig(Options):
    """Which words are drawn, and how they look."""

    count: int = option(100, "words to draw", least=1, most=100_000_000)
    # A larger seed would not fit into the generators' state beside the image's number.
    seed: int = option(0, "seed for the words and their rendering", least=0, most=2**32 - 1)
    words: str = option(None, "UTF-8 file of words to choose from, one per line")
    pattern: str = option("[0-9A-Z]{3,6}", "pattern of the words: characters, \\ to escape special ones, classes "
                                           "[A-Z_], groups (A|BC), each optionally repeated by ?, {n} or {n,m}")
    fonts: tuple = option((), "font (.ttf, .otf), directory or quoted glob pattern; may be repeated (default: Pillow's "
                              "built-in font)")
    min_font_size: int = option(20, "smallest font size, in pixels", least=6, most=400)
    max_font_size: int = option(40, "largest font size, in pixels", least=6, most=400)
    color: bool = option(False, "coloured text and background instead of grey")
    backgrounds: tuple = option((), "image, directory or quoted glob pattern to crop backgrounds from; may be repeated "
                                    "(default: plain backgrounds)")
    workers: int = option(None, "processes that draw (default: one per core)", least=1, most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_font_size > self.max_font_size:
            raise ValueError(f"--min-font-size is {self.min_font_size}; the maximum is --max-font-size, "
                             f"{self.max_font_size}")


@dataclasses.dataclass(frozen=True)
class CommonConfig(Options):
    """Options of every command."""

    log_path: str = option("aocr.log", "log file to append to; '' for none")


@dataclasses.dataclass(frozen=True)
class PlaceConfig(Options):
    """Where a model is stored, and which device it runs on."""

    model_dir: str = option("./checkpoints", "directory of the model, its checkpoints and TensorBoard events",
                            flags=("--model-dir", "--job-dir"))
    gpu_id: int = gpu_option()
