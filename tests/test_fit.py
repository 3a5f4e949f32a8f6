"""Model options fitted to the data, and violations of limits."""

import math

import pytest

from aocr.charset import ALPHANUMERIC, FULL_ASCII, Charset, charset_for
from aocr.config import CTC_WEIGHT, ModelConfig, TrainConfig
from aocr.data.fit import check_labels, fit_charset, fit_config, is_right_to_left
from aocr.data.scanning import DatasetStatistics, Seen
from aocr.errors import UserError
from aocr.training.prepare import settled


def a_scan(widest=50, longest=5, characters="A"):
    """Returns a DatasetStatistics with these extremes."""
    return DatasetStatistics("data", ["data"], records=3, widths={widest: 1},
                             lengths={longest: Seen(1, 2, "L" * longest)},
                             characters={c: Seen(4, 1, f"x{c}") for c in characters})


def test_defaults_stay_where_the_data_fits():
    assert fit_config(a_scan(86, 7), {}) == (ModelConfig(), [])


@pytest.mark.parametrize("widest", [87, 97, 397, 1023, 2048])
@pytest.mark.parametrize("max_height", [60, 32, 31, 7])
def test_the_canvas_loses_nothing(widest, max_height):
    given = {"max_height": max_height}
    config, told = fit_config(a_scan(widest), given)
    if widest > ModelConfig(**given).canvas_width:
        assert config.canvas_width >= widest
        # The canvas is no wider than needed.
        assert math.ceil((config.max_width - 1) / max_height * 32) < widest
        assert f"--max-width {config.max_width} instead of 160" in told[0]
    else:
        assert (config.max_width, told) == (160, [])
    assert config.max_height == max_height


def test_the_canvas_is_at_most_2048():
    assert fit_config(a_scan(9999), {})[0].canvas_width == 2048


def test_what_is_given_is_a_limit():
    config, told = fit_config(a_scan(300, 20), {"max_width": 100, "max_prediction": 9, "cnn": "compact"})
    assert (config.max_width, config.max_height, config.max_prediction, told) == (100, 60, 9, [])


def test_the_longest_label_fits():
    config, told = fit_config(a_scan(253, 23), {"max_width": 500})
    assert (config.max_prediction, config.cnn) == (23, "compact")
    assert told == ["--max-prediction 23 instead of 8 (the longest label)"]


@pytest.mark.parametrize("width, length, cnn", [
    (60, 6, "fine"), (65, 6, "fine"), (66, 6, "compact"), (9, 0, "compact")])
def test_narrow_characters_get_a_finer_network(width, length, cnn):
    config, told = fit_config(a_scan(width, length), {})
    assert config.cnn == cnn
    note = f"--cnn fine instead of compact ({width / max(1, length):.1f} pixels per character at height 32)"
    assert told == ([note] if cnn == "fine" else [])
    assert fit_config(a_scan(width, length), {"cnn": "compact"})[0].cnn == "compact"


def test_labels_that_no_model_can_read():
    scan = a_scan(longest=1001)
    config, _ = fit_config(scan, {})
    assert config.max_prediction == 1000
    with pytest.raises(UserError, match="1001 characters exceed --max-prediction 1000: .* the first is .L{80}. "):
        check_labels(scan, config, Charset("AL"), "R")


def test_the_alphabet_is_widened_by_what_the_labels_need():
    assert fit_charset(a_scan(characters="A7")) == (Charset(ALPHANUMERIC), [])
    charset, told = fit_charset(a_scan(characters="aЖ A"))
    assert charset == Charset(" " + ALPHANUMERIC + "aЖ")
    assert told == ["3 characters beyond 0-9 and A-Z ( aЖ)"]
    assert fit_charset(a_scan(characters="aЖ"), Charset(FULL_ASCII)) == (Charset(FULL_ASCII), [])


def test_an_alphabet_of_graphemes():
    scan = DatasetStatistics("data", ["data"], graphemes=True)
    for label in ("e\u0301e", "A7", "न्दीe\u0301न्दी"):
        scan.count(label, 50, 32)
    assert fit_config(scan, {"graphemes": True, "max_prediction": 3})[0].max_prediction == 3
    charset, told = fit_charset(scan)
    assert charset == charset_for({"e", "e\u0301", "न्दी"}, graphemes=True) and charset.graphemes
    assert told == ["3 characters beyond 0-9 and A-Z (e e\u0301 न्दी)"]
    check_labels(scan, ModelConfig(max_prediction=3), charset, "R")
    with pytest.raises(UserError, match=r"character 'e\u0301' \(U\+0065 U\+0301\) is not .*: 2 labels, the first is "
                                        r"'e\u0301e' .*3 characters exceed --max-prediction 2: 1 labels"):
        check_labels(scan, ModelConfig(max_prediction=2), charset_for({"e", "न्दी"}, graphemes=True), "R")


def test_breaches_are_listed_with_label_record_and_remedy():
    scan = a_scan(longest=11, characters="AbЖ")
    with pytest.raises(UserError) as caught:
        check_labels(scan, ModelConfig(max_prediction=9), Charset(ALPHANUMERIC), "Do this")
    message = str(caught.value)
    assert "character 'b' (U+0062)" in message and "character 'Ж' (U+0416)" in message
    assert "4 labels, the first is 'xЖ' (record 1)" in message
    assert "11 characters exceed --max-prediction 9: 1 labels, the first is 'LLLLLLLLLLL' (record 2)" in message
    assert message.endswith("Do this") and "'A'" not in message


def test_the_list_of_breaches_is_cut():
    with pytest.raises(UserError, match="and 90 more"):
        check_labels(a_scan(characters=[chr(0x4E00 + k) for k in range(100)]), ModelConfig(), Charset("A"), "R")


@pytest.mark.parametrize("characters, expected", [
    ("ABC12", False), ("אבג12", True), ("عربی", True), ("אבA", True), ("אAB", False), ("12.-", False), ("", False)])
def test_the_direction_of_the_labels(characters, expected):
    """Depends on letters only; digits and punctuation are neutral."""
    assert is_right_to_left(a_scan(characters=characters)) is expected


@pytest.mark.parametrize("width, batch_size", [(86, 16), (400, 16), (800, 8), (1600, 4), (9999, 4)])
def test_what_nobody_set_follows_from_the_data(width, batch_size):
    config = settled(TrainConfig(), a_scan(width, 20), ModelConfig(max_width=2048, max_height=32))
    assert (config.batch_size, config.ctc_weight) == (batch_size, CTC_WEIGHT)


def test_what_is_set_stays():
    config = settled(TrainConfig(batch_size=77, ctc_weight=0.9, augment="scene"), a_scan(800, 70), ModelConfig())
    assert (config.batch_size, config.ctc_weight, config.augment) == (77, 0.9, "scene")
    config = settled(TrainConfig(optimizer="adadelta"), a_scan(800, 70), ModelConfig(ctc=False))
    assert (config.batch_size, config.ctc_weight, config.augment) == (65, 0.0, "none")


@pytest.mark.parametrize("images, cached", [(1000, True), (100_000, False)])
def test_little_data_are_kept_in_memory(images, cached):
    scan = a_scan(86)
    scan.widths = {86: images}  # 11 KB each
    assert settled(TrainConfig(), scan, ModelConfig()).cache is cached
    assert settled(TrainConfig(cache=True), scan, ModelConfig()).cache
