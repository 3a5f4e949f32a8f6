"""Alignment and figures of a test, against values derived by hand and against the package distance."""

import pytest
from distance import levenshtein
from hypothesis import given
from hypothesis import strategies as st

from aocr.charset import splitter
from aocr.evaluation.alignment import Pair, align, edit_counts
from aocr.evaluation.analysis import FIGURES, Analysis, Tally, alphanumeric, make_sample
from aocr.evaluation.limits import missed, parse_limits
from aocr.metrics import METRICS

TEXTS = st.text("abcd", max_size=12)


def sample(text, label, confidence=0.5, split=list):
    return make_sample(0, "", label, text, confidence, 0.0, split)


def tally_of(*samples):
    tally = Tally()
    for one in samples:
        tally.add_sample(one)
    return tally


@pytest.mark.parametrize("text, label, insertions, deletions, substitutions", [
    ("ABC", "ABC", 0, 0, 0),
    ("ABD", "ABC", 0, 0, 1),
    ("ABCD", "ABC", 1, 0, 0),
    ("XABC", "ABC", 1, 0, 0),
    ("ABC", "ABCD", 0, 1, 0),
    ("BAC", "ABC", 0, 0, 2),  # a swap: also one insertion and one deletion; substitutions come first
    ("SITTING", "KITTEN", 1, 0, 2),
    ("KITTEN", "SITTING", 0, 1, 2),
    ("", "ABCDE", 0, 5, 0),
    ("ABCDE", "", 5, 0, 0),
    ("", "", 0, 0, 0),
    ("AAA", "AA", 1, 0, 0),  # beginning and end overlap
])
def test_kinds_of_edits(text, label, insertions, deletions, substitutions):
    assert edit_counts(align(text, label)) == (insertions, deletions, substitutions)


def test_an_alignment_has_every_character_in_order():
    assert align("KITTEN", "SITTING") == [("K", "S"), ("I", "I"), ("T", "T"), ("T", "T"), ("E", "I"), ("N", "N"),
                                          ("", "G")]
    assert align(["the", "cat"], ["the", "fat", "cat"]) == [("the", "the"), ("", "fat"), Pair("cat", "cat")]


@given(TEXTS, TEXTS)
def test_random_alignments_agree_with_another_edit_distance(text, label):
    pairs = align(text, label)
    assert ("".join(pair.text for pair in pairs), "".join(pair.label for pair in pairs)) == (text, label)
    assert all(pairs)
    counts = edit_counts(pairs)
    assert sum(counts) == levenshtein(text, label)
    assert counts.insertions - counts.deletions == len(text) - len(label)


@pytest.mark.parametrize("text, label, case_insensitive, alphanumeric_match, one_minus_ned", [
    ("Stop", "STOP", 1, 1, 1 / 4),
    ("it's", "its", 0, 1, 3 / 4),
    ("It's!", "its", 0, 1, 2 / 5),
    ("STRASSE", "Straße", 1, 1, 1 / 7),  # only the first letter agrees; the longer one has 7
    ("...", "!", 0, 1, 0),  # nothing is left of both
    ("A1", "A2", 0, 0, 1 / 2),
    ("हिन्दी", "हिन्द", 0, 0, 5 / 6),  # vowel signs are kept
    ("", "", 1, 1, 1),
    ("", "AB", 0, 0, 0),
    ("ABCD", "AB", 0, 0, 1 / 2),  # of the longer one
])
def test_matches_of_the_scene_text_protocol(text, label, case_insensitive, alphanumeric_match, one_minus_ned):
    figures = tally_of(sample(text, label)).figures()
    assert figures["case_insensitive_match"] == case_insensitive
    assert figures["alphanumeric_match"] == alphanumeric_match
    assert figures["one_minus_ned"] == pytest.approx(one_minus_ned)


def test_only_letters_digits_and_marks_are_alphanumeric():
    assert alphanumeric("Ä-Ｂ 2_x\u0301’") == "ä\uff422x\u0301"


def test_texts_are_compared_in_nfc():
    assert tally_of(sample("e\u0301a", "\u00e9a")).figures()["cer"] == 0.0
    composed = sample("e\u0323\u0301", "e\u0301\u0323")  # another order of the same marks
    assert composed.exact and composed.edits == 0


def test_characters_are_graphemes_where_the_model_has_them():
    text, label = "x\u0301b", "x\u0301\u0323b"  # no composed form
    by_points, by_clusters = sample(text, label), sample(text, label, split=splitter(True))
    assert (len(by_points.label), len(by_clusters.label)) == (4, 2)
    assert by_points.edit_counts == (0, 1, 0) and by_clusters.edit_counts == (0, 0, 1)


def test_figures_of_a_small_table():
    analysis = Analysis()
    for text, label, confidence in [("the cat", "the cat", 0.95), ("teh cat", "the cat", 0.85), ("a", "ab", 0.15),
                                    ("xyz", "xy", 0.1)]:
        analysis.add(sample(text, label, confidence))
    figures = analysis.tally.figures()
    assert figures == pytest.approx(dict(
        exact_match=1 / 4, accuracy=(1 + 5 / 7 + 1 / 2 + 1 / 2) / 4, cer=4 / 18, wer=3 / 6, mean_probability=2.05 / 4,
        loss=0.0, case_insensitive_match=1 / 4, alphanumeric_match=1 / 4,
        one_minus_ned=(1 + 5 / 7 + 1 / 2 + 2 / 3) / 4, insertions=1, deletions=1, substitutions=2, word_insertions=0,
        word_deletions=0, word_substitutions=3,
        calibration_error=(0.05 + 0.85 + 0.25) / 4))  # bins of 0.95, of 0.85, and of 0.15 with 0.1
    assert analysis.by_length() == [
        dict(length=2, samples=2, exact_match=0.0, cer=2 / 4, one_minus_ned=pytest.approx(7 / 12)),
        dict(length=7, samples=2, exact_match=0.5, cer=2 / 14, one_minus_ned=pytest.approx(6 / 7))]
    assert [list(bin.values()) for bin in analysis.tally.reliability()] == [
        [0.1, 0.2, 2, 0.125, 0.0], [0.8, 0.9, 1, 0.85, 0.0], [0.9, 1.0, 1, 0.95, 1.0]]
    assert [tuple(found.values()) for found in analysis.confused()] == [
        ("", "z", 1), ("b", "", 1), ("e", "h", 1), ("h", "e", 1)]
    by_character = {found.pop("character"): tuple(found.values()) for found in analysis.by_character()}
    assert by_character["h"] == (2, 2, 1, 1 / 2, 1 / 2)
    assert by_character["z"] == (0, 1, 0, 0.0, None)
    assert by_character["b"] == (1, 0, 0, None, 0.0)
    assert by_character["t"] == (4, 4, 4, 1.0, 1.0)


@pytest.mark.parametrize("confidence, bin", [(0.0, 0), (0.0999, 0), (0.1, 1), (0.999, 9), (1.0, 9), (float("nan"), 0)])
def test_bins_of_the_confidence(confidence, bin):
    assert tally_of(sample("a", "a", confidence)).binned[bin] == 1


def test_vectors_of_sums_can_be_added():
    parts = sample("abd", "abc", 0.75), sample("xx yy", "xx", 0.25)
    vectors = [tally_of(part).vector() for part in parts]
    added = Tally.of_vector([sum(numbers) for numbers in zip(*vectors)])
    assert added.figures() == tally_of(*parts).figures()


def test_the_figures_of_nothing():
    assert set(METRICS) < set(FIGURES) and all(value == 0 for value in Tally().figures().values())


@pytest.mark.parametrize("limits, problem", [
    (["exact=0.5", "cer=0.25"], None),  # the limits themselves are kept
    (["exact=0.51"], "--fail-under: exact_match is 0.5, below 0.51"),
    (["cer=0.2"], "--fail-under: cer is 0.25, above 0.2"),
    (["loss=9"], "--fail-under: loss is nan, above 9"),
    (["exact_match = 0.6", "wer=1", "deletions=0"],
     "--fail-under: exact_match is 0.5, below 0.6; deletions is 3, above 0"),
])
def test_limits(limits, problem):
    metrics = dict(exact_match=0.5, cer=0.25, wer=1.0, deletions=3, loss=float("nan"))
    assert missed(parse_limits(limits), metrics) == problem
