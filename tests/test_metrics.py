"""Metrics against values computed by hand."""

import pytest

from aocr.metrics import METRICS, Totals, accuracy


@pytest.mark.parametrize("text, label, by_distance, exact", [
    ("ABC", "ABC", 1.0, 1.0),
    ("ABD", "ABC", 2 / 3, 0.0),  # a substitution
    ("ABCD", "ABC", 2 / 3, 0.0),  # an insertion
    ("ABC", "ABCD", 3 / 4, 0.0),  # a deletion
    ("BAC", "ABC", 1 / 3, 0.0),  # a swap is two edits
    ("KITTEN", "SITTING", 4 / 7, 0.0),  # K-S, E-I, +G
    ("", "ABCDE", 0.0, 0.0),
    ("abc", "ABC", 0.0, 0.0),
    ("XXXXXXXXX", "AB", 0.0, 0.0),  # 9 edits in 2 characters: clipped at 0
    ("", "", 1.0, 1.0),
    ("A", "", 0.0, 0.0),
    ("ЖЁЛ", "ЖЕЛ", 2 / 3, 0.0),  # characters, not bytes
    ("字", "字", 1.0, 1.0),
])
def test_accuracy(text, label, by_distance, exact):
    assert accuracy(text, label, use_distance=True) == pytest.approx(by_distance, abs=1e-12)
    assert accuracy(text, label, use_distance=False) == exact


@pytest.mark.parametrize("text, label, by_distance", [
    (["e\u0301", "a"], ["e\u0301", "a"], 1.0),
    (["e", "a"], ["e\u0301", "a"], 1 / 2),  # without its mark it is another character
    (["e\u0323", "a"], ["e\u0301", "a"], 1 / 2),
    (["a"], ["e\u0301\u0323", "a", "b"], 1 / 3),
    ([], ["e\u0301"], 0.0),
    ([], [], 1.0),
])
def test_accuracy_of_characters_that_are_clusters(text, label, by_distance):
    assert accuracy(text, label, use_distance=True) == pytest.approx(by_distance, abs=1e-12)
    totals = Totals()
    totals.add(text, label, 0.5)
    assert totals.metrics()["exact_match"] == float(text == label)
    assert totals.metrics()["cer"] == pytest.approx(1 - by_distance)


SAMPLES = [("ABC", "ABC", 0.75), ("ABD", "ABC", 0.5), ("XXXXX", "AB", 0.25), ("", "", 1.0), ("ABCD", "ABCDE", 0.125)]


@pytest.mark.parametrize("use_distance, mean", [(True, (1 + 2 / 3 + 0 + 1 + 4 / 5) / 5), (False, 2 / 5)])
def test_totals(use_distance, mean):
    totals = Totals(use_distance=use_distance)
    for k, sample in enumerate(SAMPLES):
        totals.add(*sample, loss=0.5 * k)
    assert totals.samples == 5
    assert totals.metrics() == pytest.approx(dict(
        exact_match=2 / 5, accuracy=mean,
        cer=7 / 13,  # edits 0 + 1 + 5 + 0 + 1, characters 3 + 3 + 2 + 0 + 5
        wer=3 / 4, mean_probability=2.625 / 5, loss=1.0))


def test_figures_can_be_read_between_additions():
    totals = Totals()
    totals.add("A", "AB", 0.5)
    assert (totals.samples, *list(totals.metrics().values())[:3]) == (1, 0.0, 0.5, 0.5)
    totals.add("AB", "AB", 0.75)
    assert (totals.samples, *list(totals.metrics().values())[:3]) == (2, 0.5, 0.75, 0.25)


def test_error_rate_may_exceed_one():
    totals = Totals()
    totals.add("XYZ", "A", 0.5)
    assert totals.metrics()["cer"] == 3.0
    assert totals.metrics()["accuracy"] == 0.0


@pytest.mark.parametrize("texts, cer", [([], 0.0), ([""], 0.0), (["", "AB"], 1.0)])
def test_error_rate_without_label_characters(texts, cer):
    totals = Totals()
    for text in texts:
        totals.add(text, "", 0.5)
    assert totals.metrics()["cer"] == cer


@pytest.mark.parametrize("use_distance", [True, False])
def test_no_samples(use_distance):
    totals = Totals(use_distance=use_distance)
    assert totals.samples == 0
    assert list(totals.metrics()) == list(METRICS)
    for value in totals.metrics().values():
        assert value == 0.0 and isinstance(value, float)


def test_words_are_counted_too():
    totals = Totals()
    totals.add("the cat  sat", "the cat sat", 1.0)  # any number of blanks separates words
    totals.add(list("a dog"), list("one dog ran"), 1.0)  # a wrong word and a missing one
    totals.add("", "", 1.0)
    assert totals.metrics()["wer"] == pytest.approx(2 / 6) and totals.edits == 1 + 7
