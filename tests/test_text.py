"""Conversion between text and ids inside the graph."""

import numpy as np
import pytest

from aocr.charset import ALPHANUMERIC, Charset, splitter
from aocr.graph.text import ids_to_text, teaching_sequences, text_to_ids

TEXTS = ["", " ", "A  B ", "Щука", "深い湖", "e\u0301\u0323", "\u0301", "🐟🐠", "#AZ"]
CHARSET = Charset(sorted(set("".join(TEXTS)))[::-1])  # not in the order of the code points


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
    ([1, 3, 0, 4], b"AB"),  # GO and padding add nothing
    ([5, 2, 2, 5], b"C"),
])
def test_ids_to_text_by_hand(run_graph, ids, text):
    assert run_graph(lambda ids: ids_to_text(ids, Charset("ABC")), ids=np.array([ids], np.int32)).tolist() == [text]


@pytest.mark.parametrize("shape, texts", [((0, 4), []), ((3, 0), [b""] * 3)], ids=["no-image", "no-step"])
def test_ids_to_text_of_nothing(run_graph, shape, texts):
    assert run_graph(lambda ids: ids_to_text(ids, CHARSET), ids=np.zeros(shape, np.int32)).tolist() == texts


def test_a_character_that_the_charset_lacks_is_padding(bench):
    # Before the charset's first code point, between two, after the last, and one of another length in bytes.
    network = bench(lambda text: text_to_ids(text, Charset(ALPHANUMERIC)), dict(text=b""))
    assert network.run(text="0!9:AZa湖Z".encode()).tolist() == [3, 0, 12, 0, 13, 38, 0, 0, 38]
    assert network.run(text=b"\xff7").tolist() == [0, 10]  # invalid UTF-8


# At least one code point of each kind in the cluster boundary rules.
KINDS = ["\r", "\n", "\u200b\u0000", "ae", "\u0301\u0323\u200c\U0001f3fd", "\u200d", "\u0903\u0e33", "\u0600\U000110bd",
         "\u1112", "\u1161", "\u11ab", "\uac00", "\ud55c", "🇩🇪", "👩❤", "कष", "\u094d", "\u093f\u0b3c"]


def drawn_text(random, kinds):
    """Returns a text of 0 to 12 code points of some kinds; with few kinds, all their sequences are likely."""
    return "".join(random.choice(list(KINDS[random.choice(kinds)])) for _ in range(random.integers(13)))


@pytest.mark.parametrize("seed", range(12))
def test_in_the_graph_clusters_are_those_of_python(bench, seed):
    """The charset also holds clusters of other texts with the same beginnings or ends."""
    random, split = np.random.default_rng(seed), splitter(True)
    kinds = random.choice(len(KINDS), 4, replace=False) if seed % 3 else np.arange(len(KINDS))
    texts = [drawn_text(random, kinds) for _ in range(150)]
    characters = sorted({character for text in texts for character in split(text)})
    random.shuffle(characters)
    charset = Charset(characters, graphemes=True)
    network = bench(lambda text: text_to_ids(text, charset), dict(text=b""))
    for text in texts:
        ids = network.run(text=text.encode())
        assert ids.dtype == np.int32
        assert ids.tolist() == charset.encode(text), ascii(text)
        assert charset.decode(ids) == text


@pytest.mark.parametrize("text, ids", [
    ("", []),
    ("e", [3]),
    ("e\u0301", [4]),
    ("ee\u0301e", [3, 4, 3]),
    ("e\u0301\u0323", [5]),  # longer than one that it begins with
    ("🇩🇪🇩🇪🇩", [6, 6, 7]),
    ("न्दी", [8]),
    ("न्", [0, 0]),  # a prefix of one, at the end: not in the charset
    ("न्e", [0, 0, 3]),  # and elsewhere
    ("xe\u0301", [0, 4]),
])
def test_grapheme_clusters_by_hand(bench, text, ids):
    charset = Charset(["e", "e\u0301", "e\u0301\u0323", "🇩🇪", "🇩", "न्दी"], graphemes=True)
    assert bench(lambda text: text_to_ids(text, charset), dict(text=b"")).run(text=text.encode()).tolist() == ids


def test_ids_become_grapheme_clusters(run_graph):
    charset = Charset(["e", "e\u0301", "न्दी"], graphemes=True)
    got = run_graph(lambda ids: ids_to_text(ids, charset), ids=np.array([[4, 3, 5, 2], [5, 2, 3, 3]], np.int32))
    assert [text.decode() for text in got] == ["e\u0301eन्दी", "न्दी"]


@pytest.mark.parametrize("text", ["שלום", "ש\u05c1\u05b8לו\u05b9ם 12", "مرحبا", "مُحَمَّد ٣٤", "A-אב 7"])
@pytest.mark.parametrize("graphemes", [False, True])
def test_right_to_left_texts_keep_their_logical_order(bench, text, graphemes):
    characters = splitter(graphemes)(text)
    charset = Charset(sorted(set(characters)), graphemes)
    network = bench(lambda text: (text_to_ids(text, charset), ids_to_text(text_to_ids(text, charset)[np.newaxis],
                                                                          charset)), dict(text=b""))
    ids, (back,) = network.run(text=text.encode())
    assert [charset.characters[k - 3] for k in ids] == characters
    assert back.decode() == text and charset.characters[ids[0] - 3].startswith(text[0])


@pytest.mark.parametrize("ids, inputs, targets", [
    ([], [1], [2]),  # an empty label: EOS follows GO
    ([7], [1, 7], [7, 2]),  # one character
    ([5, 3, 9], [1, 5, 3, 9], [5, 3, 9, 2]),  # inputs are the targets, one step later
    ([4, 4], [1, 4, 4], [4, 4, 2]),  # a repeated character stays twice
])
def test_teaching_sequences(run_graph, ids, inputs, targets):
    got = run_graph(teaching_sequences, ids=np.array(ids, np.int32))
    assert [part.tolist() for part in got] == [inputs, targets]
    assert all(part.dtype == np.int32 for part in got)
