"""Edges of characters, on drawn columns."""

import numpy as np
import pytest

from aocr.graph import places
from aocr.graph.preprocess import PreparedImages


def image(*inked, width=20, columns=23):
    """Returns the pixels [32, columns, 1] of a white image with black ink in some columns, 0 beyond its width."""
    pixels = np.full([32, columns, 1], 0.9, np.float32)
    for first, end in inked:
        pixels[5:28, first:end] = -0.8
    pixels[:, width:] = 0.0
    return pixels


def edges(run_graph, centres, counts, pixels, widths, right_to_left=False):
    def build(centres, counts, pixels, widths):
        return places.find_edges(centres, counts, PreparedImages(pixels, widths), right_to_left)

    return run_graph(build, centres=np.array(centres, np.float32), counts=np.array(counts, np.int32),
                     pixels=np.array(pixels), widths=np.array(widths, np.int32))


def test_the_centre_is_the_median_of_attention(run_graph):
    attention = np.array([[[0.0, 1.0, 0.0], [0.25, 0.75, 0.0], [0.5, 0.0, 0.5], [0.2, 0.2, 0.6]]], np.float32)
    np.testing.assert_allclose(run_graph(places.attention_centres, attention=attention),
                               [[1.5, 4 / 3, 1.0, 2 + 0.1 / 0.6]], rtol=1e-5)


def test_edges_are_those_of_the_ink(run_graph):
    """Columns 3 to 5 and 9 to 12 of 20; of the second image only one character was read, from column 2 to 9 of 10."""
    pixels = [image((3, 6), (9, 13)), image((2, 10), width=10)]
    found = edges(run_graph, [[4.2, 10.1], [6.0, 0.0]], [2, 1], pixels, [20, 10])
    np.testing.assert_allclose(found, [[[0.15, 0.3], [0.45, 0.65]], [[0.2, 1.0], [0.0, 0.0]]], atol=1e-6)


def test_from_right_to_left_the_first_character_is_the_rightmost(run_graph):
    found = edges(run_graph, [[10.1, 4.2]], [2], [image((3, 6), (9, 13))], [20], right_to_left=True)
    np.testing.assert_allclose(found, [[[0.45, 0.65], [0.15, 0.3]]], atol=1e-6)


def test_ink_far_outside_is_of_something_else(run_graph):
    """The characters are 5 apart: the first one, at 10, reaches to 5 at most."""
    found = edges(run_graph, [[10.0, 15.0]], [2], [image((0, 2), (8, 12), (13, 17))], [20])
    np.testing.assert_allclose(found, [[[0.4, 0.6], [0.65, 0.85]]], atol=1e-6)


def test_without_gaps_the_middle_decides_and_without_ink_too(run_graph):
    """Cuts at the middle between 4 and 10, whose column begins at 6 or 7; the outer edges are as far outside."""
    found = edges(run_graph, [[4.0, 10.0]] * 2, [2, 2], [image((0, 20)), image()], [20, 20]) * 20
    assert found[0, 0, 1] == found[0, 1, 0] and 6.0 <= found[0, 0, 1] <= 8.0
    np.testing.assert_allclose(found[1, :, 0] + found[1, :, 1], [8.0, 20.0], atol=1e-4)  # around 4 and 10


@pytest.mark.parametrize("right_to_left", [False, True])
def test_edges_are_ordered_whatever_the_centres_are(run_graph, right_to_left):
    random = np.random.default_rng(3)
    pixels = random.uniform(-1.0, 1.0, [9, 32, 37, 3]).astype(np.float32)
    widths, counts = random.integers(1, 38, 9), random.integers(0, 8, 9)
    widths[:2], counts[:2] = (1, 2), (1, 7)
    found = edges(run_graph, random.uniform(-5.0, 45.0, [9, 7]), counts, pixels, widths, right_to_left)
    assert ((found >= 0.0) & (found <= 1.0)).all()
    for boxes, count in zip(found, counts):
        boxes = boxes[:count][::-1] if right_to_left else boxes[:count]
        assert (np.diff(boxes.reshape(-1)) >= -1e-6).all()

