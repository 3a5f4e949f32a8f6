"""Characters and their ids."""

import pytest

from aocr.charset import ALPHANUMERIC, FULL_ASCII, Charset, UnknownCharacter, charset_for


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


def test_a_combining_mark_is_a_character_of_its_own():
    charset = Charset("e\u0301é")
    assert len(charset) == 6
    assert charset.encode("e\u0301é") == [3, 4, 5]


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


@pytest.mark.parametrize("ids, text", [
    ([], ""),
    ([3, 5, 4], "ACB"),
    ([3, 2, 4], "A"),  # nothing counts after EOS
    ([2, 3, 4], ""),
    ([1, 3, 0, 4, 0], "AB"),  # GO and padding give nothing
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
    ("湖Ё@", "0123456789@" + ALPHANUMERIC[10:] + "Ё湖"),  # "@" stands between "9" and "A"
])
def test_charset_for_widens_the_default_alphabet_in_code_point_order(characters, expected):
    assert "".join(charset_for(characters).characters) == expected
