"""Options: defaults, limits, and the canvas derived from them."""

import dataclasses

import pytest

from aocr.config import (
    AugmentConfig,
    CheckpointConfig,
    CommonConfig,
    DatasetConfig,
    ExportConfig,
    InspectConfig,
    ModelConfig,
    ParallelConfig,
    PlaceConfig,
    PredictConfig,
    ServerConfig,
    SynthConfig,
    TestConfig,
    TrainConfig,
    flags_of,
)
from aocr.data import formats
from aocr.graph import decoding
from aocr.metrics import METRICS
from aocr.tasks import export

# pytest would otherwise collect this class.
TestConfig.__test__ = False

ALL = (ModelConfig, TrainConfig, TestConfig, PredictConfig, ServerConfig, ExportConfig, DatasetConfig, InspectConfig,
       SynthConfig, AugmentConfig, CheckpointConfig, ParallelConfig, CommonConfig, PlaceConfig)


def test_model_defaults():
    assert dataclasses.asdict(ModelConfig()) == dict(
        max_width=160, max_height=60, max_prediction=8, graphemes=False, color=False, use_gru=False, attn_num_layers=1,
        attn_num_hidden=128, target_embedding_size=10, cnn="compact", attention_units=128,
        background="#ffffff", max_pixels=50_000_000, ctc=True, right_to_left=False)


def test_train_defaults():
    assert dataclasses.asdict(TrainConfig()) == dict(
        batch_size=None, ctc_weight=None, guided_attention=1.0, num_epoch=1000, max_steps=None, max_minutes=None,
        steps_per_checkpoint=100, keep=5, validation=None,
        validation_split=None, validate_every=None, monitor="cer", patience=None, log_step=10, resume=True, seed=0,
        optimizer="adam", initial_learning_rate=0.001, warm_up=0, schedule="auto", weight_decay=0.01, ema=0.98,
        accumulate=1, label_smoothing=0.0, dropout=0.2, initializer="he", forget_bias=0.0, freeze="",
        init_from=None, charset_change="union", on_nan="stop", max_bad_records=0.01, deterministic=False,
        precision="float32", augment="auto", cache=False, max_gradient_norm=1.0, gradient_clipping=True)


def test_adadelta_is_the_original_s_way_to_train():
    assert dataclasses.asdict(TrainConfig(optimizer="adadelta")) == dict(
        dataclasses.asdict(TrainConfig()), optimizer="adadelta", guided_attention=0.0, initial_learning_rate=1.0,
        ema=0.0, dropout=0.5, initializer="glorot", max_gradient_norm=5.0)
    assert TrainConfig(optimizer="adadelta", batch_size=7, ema=0.5).batch_size == 7
    assert TrainConfig(optimizer="adamw") == dataclasses.replace(TrainConfig(), optimizer="adamw")


def test_other_defaults():
    searching = dict(beam=None, n_best=None, lexicon=None, lexicon_weight=None, pattern=None, allow=None)
    assert dataclasses.asdict(TestConfig()) == dict(
        searching, batch_size=64, decoding=None, distance=True, precision="float32", visualize=False, output_dir="out",
        report=None, fail_under=())
    assert dataclasses.asdict(CheckpointConfig()) == dict(checkpoint=None)
    assert dataclasses.asdict(PredictConfig()) == dict(
        searching, decoding=None, batch_size=32, recursive=False, stdin0=False, output_format="tsv",
        min_confidence=None, review=None, visualize=None)
    assert dataclasses.asdict(ExportConfig()) == dict(
        searching, decoding=None, format="savedmodel", quantize=None, force=False, model_version=None,
        keep_versions=None, verify=None, verification=True, warm_up=True, models_config=None, batching_config=None,
        model_name="aocr")
    assert dataclasses.asdict(DatasetConfig()) == dict(
        input_format="auto", label_pattern=r"(.*?)(?:_[0-9]+)?", image_root=None, force_uppercase=True,
        normalize="NFC", background=None, max_pixels=50_000_000, strict=False, rejects=None, save_filename=False,
        shards=1, compression="none", split=None, split_by="image", workers=None, runner=None, log_step=500)
    assert dataclasses.asdict(InspectConfig()) == dict(
        graphemes=False, json=False, sheet=None, count=60, seed=0, max_pixels=50_000_000)
    assert dataclasses.asdict(SynthConfig()) == dict(
        count=100, seed=0, words=None, pattern="[0-9A-Z]{3,6}", fonts=(), min_font_size=20, max_font_size=40,
        color=False, backgrounds=(), workers=None)
    assert dataclasses.asdict(CommonConfig()) == dict(log_path="aocr.log")
    assert dataclasses.asdict(ParallelConfig()) == dict(gpus=1, local_cluster=None, sync=False, evaluator=False)
    assert dataclasses.asdict(ServerConfig()) == dict(
        server=None, api_key_file=None, server_timeout=60.0, server_retries=5)
    assert dataclasses.asdict(PlaceConfig()) == dict(model_dir="./checkpoints", gpu_id=0)


@pytest.mark.parametrize("width, height, canvas", [
    (160, 60, 86),  # 85.33: the defaults
    (48, 32, 48),  # at the network's height nothing changes
    (400, 32, 400),
    (3, 4, 24),
    (101, 64, 51),  # 50.5
    (7, 100, 3),  # 2.24
    (33, 1, 1056),
    (1, 2000, 1),  # 0.016: never 0
])
def test_canvas_width_is_the_scaled_width_rounded_up(width, height, canvas):
    assert ModelConfig(max_width=width, max_height=height).canvas_width == canvas


def test_a_choice_is_one_of_those_that_there_are():
    with pytest.raises(ValueError, match="--format is 'hdf5'; use one of savedmodel, frozengraph, onnx"):
        ExportConfig(format="hdf5")
    with pytest.raises(ValueError, match="--schedule is 'linear'"):
        TrainConfig(schedule="linear")


def test_derived_sizes():
    grey = ModelConfig(max_width=13, max_height=32, attn_num_layers=3, attn_num_hidden=5)
    assert (grey.channels, grey.image_bytes, grey.encoder_units) == (1, 4 * 32 * 13, 15)
    color = dataclasses.replace(grey, color=True)
    assert (color.channels, color.image_bytes, color.encoder_units) == (3, 4 * 32 * 13 * 3, 15)


@pytest.mark.parametrize("kind, field, bad, good, flag", [
    (ModelConfig, "max_width", 0, 1, "--max-width"),
    (ModelConfig, "max_height", 0, 1, "--max-height"),
    (ModelConfig, "max_prediction", 0, 1, "--max-prediction"),
    (ModelConfig, "max_prediction", 1001, 1000, "--max-prediction"),
    (ModelConfig, "attn_num_layers", 0, 1, "--attn-num-layers"),
    (ModelConfig, "attn_num_layers", 17, 16, "--attn-num-layers"),
    (ModelConfig, "attn_num_hidden", 0, 1, "--attn-num-hidden"),
    (ModelConfig, "attn_num_hidden", 4097, 4096, "--attn-num-hidden"),
    (ModelConfig, "target_embedding_size", 0, 1, "--target-embedding-size"),
    (ModelConfig, "target_embedding_size", 4097, 4096, "--target-embedding-size"),
    (TrainConfig, "batch_size", 0, 1, "--batch-size"),
    (TrainConfig, "num_epoch", 0, 1, "--num-epoch"),
    (TrainConfig, "max_steps", 0, 1, "--max-steps"),
    (TrainConfig, "steps_per_checkpoint", 0, 1, "--steps-per-checkpoint"),
    (TrainConfig, "log_step", -3, 1, "--log-step"),
    (TrainConfig, "seed", -1, 0, "--seed"),
    (TrainConfig, "initial_learning_rate", -0.001, 0.0, "--initial-learning-rate"),
    (TrainConfig, "max_gradient_norm", 0.0, 0.001, "--max-gradient-norm"),
    (TestConfig, "batch_size", 0, 1, "--batch-size"),
    (PredictConfig, "batch_size", 0, 1, "--batch-size"),
    (DatasetConfig, "log_step", 0, 1, "--log-step"),
    (SynthConfig, "count", 0, 1, "--count"),
    (SynthConfig, "seed", -1, 0, "--seed"),
    (SynthConfig, "seed", 2**32, 2**32 - 1, "--seed"),
    (SynthConfig, "min_font_size", 5, 6, "--min-font-size"),
    (SynthConfig, "max_font_size", 401, 400, "--max-font-size"),
    (SynthConfig, "workers", 0, 1, "--workers"),
])
def test_a_limit_names_the_flag_and_the_value(kind, field, bad, good, flag):
    with pytest.raises(ValueError) as raised:
        kind(**{field: bad})
    assert str(raised.value).startswith(f"{flag} is {bad};")
    assert getattr(kind(**{field: good}), field) == good


def test_every_number_is_limited_on_both_sides():
    numbers = [(kind, field) for kind in ALL for field in dataclasses.fields(kind) if field.type in (int, float)]
    assert len(numbers) > 40
    for kind, field in numbers:
        limits = field.metadata
        assert limits["most"] is not None and (limits["least"] is None) != (limits["above"] is None), field.name
        most = limits["most"]
        more = most + 1 if isinstance(most, int) else most * 1.01
        with pytest.raises(ValueError) as raised:
            kind(**{field.name: more})
        assert str(raised.value) == f"{flags_of(field)[0]} is {more}; the maximum is {most}"


def test_a_canvas_is_limited_too():
    assert ModelConfig(max_width=20_000, max_height=32).canvas_width == 20_000
    with pytest.raises(ValueError, match="^--max-width is 20001 at a --max-height of 32: a canvas of 20001 pixels; "
                                         "the maximum is 20000"):
        ModelConfig(max_width=20_001, max_height=32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind, field, flag", [
    (TrainConfig, "initial_learning_rate", "--initial-learning-rate"),
    (TrainConfig, "max_gradient_norm", "--max-gradient-norm"),
    (ModelConfig, "max_height", "--max-height"),
])
def test_what_is_not_finite_is_refused(kind, field, flag, value):
    with pytest.raises(ValueError, match=f"^{flag} is .*finite"):
        kind(**{field: value})


def test_options_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().max_width = 7


def test_flags_come_from_the_field_names_unless_told_otherwise():
    flags = {field.name: flags_of(field) for kind in (TrainConfig, PlaceConfig) for field in dataclasses.fields(kind)}
    assert flags["steps_per_checkpoint"] == ("--steps-per-checkpoint",)
    assert flags["resume"] == ("--no-resume",)
    assert flags["model_dir"] == ("--model-dir", "--job-dir")


def test_tables_hold_what_the_options_allow():
    def choices(options, name):
        return next(field.metadata["choices"] for field in dataclasses.fields(options) if field.name == name)

    assert set(choices(ExportConfig, "format")) == set(export.FORMATS)
    assert set(choices(DatasetConfig, "input_format")) == {"auto", *formats.FORMATS}
    assert set(choices(TrainConfig, "monitor")) == {"exact", *METRICS}
    assert set(choices(TestConfig, "decoding")) == set(decoding.METHODS)
