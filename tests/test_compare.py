"""Comparing two tests: differences with their intervals, changed samples, and what is refused."""

import json
import random

import pytest

from aocr.cli import main
from aocr.evaluation.comparison import COMPARED, Reading, compare, compare_metrics


def reading(record, text, label="word", confidence=0.5, image=""):
    return Reading(record, image, label, text, confidence, 0.25)


def pairs_of(*texts):
    """Pairs of readings from (text before, text after) of the label `word`."""
    return [(reading(k, before), reading(k, after)) for k, (before, after) in enumerate(texts)]


def by_name(comparison):
    return {difference.name: difference for difference in comparison.differences}


def test_changed_samples_by_kind():
    comparison = compare(pairs_of(("word", "word"), ("wor", "word"), ("word", "ward"), ("wo", "wor"), ("w", "w")), list,
                         100, 0)
    found = {kind: [pair[0].record for pair in getattr(comparison, kind)] for kind in ("fixed", "broken", "other")}
    assert found == dict(fixed=[1], broken=[2], other=[3]) and comparison.samples == 5
    assert by_name(comparison)["cer"][1:3] == (6 / 20, 5 / 20)  # edits 0 + 1 + 0 + 2 + 3, then 0 + 0 + 1 + 1 + 3


def test_the_interval_of_a_share():
    """60 of 200 samples are fixed: the difference of 0.3 has a standard error of sqrt(0.3 x 0.7 / 200) = 0.0324."""
    pairs = pairs_of(*[("wor", "word")] * 60, *[("word", "word")] * 140)
    exact = by_name(compare(pairs, list, 4000, 1))["exact_match"]
    assert exact.after - exact.before == pytest.approx(0.3)
    assert exact.interval == pytest.approx((0.3 - 1.96 * 0.0324, 0.3 + 1.96 * 0.0324), abs=0.01)
    assert exact.verdict == "better"


def test_samples_are_paired():
    """A small change in few of many differing samples is clear, although the metrics themselves vary widely."""
    drawn = random.Random(3)
    texts = ["w" * drawn.randrange(5) for _ in range(400)]
    pairs = pairs_of(*[(text, text if k % 20 else text + "ord") for k, text in enumerate(texts)])
    cer = by_name(compare(pairs, list, 500, 0))["cer"]
    assert cer.interval[1] - cer.interval[0] < 0.1


def test_an_equal_seed_gives_equal_intervals():
    pairs = pairs_of(*[("wor", "word"), ("word", "wo"), ("wrd", "ward")] * 10)
    first, again, other = (compare(pairs, list, 200, seed).differences for seed in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize("texts, verdicts", [
    ([("word", "word"), ("wor", "wor")], ("same", "same")),
    ([("wor", "word")] * 9, ("better", "better")),
    ([("word", "wor")] * 9, ("worse", "worse")),
    ([("word", "wor"), ("wor", "word")] * 9, ("unclear", "unclear")),
])
def test_verdicts_follow_the_direction_of_the_metric(texts, verdicts):
    found = by_name(compare(pairs_of(*texts), list, 200, 0))
    assert (found["exact_match"].verdict, found["cer"].verdict) == verdicts


def test_metrics_alone_have_no_interval():
    found = compare_metrics(dict(cer=0.5, loss=1.0, wer=0.1), dict(cer=0.25, loss=2.0, other=3.0))
    assert [(d.name, d.interval, d.verdict) for d in found] == [("cer", None, "better"), ("loss", None, "worse")]


def report(directory, texts, labels=("word",) * 9, samples=True):
    """Writes what `compare` needs of a report."""
    directory.mkdir()
    (directory / "metrics.json").write_text(json.dumps(dict(graphemes=False, metrics=dict(cer=0.5, loss=None))))
    if samples:
        lines = [json.dumps(dict(record=k, image=f"{k}.png", label=label, text=text, confidence=0.5, loss=None)) + "\n"
                 for k, (text, label) in enumerate(zip(texts, labels))]
        (directory / "samples.jsonl").write_text("".join(lines))
    return str(directory)


def run(*arguments):
    return main(["compare", *arguments, "--log-path", ""])


def test_two_reports(tmp_path, capsys):
    a = report(tmp_path / "a", ["wor", "wo", "word", "word"])
    b = report(tmp_path / "b", ["word", "word", "word", "wo"])
    assert run(a, f"{b}/metrics.json", "--count", "1") == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[:3] == [f"A: {a}", f"B: {b}/metrics.json", "samples: 4"]
    assert [line.split()[0] for line in lines[5:5 + len(COMPARED)]] == list(COMPARED)
    assert lines[5].split()[1:4] == ["0.500000", "0.750000", "+0.250000"] and lines[5].endswith("unclear")
    assert out.endswith("fixed: 2\n  record 0 (0.png), label 'word': 'wor' -> 'word'\n  ... and 1 more\n\n"
                        "broken: 1\n  record 3 (3.png), label 'word': 'word' -> 'wo'\n\nwrong in another way: 0\n")


def test_metrics_without_samples(tmp_path, capsys):
    a, b = report(tmp_path / "a", [], samples=False), report(tmp_path / "b", ["word"])
    assert run(a, b) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()[-2:]]
    assert rows == [["cer", "0.500000", "0.500000", "+0.000000", "unknown", "same"],
                    ["loss", "nan", "nan", "+nan", "unknown", "unclear"]]
    assert "samples.jsonl" in captured.err and "fixed" not in captured.out


def test_samples_of_one_test_only_are_left_out(tmp_path, capsys):
    a, b = report(tmp_path / "a", ["word"] * 3), report(tmp_path / "b", ["word"] * 2)
    assert run(a, b) == 0
    captured = capsys.readouterr()
    assert "samples: 2\n" in captured.out and f"1 samples are in {a} only, and are left out" in captured.err


@pytest.mark.parametrize("spoil, message", [
    (lambda a, b: report(b, ["word"], ["ward"]),
     "record 0 has the label 'word' in {a}, but 'ward' in {b}; compare tests of one dataset"),
    (lambda a, b: report(b, []), "{a} and {b} have no samples in common; compare tests of one dataset"),
    (lambda a, b: None, "{b}/metrics.json: cannot be read: No such file or directory; make a report with `aocr test"),
    (lambda a, b: (report(b, []), (b / "metrics.json").write_text("[]")), "{b}/metrics.json: not the metrics of a"),
    (lambda a, b: (report(b, []), (b / "samples.jsonl").write_text('{"record": 1}\n')),
     "{b}/samples.jsonl: line 1 is not a sample; make the report again"),
])
def test_what_cannot_be_compared(tmp_path, capsys, spoil, message):
    a, b = tmp_path / "a", tmp_path / "b"
    report(a, ["word"])
    spoil(a, b)
    assert run(str(a), str(b)) == 1
    captured = capsys.readouterr()
    assert f"aocr: error: {message.format(a=a, b=b)}" in captured.err and not captured.out


def test_two_models_on_a_dataset(trained, capsys):
    assert run(trained.model_dir, trained.model_dir, "--dataset", trained.dataset) == 0
    out = capsys.readouterr().out
    assert "samples: 5\n" in out and "fixed: 0\n" in out
    assert [line.split()[-1] for line in out.splitlines()[5:5 + len(COMPARED)]] == ["same"] * len(COMPARED)
