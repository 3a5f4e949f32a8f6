"""The report of a test: its files, limits of its size, and the page in a browser."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.cli import main
from aocr.evaluation.analysis import Analysis, make_sample
from aocr.evaluation.report import gallery
from aocr.evaluation.report.gallery import Gallery, Top, segments, thumbnail
from aocr.evaluation.report.page import matrix
from aocr.evaluation.report.plots import calibration_plot
from aocr.evaluation.report.writer import report_in

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><script>document.title='hit'</script>&\"'"


def picture(width=60, height=32, noise=0):
    """Returns a PNG file with noise of a seed."""
    pixels = np.random.RandomState(noise).randint(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sample(record, text, label, confidence=0.5, image=""):
    return make_sample(record, image, label, text, confidence, 0.25, list)


def write(directory, samples, encoded=None):
    """Writes the report of some samples, whose attention moves from left to right in 6 encoder steps."""
    analysis = Analysis()
    with report_in(str(directory)) as report:
        for one in samples:
            analysis.add(one)
            attention = np.eye(6, dtype=np.float32)[np.arange(len(one.text) + 1) % 6]
            report.add(one, encoded or picture(), attention, lambda width, height: 6.0)
        facts = dict(dataset="words.tfrecords", checkpoint="model", decoding="joint", graphemes=False,
                     samples=len(samples), skipped=0, seconds=1.0, images_per_second=9.0)
        report.finish(facts, analysis.tally.figures(), analysis)
    return directory


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of 130 samples: 60 correct ones, 69 wrong ones, and one with markup in all its texts."""
    samples = [sample(k, "word", "word", 0.9, f"images/{k}.png") for k in range(60)]
    samples += [sample(k, "wo d", "ward", k / 200, f"images/{k}.png") for k in range(60, 129)]
    samples.append(sample(129, HOSTILE, HOSTILE[:-1], 0.1, HOSTILE))
    return write(tmp_path_factory.mktemp("report") / "new", samples)


def test_samples_are_lines_of_json_and_rows_of_csv(written):
    lines = [json.loads(line) for line in (written / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 130
    assert lines[70] == dict(record=70, image="images/70.png", label="ward", text="wo d", confidence=0.35, exact=False,
                             edits=2, insertions=0, deletions=0, substitutions=2, loss=0.25,
                             character_confidences=[])
    with open(written / "samples.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row.values()) for row in rows] == [
        [str(value) for value in list(line.values())[:-1]] for line in lines]
    assert rows[129]["text"] == HOSTILE


def test_metrics_are_an_object_of_json(written):
    found = json.loads((written / "metrics.json").read_text(encoding="utf-8"))
    assert found["format_version"] == 1 and found["decoding"] == "joint" and found["samples"] == 130
    assert found["metrics"]["exact_match"] == pytest.approx(60 / 130)
    assert {"by_length", "by_character", "confusions", "reliability"} < set(found)
    assert sorted(file.name for file in written.iterdir()) == ["metrics.json", "report.html", "samples.csv",
                                                               "samples.jsonl"]


def test_the_page_refers_to_nothing_outside(written):
    page = (written / "report.html").read_text(encoding="utf-8")
    without = page.replace("http://www.w3.org/", "")  # names of SVG's vocabulary
    assert "http:" not in without and "https:" not in without and "url(#" in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page) and "@import" not in page
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page
    assert "#0a0b" not in page and "DejaVu Sans'" not in page  # colours and font of the page


def test_what_a_label_contains_is_not_markup(written):
    page = (written / "report.html").read_text(encoding="utf-8")
    assert "<script>document" not in page
    assert HOSTILE in [row[1] for row in data_of(page)["rows"]]


def test_the_parts_of_the_gallery(written):
    parts = data_of((written / "report.html").read_text(encoding="utf-8"))["gallery"]
    assert [len(cards) for cards in parts.values()] == [gallery.SHOWN] * 3
    assert [card[0] for card in parts["worst"][:2]] == [60, 61]  # half of the characters; the earlier ones first
    assert [card[0] for card in parts["confident"][:2]] == [128, 127]
    assert parts["confident"][0][2] == ["w", ["o", "a"], [" ", "r"], "d"]
    columns, attention = parts["confident"][0][8]
    assert columns == 6 and attention  # of 4 steps
    assert any(card[4] == 0 for card in parts["random"])


def test_edits_of_the_page():
    assert segments(sample(0, "KITTEN", "SITTING"), apart=False) == [["K", "S"], "ITT", ["E", "I"], "N", ["", "G"]]
    assert segments(sample(0, "ab", "b"), apart=True) == [["a", ""], "b"]
    assert segments(sample(0, "", ""), apart=False) == []


def test_the_confusion_matrix():
    analysis = Analysis()
    for text, label in (("OO", "0O"), ("O", "0"), ("0", "0"), ("B", "B"), ("1", "1I")):
        analysis.add(sample(0, text, label))
    found = matrix(analysis)
    assert found["columns"] == ["0", "I", "O", ""]  # B and 1 are never confused
    assert dict(found["rows"])["0"] == [(1, 1 / 3), (0, 0.0), (2, 2 / 3), (0, 0.0)]
    assert dict(found["rows"])["I"] == [(0, 0.0), (0, 0.0), (0, 0.0), (1, 1.0)]


def test_only_the_highest_are_made_and_kept(monkeypatch):
    monkeypatch.setattr(gallery, "SHOWN", 3)
    top, made = Top(), []
    for number, key in enumerate([5, 1, 3, 3, 0, 9, 3]):
        top.offer(key, lambda number=number: made.append(number) or number)
    assert top.cards() == [5, 0, 2] and made == [0, 1, 2, 3, 5]


def test_the_list_is_bounded_and_wrong_samples_come_first(monkeypatch):
    monkeypatch.setattr(gallery, "ROW_BYTES", 1500)
    monkeypatch.setattr(gallery, "THUMBNAIL_BYTES", 12000)
    shown = Gallery()
    for k in range(100):
        shown.add(sample(k, "word" if k % 4 else "wood", "word"), picture(noise=k), np.ones((5, 1), np.float32),
                  lambda width, height: 1.0)
    rows = shown.rows()
    assert [row.record for row in rows] == sorted(row.record for row in rows)
    records = {row.record for row in rows}
    assert set(range(0, 100, 4)) <= records and 25 < len(rows) < 60
    with_picture = [row for row in rows if row.picture]
    assert 0 < len(with_picture) < len(rows) and sum(len(row.picture) for row in rows) <= 12000
    assert all(row.record % 4 == 0 for row in with_picture)


def test_pictures_are_bounded_and_may_be_missing():
    with Image.open(io.BytesIO(thumbnail(picture(2000, 100), (480, 40)))) as image:
        assert (image.format, image.size) == ("WEBP", (480, 24))
    with Image.open(io.BytesIO(thumbnail(picture(50, 20), (480, 40)))) as image:
        assert image.size == (50, 20)  # never enlarged
    assert thumbnail(b"no image", (480, 40)) == b""


def test_a_report_without_wrong_samples_or_attention(tmp_path):
    page = (write(tmp_path, [sample(0, "a", "a"), sample(1, "", "")], b"not for Pillow") / "report.html").read_text(
        encoding="utf-8")
    assert "Confusions" not in page and "Characters" in page
    assert [row[7] for row in data_of(page)["rows"]] == ["", ""]


def test_a_full_page_takes_less_than_20_mb(monkeypatch, tmp_path):
    """A sixteenth of the list, full; pictures of noise, which compress worst; long texts with attention."""
    cards = 3 * gallery.SHOWN * (gallery.CARD_BYTES + 4 * gallery.STEPS * gallery.COLUMNS // 3 + 2000)
    assert gallery.ROW_BYTES + gallery.THUMBNAIL_BYTES + cards < 19e6
    monkeypatch.setattr(gallery, "ROW_BYTES", gallery.ROW_BYTES // 16)
    monkeypatch.setattr(gallery, "THUMBNAIL_BYTES", gallery.THUMBNAIL_BYTES // 16)
    made = {limit: thumbnail(picture(*limit), limit) for limit in (gallery.SMALL, gallery.LARGE)}
    monkeypatch.setattr(gallery, "thumbnail", lambda encoded, limit: made[limit])
    label = "字" * 70
    samples = [sample(k, label[1:] if k % 3 else label, label, k / 500, "x" * 80) for k in range(500)]
    page = (write(tmp_path, samples) / "report.html").read_bytes()
    assert len(page) < (gallery.ROW_BYTES + gallery.THUMBNAIL_BYTES) * 1.05 + cards + 300e3
    assert b"wrong ones first" in page


def in_browser(page, profile):
    """Returns the number of samples that a page shows in Chromium, and its elements."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--no-first-run", f"--user-data-dir={profile}", "--virtual-time-budget=2000", "--dump-dom", f"file://{page}"],
        capture_output=True, text=True, timeout=120)
    found = re.search(r'data-found="(\d+)"', done.stdout)
    assert found, done.stderr
    return int(found[1]), done.stdout


in_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="Chromium is not installed; install it to open the report's page in it")


@in_chromium
def test_characters_have_the_colour_of_their_confidence(tmp_path):
    """Levels begin at 90, 70 and 50%; a missing character has none."""
    one = sample(0, "abcd", "axcde")._replace(confidences=[0.9, 0.7, 0.5, 0.49])
    _, page = in_browser(f"{write(tmp_path / 'report', [one])}/report.html", tmp_path / "profile")
    assert ('<span class="sure" title="confidence 90%" data-step="0">a</span>'
            '<mark class="substituted likely" title="label: x, confidence 70%" data-step="1">b</mark>'
            '<span class="doubtful" title="confidence 50%" data-step="2">c</span>'
            '<span class="unsure" title="confidence 49%" data-step="3">d</span>'
            '<mark class="deleted" title="missing">e</mark>') in page
    assert "Characters by confidence" in page


def test_a_calibrated_test_tells_what_it_was_before(tmp_path):
    """Of a temperature of 2, confidences of 0.81 and 0.25 were 0.6561 and 0.0625."""
    analysis = Analysis(temperature=2.0)
    for one in (sample(0, "a", "a", 0.81), sample(1, "b", "c", 0.25)):
        analysis.add(one)
    assert analysis.calibration() == pytest.approx(dict(
        temperature=2.0, calibration_error_before=(1 - 0.6561 + 0.0625) / 2))
    assert analysis.tally.calibration_error == pytest.approx((0.19 + 0.25) / 2)
    assert analysis.as_dict()["reliability_before"][0]["confidence"] == pytest.approx(0.0625)
    assert "before calibration" in calibration_plot(analysis) and "before" not in calibration_plot(Analysis())
    assert Analysis().calibration() == {}


@in_chromium
def test_the_page_in_a_browser(written, tmp_path):
    def shown(fragment):
        return in_browser(f"{written}/report.html{fragment}", tmp_path)

    found, page = shown("")
    assert found == gallery.SHOWN and page.count("<li class=\"wrong\"") == gallery.SHOWN
    assert '<span data-step="0">w</span><mark class="substituted" title="label: a" data-step="1">o</mark>' in page
    assert "<title>hit" not in page
    found, page = shown("#part=all&show=wrong&sort=most&q=WARD")
    assert found == 69 and page.index("128.png") < page.index("127.png")
    assert page.count("<li class=") == 60 and "Show more (9 left)" in page


def test_a_report_of_a_model(trained, tmp_path, capsys):
    directory = tmp_path / "deep" / "report"
    assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--log-path", "", "--report",
                 str(directory), "--fail-under", "exact=1", "--fail-under", "cer=0"]) == 0
    out = capsys.readouterr().out
    metrics = json.loads((directory / "metrics.json").read_text())["metrics"]
    assert f"one_minus_ned: {metrics['one_minus_ned']:.6f}\n" in out
    lines = [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == trained.labels and lines[0]["image"] == trained.images[0]
    data = data_of((directory / "report.html").read_text())
    assert sorted(card[2] for card in data["gallery"]["random"]) == sorted(list(label) for label in trained.labels)
    assert all(len(card) == 9 for card in data["gallery"]["random"])  # with attention
    assert lines[3]["text"] == "K90" and len(lines[3]["character_confidences"]) == 3
    assert all(0.5 < confidence <= 1.0 for line in lines for confidence in line["character_confidences"])


def test_missed_limits_end_with_1_after_the_results(trained, capsys):
    assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--log-path", "", "--fail-under",
                 "mean_probability=1", "--fail-under", "cer=0.5"]) == 1
    captured = capsys.readouterr()
    assert "images_per_second: " in captured.out
    last = captured.err.splitlines()[-1]
    assert re.fullmatch(r"aocr: error: --fail-under: mean_probability is 0\.\d+, below 1", last)


@pytest.mark.parametrize("limit, message", [
    ("exact", "--fail-under is 'exact'; give METRIC=VALUE, such as exact=0.95"),
    ("f1=0.9", "--fail-under f1=0.9: no metric is called 'f1'; use one of exact, exact_match, accuracy, cer"),
    ("cer=low", "--fail-under cer=low: 'low' is not a number"),
    ("cer=nan", "--fail-under cer=nan: 'nan' is not a number"),
])
def test_limits_that_are_not_understood(limit, message, capsys):
    assert main(["test", "data", "--fail-under", limit, "--log-path", ""]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"aocr: error: {message}") and len(captured.err.splitlines()) == 1


def test_missing_packages_are_named_before_the_work(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["test", "data", "--report", "r", "--log-path", ""]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("aocr: error: --report needs the packages jinja2 and matplotlib (")
    assert "pip install '.[report]'" in captured.err and len(captured.err.splitlines()) == 1


def test_a_directory_that_cannot_be_written(trained, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--log-path", "", "--report",
                 str(tmp_path / "file" / "report")]) == 1
    assert f"aocr: error: --report {tmp_path}/file/report: cannot be written: " in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(5, "of the data"), tf.errors.DataLossError(None, None, "of the data")])
def test_an_error_of_the_data_is_not_one_of_the_report(error, tmp_path):
    with pytest.raises(type(error), match="of the data"), report_in(str(tmp_path)):
        raise error
    assert not list(tmp_path.iterdir())


def test_an_interrupted_report_leaves_no_samples(tmp_path):
    with pytest.raises(KeyboardInterrupt), report_in(str(tmp_path)) as report:
        report.add(sample(0, "a", "b"), picture(), np.ones((2, 3), np.float32), lambda width, height: 3.0)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
