"""Augmentation: each operation against hand-computed values, invariants, recipes, and the commands."""

import io
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from model_fixtures import draw_word
from PIL import Image

from aocr.augment import ops as graph
from aocr.augment.recipes import PRESETS, Recipe, automatic, find_recipe, read_recipe
from aocr.cli import main
from aocr.config import AugmentConfig, TrainConfig
from aocr.data.records import to_example
from aocr.errors import UserError
from aocr.tasks.preview import draw_sheet

STRONGEST = Recipe(rotation=45, shear=45, perspective=0.2, elastic=2, blur=2, noise=40, contrast=0.7, brightness=128,
                   invert=0.5, jpeg=5)
GEOMETRY = Recipe(rotation=45, shear=45, perspective=0.2, elastic=2)
RECIPES = dict(PRESETS, strongest=STRONGEST)


def image(width, channels, seed=0):
    """Returns a random image: float32 [32, width, channels] with values that preprocessing could give."""
    levels = np.random.RandomState(seed).randint(0, 256, (32, width, channels))
    return ((levels - 128) / 128).astype(np.float32)


def word(text):
    """Draws a word, black on white, as the network sees it."""
    return ((np.asarray(draw_word(text), np.float32) - 128) / 128)[:, :, np.newaxis]


@pytest.fixture
def variant(bench):
    """variant(pixels, recipe, seed): an augmented image. One graph per recipe and number of channels."""
    made = {}

    def run(pixels, recipe, seed=(0, 0)):
        key = recipe, pixels.shape[2]
        seed = np.array(seed, np.int64)
        if key not in made:
            made[key] = bench(lambda pixels, seed: graph.augment(pixels, recipe, seed), dict(pixels=pixels, seed=seed))
        return made[key].run(pixels=pixels, seed=seed)

    return run


# ---- operations

@pytest.mark.parametrize("width, channels", [(1, 1), (2, 3), (37, 1), (101, 3)])
def test_an_empty_recipe_changes_nothing(variant, width, channels):
    pixels = image(width, channels)
    np.testing.assert_array_equal(variant(pixels, Recipe()), pixels)


def test_inversion_exchanges_levels(run_graph):
    pixels = ((np.array([0, 1, 128, 255]) - 128) / 128).reshape(1, 4, 1).astype(np.float32)
    for chosen, levels in [(True, [255, 254, 127, 0]), (False, [0, 1, 128, 255])]:
        got = run_graph(lambda pixels, chosen: graph.inverted(pixels, chosen), pixels=pixels, chosen=np.array(chosen))
        assert (got.ravel() * 128 + 128).tolist() == levels


def test_a_pixel_comes_from_between_four_and_from_the_nearest_edge(run_graph):
    pixels = np.array([[0, 1], [2, 5], [4, 9]], np.float32)[:, :, np.newaxis]  # 3 high, 2 wide
    places = np.array([[[0, 0], [1, 2]],  # on a pixel
                       [[0.5, 0], [0, 1.5]],  # between two
                       [[0.25, 0.5], [-7, 9]]], np.float32)  # 1 + 0.25 * (3 - 1); outside, at the lower left
    got = run_graph(graph.resampled, pixels=pixels, places=places)
    np.testing.assert_allclose(got[:, :, 0], [[0, 9], [0.5, 3], [1.5, 4]])


def test_corners_that_do_not_move_leave_every_place(run_graph):
    def build(width):
        points = graph.frame_places(width)
        return points, graph.projected(points, graph.corner_map(tf.constant(graph.CORNERS)))

    points, places = run_graph(build, width=np.int32(7))
    np.testing.assert_allclose(places, points, atol=1e-6)
    np.testing.assert_allclose(points[0, :, 0], [-6 / 7, -4 / 7, -2 / 7, 0, 2 / 7, 4 / 7, 6 / 7], atol=1e-6)
    np.testing.assert_allclose(points[:, 3, 1], np.arange(-31, 32, 2) / 32, atol=1e-6)


def test_shear_and_rotation_of_the_corners(run_graph):
    size = np.array([64, 32], np.float32)
    turned = run_graph(lambda size, angle, slant: graph.turned_corners(size, angle, slant), size=size,
                       angle=np.float32(math.radians(30)), slant=np.float32(0))
    # (32, 16) turned by 30 degrees: 32 cos - 16 sin, 32 sin + 16 cos, over 32 and 16.
    np.testing.assert_allclose(turned[2] * [32, 16], [19.7128, 29.8564], atol=1e-3)
    slanted = run_graph(lambda size, angle, slant: graph.turned_corners(size, angle, slant), size=size,
                        angle=np.float32(0), slant=np.float32(math.atan(0.5)))
    np.testing.assert_allclose(slanted, [[-1.25, -1], [0.75, -1], [1.25, 1], [-0.75, 1]], atol=1e-6)


def test_a_quarter_turn_moves_a_pixel_where_it_belongs(run_graph):
    """Clockwise: the pixel in column x of row y of a square moves to row x, column y from the right."""
    pixels = np.zeros((32, 32, 1), np.float32)
    pixels[4, 10] = 1.0

    def build(pixels, size):
        corners = graph.turned_corners(size, tf.constant(math.pi / 2), tf.constant(0.0))
        places = graph.projected(graph.frame_places(32), graph.corner_map(corners))
        return graph.resampled(pixels, (places + 1.0) * 16.0 - 0.5)

    got = run_graph(build, pixels=pixels, size=np.array([32, 32], np.float32))
    assert np.unravel_index(got.argmax(), got.shape) == (10, 27, 0)
    assert got.max() == pytest.approx(1.0, abs=1e-3) and got.sum() == pytest.approx(1.0, abs=1e-2)


def test_a_trapezoid_maps_back_to_the_frame(run_graph):
    """The right side has half the height: the frame's centre is where the diagonals meet, a third from the right."""
    corners = np.array([[-1, -1], [1, -0.5], [1, 0.5], [-1, 1]], np.float32)
    points = np.array([[[-1, -1], [1, 0.5], [1 / 3, 0]]], np.float32)
    got = run_graph(lambda points, corners: graph.projected(points, graph.corner_map(corners)), points=points,
                    corners=corners)
    np.testing.assert_allclose(got, [[[-1, -1], [1, 1], [0, 0]]], atol=1e-5)


def test_corners_outside_are_shrunk_and_shifted_inside(run_graph):
    corners = np.array([[-2, -0.5], [2, -0.5], [2, 1.25], [-2, 1.25]], np.float32)
    got = run_graph(graph.fitted, corners=corners)
    np.testing.assert_allclose(got, [[-1, -0.75], [1, -0.75], [1, 1], [-1, 1]])


@pytest.mark.parametrize("width", [1, 5, 12, 33, 200])
def test_elastic_shifts_stay_small_smooth_and_off_the_border(run_graph, width):
    shift = run_graph(lambda width: graph.elastic_shift(width, 2.0, tf.constant([1, 2], tf.int64)),
                      width=np.int32(width))
    assert shift.shape == (32, width, 2)
    assert np.abs(shift).max() < 2.4
    assert np.abs(shift[[0, -1]]).max() < 0.3 and np.abs(shift[:, [0, -1]]).max() < 0.3  # the cubic's overshoot
    assert shift.any() == (width >= 3 * graph.WAVE)
    for axis in (0, 1):  # nothing folds: no pixel overtakes its neighbour
        assert np.diff(shift[:, :, 1 - axis], axis=axis).min(initial=0) > -0.9


def test_light_scales_about_the_mean_and_shifts(run_graph):
    pixels = np.array([0.25, -0.25, 0.5, -0.5], np.float32).reshape(2, 2, 1)
    for contrast, brightness, expected in [
            (0.5, 0.0, [0.125, -0.125, 0.25, -0.25]),
            (2.0, 0.125, [0.625, -0.375, 1.125, -0.875]),
            # mean 0, standard deviation sqrt(0.15625) = 0.395: up to 127/128 - 0.395, down to 0.395 - 1
            (1.0, 0.9, [0.8469, 0.3469, 1.0969, 0.0969]),
            (1.0, -0.9, [-0.3547, -0.8547, -0.1047, -1.1047])]:
        got = run_graph(lambda pixels, contrast, brightness: graph.lit(pixels, contrast, brightness), pixels=pixels,
                        contrast=np.float32(contrast), brightness=np.float32(brightness))
        np.testing.assert_allclose(got.ravel(), expected, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_a_gaussian_that_keeps_the_sum(run_graph, channels):
    pixels = np.zeros((32, 21, channels), np.float32)
    pixels[16, 10, -1] = 1.0
    got = run_graph(lambda pixels, sigma: graph.blurred(pixels, sigma, 2.0), pixels=pixels, sigma=np.float32(1.25))
    assert got.shape == pixels.shape and not got[:, :, :-1].any()
    profile = np.exp(-0.5 * (np.arange(-6, 7) / 1.25) ** 2)
    profile /= profile.sum()
    np.testing.assert_allclose(got[10:23, 4:17, -1], np.outer(profile, profile), atol=1e-6)


def test_no_blur_and_blur_of_one_colour(run_graph):
    pixels = image(3, 3)
    blur = lambda pixels, sigma: graph.blurred(pixels, sigma, 1.5)  # noqa: E731
    np.testing.assert_allclose(run_graph(blur, pixels=pixels, sigma=np.float32(0)), pixels, atol=1e-6)
    plain = np.full((32, 1, 1), -0.625, np.float32)
    np.testing.assert_allclose(run_graph(blur, pixels=plain, sigma=np.float32(1.5)), plain, atol=1e-6)


def test_noise_has_the_deviation_that_was_drawn(run_graph):
    """Its mean is 0, its deviation uniform up to the limit, or half the image's own if that is less."""
    def build(pixels, most):
        seeds = tf.stack([tf.range(50, dtype=tf.int64), tf.range(50, dtype=tf.int64)], 1)
        return tf.map_fn(lambda seed: graph.noisy(pixels, most, seed) - pixels, seeds,
                         fn_output_signature=tf.float32)

    pixels = image(150, 1)  # its own deviation is 0.58
    noise = run_graph(build, pixels=pixels, most=np.float32(0.2))
    deviations = noise.std(axis=(1, 2, 3))
    assert abs(noise.mean()) < 0.002
    assert deviations.min() < 0.03 and 0.17 < deviations.max() < 0.21
    assert deviations.mean() == pytest.approx(0.1, abs=0.02)
    faint = run_graph(build, pixels=pixels / 10, most=np.float32(0.2))
    assert faint.std(axis=(1, 2, 3)).max() == pytest.approx(0.5 * pixels.std() / 10, rel=0.05)


@pytest.mark.parametrize("width, channels", [(1, 1), (41, 1), (33, 3)])
def test_jpeg_is_pillow_s(run_graph, width, channels):
    """At the same quality, up to rounding and the decoders' upsampling of chroma."""
    pixels = image(width, channels)
    got = run_graph(lambda pixels, quality: graph.compressed(pixels, quality), pixels=pixels, quality=np.int32(30))
    file = io.BytesIO()
    levels = (pixels * 128 + 128).astype(np.uint8)
    Image.fromarray(levels[:, :, 0] if channels == 1 else levels).save(file, "JPEG", quality=30)
    expected = np.asarray(Image.open(file), np.float32).reshape(pixels.shape) / 128 - 1
    assert got.shape == pixels.shape and np.abs(got - expected).mean() < 0.02
    assert np.abs(got - pixels).mean() > 0.03


# ---- invariants of all operations

@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range_stay(variant, name, channels):
    for seed, width in enumerate([1, 2, 13, 38, 257]):
        got = variant(image(width, channels), RECIPES[name], (seed, width))
        assert got.shape == (32, width, channels) and got.dtype == np.float32
        assert got.min() >= -1 and got.max() < 1


def test_static_shape_stays():
    with tf.Graph().as_default():
        pixels = tf.placeholder(tf.float32, [32, None, 3])
        assert graph.augment(pixels, STRONGEST, tf.constant([1, 2], tf.int64)).shape.as_list() == [32, None, 3]


def test_a_seed_is_a_variant(variant):
    pixels = image(50, 1)
    first = variant(pixels, STRONGEST, (3, 4))
    np.testing.assert_array_equal(variant(pixels, STRONGEST, (3, 4)), first)
    for other in [(4, 3), (3, 5), (2, 4)]:
        assert np.abs(variant(pixels, STRONGEST, other) - first).mean() > 0.01


def test_seeds_of_runs_epochs_and_records_differ(run_graph):
    triples = np.array(list(itertools.product((0, 1), (0, 1, 7), (0, 1, 7))), np.int64)
    seeds = run_graph(lambda triples: tf.map_fn(lambda t: graph.variant_seed(t[0], t[1], t[2]), triples),
                      triples=triples)
    assert len({tuple(seed) for seed in seeds}) == len(triples)


def test_operations_draw_apart(variant):
    """An operation's random draw does not depend on the recipe's other operations."""
    pixels = image(50, 1) / 4
    lit = variant(pixels, Recipe(brightness=20), (5, 5)) - pixels
    assert np.ptp(lit) < 1e-6 and abs(lit.mean()) > 0.001
    both = variant(pixels, Recipe(brightness=20, noise=20), (5, 5)) - variant(pixels, Recipe(noise=20), (5, 5))
    np.testing.assert_allclose(both, lit, atol=1e-5)


@pytest.mark.parametrize("width", [1, 9, 32, 90, 700])
def test_no_place_of_an_image_leaves_it(run_graph, width):
    """At the strongest geometry, each corner of the image is still near some pixel's source position."""
    def build(width):
        seeds = tf.stack([tf.range(40, dtype=tf.int64), 3 * tf.range(40, dtype=tf.int64)], 1)
        return tf.map_fn(lambda seed: graph.moved_places(width, GEOMETRY, seed), seeds,
                         fn_output_signature=tf.float32)

    places = run_graph(build, width=np.int32(width)).reshape(40, -1, 2)
    for corner in [(0, 0), (width - 1, 0), (0, 31), (width - 1, 31)]:
        nearest = np.abs(places - corner).max(axis=2).min(axis=1)
        assert nearest.max() < 2.0
    assert np.ptp(places, axis=1).max() < 2.5 * max(width, 32), "an image became tiny"


@pytest.mark.parametrize("text", ["7", "A1", "WWMW", "ILLUSTRATIONS 1234567"])
def test_ink_stays(variant, text):
    """Even at the strongest geometry, words keep most of their ink: they may shrink, but are not cut off."""
    pixels = word(text)
    ink = (1 - pixels).sum()
    for seed in range(12):
        got = variant(pixels, GEOMETRY, (seed, 0))
        assert 0.3 * ink < (1 - got).sum() < 1.3 * ink
        assert got.min() < -0.3


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("ground, ink", [(127 / 128, -1.0), (0.9, 0.7), (-0.9, -0.7), (-1.0, 127 / 128)])
def test_words_stay_visible(variant, name, ground, ink):
    """Light, noise and compression keep word and background distinct, even for faint words near black or white."""
    recipe = Recipe(**{field: getattr(PRESETS[name], field) for field in ("contrast", "brightness", "noise", "jpeg")})
    shape = (1 - word("K90")) / 2  # 1 where there is ink
    pixels = (ground + (ink - ground) * shape).astype(np.float32)
    for seed in range(12):
        got = variant(pixels, recipe, (seed, 1))
        assert np.corrcoef(got.ravel(), pixels.ravel())[0, 1] > 0.5


# ---- recipes

def test_the_presets_are_named_in_the_help_and_do_something():
    help = TrainConfig.__dataclass_fields__["augment"].metadata["help"]
    for name, recipe in PRESETS.items():
        assert name in help and recipe != Recipe() and find_recipe(name) is recipe
    assert find_recipe("none") is None
    assert "rotation 2, shear 3, perspective 0.03" in str(PRESETS["scan"])


@pytest.mark.parametrize("records, optimizer, name", [
    (50_000, "adam", "light"), (50_001, "adamw", "none"), (5, "adadelta", "none")])
def test_what_auto_stands_for(records, optimizer, name):
    assert TrainConfig().augment == "auto" and automatic(records, optimizer) == name


def test_a_recipe_from_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(dict(rotation=3, blur=0.5, jpeg=50)))
    assert find_recipe(str(path)) == Recipe(rotation=3, blur=0.5, jpeg=50)


@pytest.mark.parametrize("content, told", [
    ('{"rotate": 3}', "unknown key 'rotate'; valid keys are rotation, shear"),
    ('{"rotation": 46}', "rotation is 46; the maximum is 45"),
    ('{"noise": -1}', "noise is -1; the minimum is 0"),
    ('{"blur": NaN}', "blur is nan; use a finite number"),
    ('{"blur": "much"}', 'blur is "much"; give a number'),
    ('{"invert": true}', "invert is true; give a number"),
    ('{"jpeg": 50.5}', "jpeg is 50.5; give an integer"),
    ('{"noise": null}', "noise is null; give a number"),
    ("[1]", "not a JSON object; write a recipe such as"),
    ("[" * 100_000, "not JSON (nested too deeply); write a recipe such as"),
    ("{", "not JSON (Expecting property name"),
    ("\xff", "not JSON ('utf-8' codec"),
])
def test_a_wrong_recipe_is_one_clear_error(content, told):
    with pytest.raises(UserError) as caught:
        read_recipe(content.encode("latin-1"), "my.json")
    assert str(caught.value).startswith(f"my.json: {told}") and "\n" not in str(caught.value)


def test_a_name_that_is_neither_preset_nor_file(tmp_path):
    for name in ("sceen", "", str(tmp_path)):
        with pytest.raises(UserError) as caught:
            find_recipe(name)
        assert str(caught.value).startswith(f"--augment {name}: cannot be read: ")
        assert str(caught.value).endswith(
            "give auto, none, light, scan, scene, captcha, plate or the path of a JSON file")


def test_recipes_need_no_tensorflow():
    code = "import sys, aocr.augment.recipes; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- commands

def test_a_sheet(dataset, tmp_path, capsys):
    sheets = []
    for name, flags in [("a", ["--seed", "1"]), ("b", ["--seed", "1"]), ("c", ["--seed", "2", "--color"])]:
        path = str(tmp_path / f"{name}.png")
        assert main(["augment", dataset, path, "--augment", "scene", "--count", "3", "--variants", "2", "--log-path",
                     "", *flags]) == 0
        assert capsys.readouterr().out == f"samples: 3\nsheet: {path}\n"
        sheets.append(Image.open(path))
    assert [sheet.mode for sheet in sheets] == ["L", "L", "RGB"]
    assert sheets[0].height == 4 + 3 * (2 * 32 + 4)
    assert sheets[0].tobytes() == sheets[1].tobytes()
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png", "c.png"]


def test_the_places_of_a_sheet():
    sheet = draw_sheet([np.stack([np.full((32, w, 1), level, np.float32) for level in (-1, 0)]) for w in (5, 9)])
    assert sheet.shape == (4 + 2 * 68, 4 + 2 * 22, 1)
    assert (sheet[4:68, 4:14] == 0).all() and (sheet[4:68, 26:36] == 128).all() and (sheet[72:136, 4:22] == 0).all()
    assert (sheet[:4] == 96).all() and (sheet[4:68, 14:26] == 96).all()


def test_a_sheet_leaves_out_what_cannot_be_decoded(words, tmp_path, capsys):
    data, path = str(tmp_path / "data"), str(tmp_path / "sheet.png")
    with tf.io.TFRecordWriter(data) as writer:
        for encoded in [b"broken", *(Path(image).read_bytes() for image in words.images[:2])]:
            writer.write(to_example(encoded, "A").SerializeToString())
    assert main(["augment", data, path, "--log-path", ""]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("samples: 2\n") and "record 0 is skipped" in captured.err


@pytest.mark.parametrize("flags, code, told", [
    (["--augment", "sceen"], 1, "--augment sceen: cannot be read"),
    (["--count", "0"], 2, "--count is 0; the minimum is 1"),
])
def test_mistakes_on_the_command_line(dataset, tmp_path, capsys, flags, code, told):
    assert main(["augment", dataset, str(tmp_path / "a.png"), "--log-path", "", *flags]) == code
    assert told in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_a_sheet_that_cannot_be_written(dataset, tmp_path, capsys):
    path = str(tmp_path / "missing" / "a.png")
    assert main(["augment", dataset, path, "--count", "1", "--variants", "1", "--log-path", ""]) == 1
    assert f"{path}: cannot be written: " in capsys.readouterr().err.splitlines()[-1]


def test_augmented_training(dataset, tmp_path, capsys):
    """Augmentation belongs to the run, not to the model, and changes the losses."""
    losses = {}
    for name, flags in [("plain", []), ("scene", ["--augment", "scene", "--cache"])]:
        assert main(["train", dataset, "--model-dir", str(tmp_path / name), "--attn-num-hidden", "8", "--batch-size",
                     "5", "--log-path", "", "--max-steps", "2", *flags]) == 0
        captured = capsys.readouterr()
        assert ("augmentation scene: rotation 15, shear 15" in captured.err) == (name == "scene")
        losses[name] = captured.out.splitlines()[1]
    assert losses["plain"] != losses["scene"]
    assert (tmp_path / "plain" / "model.json").read_text() == (tmp_path / "scene" / "model.json").read_text()


def test_training_with_an_unknown_augmentation_changes_nothing(dataset, tmp_path, capsys):
    assert main(["train", dataset, "--model-dir", str(tmp_path / "model"), "--log-path", "", "--augment", "x"]) == 1
    assert "--augment x: cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_defaults_of_the_command():
    assert vars(AugmentConfig()) == dict(augment="scene", count=8, variants=6, seed=0, color=False,
                                         max_pixels=50_000_000)
