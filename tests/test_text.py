"""Between text and ids, inside the graph."""

import numpy as np
import pytest

from aocr.charset import ALPHANUMERIC, Charset
from aocr.graph.text import ids_to_text, teaching_sequences, text_to_ids

TEXTS = ["", " ", "A  B ", "Щука", "深い湖", "e\u0301\u0323", "\u0301", "🐟🐠", "#AZ"]
CHARSET = Charset(sorted(set("".join(TEXTS)))[::-1])  # an order that is not that of the code points


def test_texts_become_the_ids_of_the_charset(bench):
    network = bench(lambda text: text_to_ids(text, CHARSET), dict(text=b""))
    for text in TEXTS:
        ids = network.run(text=text.encode())
        assert ids.dtype == np.int32
        assert ids.tolist() == CHARSET.encode(text)


def test_ids_become_text(run_graph):
    length = max(map(len, TEXTS)) + 2
    ids = [CHARSET.encode(text) + [2] + [0] * (length - len(text) - 1) for text in TEXTS]
    got = run_graph(lambda ids: ids_to_text(ids, CHARSET), ids=np.array(ids, np.int32))
    assert [text.decode() for text in got] == TEXTS


def test_there_and_back(bench):
    network = bench(lambda text: ids_to_text(text_to_ids(text, CHARSET)[np.newaxis], CHARSET), dict(text=b""))
    for text in TEXTS:
        assert [read.decode() for read in network.run(text=text.encode())] == [text]


def test_ids_to_text_is_the_charsets_decoding(run_graph):
    charset = Charset("abcdefgh")
    ids = np.random.RandomState(3).randint(0, len(charset), [50, 7]).astype(np.int32)
    got = run_graph(lambda ids: ids_to_text(ids, charset), ids=ids)
    assert [text.decode() for text in got] == [charset.decode(row) for row in ids]


@pytest.mark.parametrize("ids, text", [
    ([3, 5, 4, 3], b"ACBA"),
    ([3, 2, 4, 4], b"A"),  # nothing counts after EOS
    ([2, 3, 4, 2], b""),
    ([1, 3, 0, 4], b"AB"),  # GO and padding give nothing
    ([5, 2, 2, 5], b"C"),
])
def test_ids_to_text_by_hand(run_graph, ids, text):
    assert run_graph(lambda ids: ids_to_text(ids, Charset("ABC")), ids=np.array([ids], np.int32)).tolist() == [text]


@pytest.mark.parametrize("shape, texts", [((0, 4), []), ((3, 0), [b""] * 3)], ids=["no-image", "no-step"])
def test_ids_to_text_of_nothing(run_graph, shape, texts):
    assert run_graph(lambda ids: ids_to_text(ids, CHARSET), ids=np.zeros(shape, np.int32)).tolist() == texts


def test_a_character_that_the_charset_lacks_is_padding(bench):
    # Before the first point, between two, after the last, and one that shares no byte length.
    network = bench(lambda text: text_to_ids(text, Charset(ALPHANUMERIC)), dict(text=b""))
    assert network.run(text="0!9:AZa湖Z".encode()).tolist() == [3, 0, 12, 0, 13, 38, 0, 0, 38]
    assert network.run(text=b"\xff7").tolist() == [0, 10]  # no UTF-8


@pytest.mark.parametrize("ids, inputs, targets", [
    ([], [1], [2]),  # an empty label: GO asks for EOS at once
    ([7], [1, 7], [7, 2]),  # one character
    ([5, 3, 9], [1, 5, 3, 9], [5, 3, 9, 2]),  # inputs are the targets, a step late
    ([4, 4], [1, 4, 4], [4, 4, 2]),  # a repeated character stays twice
])
def test_teaching_sequences(run_graph, ids, inputs, targets):
    got = run_graph(teaching_sequences, ids=np.array(ids, np.int32))
    assert [part.tolist() for part in got] == [inputs, targets]
    assert all(part.dtype == np.int32 for part in got)
