"""Drawn words: whole, readable, the same for the same seed."""

import os

import numpy as np
import pytest
from PIL import Image, ImageFilter

from aocr.data.synth import ALPHABET, LEAST_CONTRAST, draw_word, main, random_words, write_words


def test_a_seed_is_a_set_of_words(tmp_path):
    contents = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        annotations = write_words(str(tmp_path / name), 5, seed)
        with open(annotations, encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file]
        assert all(os.path.exists(path) for path, _ in rows)
        contents.append([(label, np.asarray(Image.open(path)).tobytes()) for path, label in rows])
    assert contents[0] == contents[1] != contents[2]
    assert not {label for label, _ in contents[0]} & {label for label, _ in contents[2]}


def test_words_are_of_the_alphabet_and_lengths():
    words = random_words(2000, np.random.default_rng(0))
    assert set("".join(words)) == set(ALPHABET)
    assert {len(word) for word in words} == {3, 4, 5, 6}


@pytest.mark.parametrize("seed", range(20))
def test_a_word_is_whole_and_stands_out(seed):
    image = draw_word("Q0WJ", np.random.default_rng(seed))
    assert image.mode == "L" and 20 <= image.height <= 80 and image.width > image.height
    smooth = np.asarray(image.filter(ImageFilter.MedianFilter(3)), float)
    border = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]])
    ground = np.median(border)
    inside = np.abs(smooth[2:-2, 2:-2] - ground)
    assert np.percentile(inside, 99) > LEAST_CONTRAST * 0.6  # there is ink
    assert np.abs(border - ground).max() < np.percentile(inside, 99)  # and none of it at the border


def test_the_command_says_where_the_annotations_are(tmp_path, capsys):
    main([str(tmp_path / "words"), "--count", "3", "--seed", "7"])
    assert capsys.readouterr().out == f"annotations: {tmp_path / 'words' / 'annotations.txt'}\n"
    assert len(os.listdir(tmp_path / "words")) == 4
