"""Charsets: characters and their ids."""

import sys

import pytest

from aocr.charset import (
    ALPHANUMERIC,
    FULL_ASCII,
    Charset,
    UnknownCharacter,
    charset_for,
    code_points,
    splitter,
    visible,
)
from aocr.errors import UserError


def test_the_default_alphabet():
    charset = Charset(ALPHANUMERIC)
    assert len(charset) == 3 + 10 + 26 == 39
    assert charset.encode("09AZ") == [3, 12, 13, 38]
    assert "a" not in charset and " " not in charset and "7" in charset


def test_full_ascii():
    charset = Charset(FULL_ASCII)
    assert len(charset) == 3 + 95 == 98
    assert charset.encode(" !~") == [3, 4, 97]
    assert "\x7f" not in charset and "\n" not in charset


@pytest.mark.parametrize("text", [
    "", " ", "  A  B ", "Щука", "深い湖", "e\u0301\u0323", "\u0301", "🐟🐠", "a\tb",
])
def test_round_trip(text):
    charset = Charset(sorted(set(text) | set("XY")))
    ids = charset.encode(text)
    assert len(ids) == len(text)
    assert charset.decode(ids) == text


def test_invisible_characters_are_listed_by_code_point():
    assert Charset("A\xa0\u200b\u3164B").summary() == "5 characters: A<U+00A0><U+200B><U+3164>B"
    assert visible("so\xadft\u2028 \u200f") == "so<U+00AD>ft<U+2028> <U+200F>"
    for text in ("a b", "\u0645\u06cc\u200c\u0631", "e\u0301", "\U0001f469\u200d\U0001f4bb"):
        assert visible(text) == text, "what belongs there is shown as it is"


def test_a_combining_mark_is_a_character_of_its_own():
    charset = Charset("e\u0301é")
    assert len(charset) == 6
    assert charset.encode("e\u0301é") == [3, 4, 5]


@pytest.mark.parametrize("text, clusters", [
    ("", []),
    ("ab", ["a", "b"]),
    ("e\u0301\u0323e\u0301x", ["e\u0301\u0323", "e\u0301", "x"]),  # accents
    ("\u0301a", ["\u0301", "a"]),  # a mark without base
    ("ש\u05c1\u05b8לו\u05b9ם", ["ש\u05c1\u05b8", "ל", "ו\u05b9", "ם"]),  # points
    ("กำนั้น", ["กำ", "นั้", "น"]),  # vowels and tones
    ("हिन्दी", ["हि", "न्दी"]),  # a conjunct
    ("한\u1112\u1161\u11ab", ["한", "\u1112\u1161\u11ab"]),  # jamo
    ("🇩🇪🇫🇷🇩", ["🇩🇪", "🇫🇷", "🇩"]),  # flags are pairs
    ("👩\u200d👧👍🏽👩", ["👩\u200d👧", "👍🏽", "👩"]),
])
def test_grapheme_clusters(text, clusters):
    assert splitter(True)(text) == clusters
    assert splitter(False)(text) == list(text)
    charset = Charset(sorted(set(clusters) | set("XY")), graphemes=True)
    assert charset.decode(charset.encode(text)) == text and len(charset.encode(text)) == len(clusters)


def test_a_cluster_and_its_base_are_two_characters():
    charset = Charset(["e", "e\u0301", "é"], graphemes=True)
    assert charset.encode("ee\u0301é") == [3, 4, 5]
    assert "\u0301" not in charset and charset.summary() == "3 characters: e e\u0301 é"
    with pytest.raises(UnknownCharacter, match=r"\(U\+0065 U\+0323 U\+0301\) is not in the charset"):
        charset.encode("ee\u0323\u0301")


def test_without_what_knows_clusters_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "regex", None)
    splitter.cache_clear()
    with pytest.raises(UserError, match=r"^--graphemes needs the package regex .*\[graphemes\]'$"):
        splitter(True)
    assert splitter(False)("ab") == ["a", "b"]
    assert Charset(["e\u0301"], graphemes=True).decode([3, 3]) == "e\u0301e\u0301"  # decoding needs no cluster rules


def test_code_points():
    assert code_points("A") == "U+0041" and code_points("👍🏽") == "U+1F44D U+1F3FD"


def test_the_order_is_the_one_given():
    assert Charset("ZA9").encode("A9Z") == [4, 5, 3]
    assert Charset(["q", "b"]).characters == ("q", "b")


@pytest.mark.parametrize("text, character, point", [
    ("12a", "a", "U+0061"), ("Ж", "Ж", "U+0416"), ("7 湖", " ", "U+0020"), ("A\u0301", "\u0301", "U+0301"),
    ("🐟", "🐟", "U+1F41F"),
])
def test_an_unknown_character_is_named_with_its_code_point(text, character, point):
    with pytest.raises(UnknownCharacter) as raised:
        Charset(ALPHANUMERIC).encode(text)
    assert raised.value.character == character
    assert f"{character!r} ({point})" in str(raised.value)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("characters, told", [
    ("", "at least one"), ("abca", "repeats 'a'"), ("xyyx", "repeats 'x', 'y'"), (["a", "bc"], "'bc' is not one"),
    (["a", ""], "'' is not one"),
])
def test_what_is_no_charset_is_refused(characters, told):
    with pytest.raises(ValueError, match=told):
        Charset(characters)
    if "bc" not in characters:
        with pytest.raises(ValueError, match=told):
            Charset(characters, graphemes=True)


@pytest.mark.parametrize("ids, text", [
    ([], ""),
    ([3, 5, 4], "ACB"),
    ([3, 2, 4], "A"),  # text ends at EOS
    ([2, 3, 4], ""),
    ([1, 3, 0, 4, 0], "AB"),  # GO and padding are ignored
    ([0, 1, 5, 2, 2, 3], "C"),
])
def test_decode_stops_at_eos_and_drops_go_and_padding(ids, text):
    assert Charset("ABC").decode(ids) == text


def test_decode_refuses_an_id_beyond_the_last():
    with pytest.raises(IndexError):
        Charset("ABC").decode([6])


def test_equal_charsets_have_equal_characters_in_the_same_order():
    assert Charset("AB") == Charset(["A", "B"])
    assert hash(Charset("AB")) == hash(Charset(["A", "B"]))
    assert Charset("AB") != Charset("BA")
    assert Charset("AB") != "AB"


def test_summary_counts_and_lists():
    assert Charset("ÄB7").summary() == "3 characters: ÄB7"


@pytest.mark.parametrize("characters, expected", [
    ("", ALPHANUMERIC),
    ("Z0A", ALPHANUMERIC),
    ("b- B-b", " -" + ALPHANUMERIC + "b"),
    ("湖Ё@", "0123456789@" + ALPHANUMERIC[10:] + "Ё湖"),  # "@" sorts between "9" and "A"
])
def test_charset_for_widens_the_default_alphabet_in_code_point_order(characters, expected):
    assert "".join(charset_for(characters).characters) == expected


def test_charset_for_graphemes():
    charset = charset_for({"Z": 1, "É": 2, "E\u0301": 3}, graphemes=True)
    assert charset.characters == (*ALPHANUMERIC[:15], "E\u0301", *ALPHANUMERIC[15:], "É")
