"""The pattern language: drawn words and parse errors."""

import numpy as np
import pytest

from aocr.synth.patterns import PatternError, parse_pattern


def drawn(text, count=300):
    """Returns the distinct words among `count` drawn from a pattern."""
    pattern, random = parse_pattern(text), np.random.default_rng(0)
    return {pattern.draw(random) for _ in range(count)}


@pytest.mark.parametrize("text, words", [
    ("AB", {"AB"}),
    ("[A-C]", {"A", "B", "C"}),
    ("[A-BX-Z_]", {"A", "B", "X", "Y", "Z", "_"}),
    ("[-a]", {"-", "a"}),
    ("[a-]", {"-", "a"}),
    ("[a^]", {"a", "^"}),
    (r"[\]\\]", {"]", "\\"}),
    (r"[\!-#]", {"!", '"', "#"}),
    ("[é字]", {"é", "字"}),
    ("AB?", {"A", "AB"}),
    ("A{2}", {"AA"}),
    ("A{1,3}", {"A", "AA", "AAA"}),
    ("AB{0}", {"A"}),
    ("(AB){2}", {"ABAB"}),
    ("A|BC", {"A", "BC"}),
    ("(A|BC)D", {"AD", "BCD"}),
    ("X(A|)", {"X", "XA"}),
    ("X(A(B|C)?|D)", {"XA", "XAB", "XAC", "XD"}),
    ("[AB]{2}", {"AA", "AB", "BA", "BB"}),  # independent draws
    ("(A|B){2}", {"AA", "AB", "BA", "BB"}),
    (r"\[\]\(\)\{\}\?\|\*\+\.\^\$\\", {r"[](){}?|*+.^$\ ".strip()}),
    ("A-B, C", {"A-B, C"}),
])
def test_words_of_a_pattern(text, words):
    assert drawn(text) == words


def test_plates():
    for word in drawn("[A-Z]{3}[0-9]{4}"):
        assert len(word) == 7 and word[:3].isalpha() and word[:3].isupper() and word[3:].isdigit()


def test_each_choice_is_as_likely_as_the_others():
    pattern, random = parse_pattern("[AAB]{1,2}"), np.random.default_rng(3)
    words = [pattern.draw(random) for _ in range(4000)]
    # 126 is four standard deviations of the number of heads in 4000 coin tosses.
    assert abs(sum(len(word) == 1 for word in words) - 2000) < 126
    assert abs(sum(word[0] == "A" for word in words) - 2000) < 126


@pytest.mark.parametrize("text, alphabet, least, most", [
    ("[A-C]{2,5}x?", "ABCx", 2, 6),
    ("(AB|C)D{3}", "ABCD", 4, 5),
    ("A[ B]{4}", "A B", 1, 5),  # the four may all be blanks
    ("AB{0}", "A", 1, 1),
])
def test_what_is_known_of_its_words(text, alphabet, least, most):
    pattern = parse_pattern(text)
    assert (pattern.alphabet, pattern.least, pattern.most) == (set(alphabet), least, most)


@pytest.mark.parametrize("text, position, told", [
    ("AB*", 3, r"write `\*`"),
    ("A+", 2, r"write `\+`"),
    ("A.B", 2, r"write `\.`"),
    ("^A", 1, r"write `\^`"),
    ("A$", 2, r"write `\$`"),
    ("A]", 2, r"write `\]`"),
    ("A}", 2, r"write `\}`"),
    ("?A", 1, "nothing to repeat"),
    ("A|{2}", 3, "nothing to repeat"),
    ("(?:A)", 2, "nothing to repeat"),
    ("A)B", 2, "without `(`"),
    ("X(A", 2, "without `)`"),
    ("X[A-", 2, "without `]`"),
    ("X[A", 2, "without `]`"),
    ("X[]", 2, "empty class"),
    ("[^A]", 2, "negated classes are not supported"),
    ("A[0Z-A]", 4, "write A-Z"),
    (r"A\d", 2, "write a class"),
    ("A\\", 2, "at the end"),
    ("A{}", 2, "`n}` or `n,m}`"),
    ("A{2", 2, "`n}` or `n,m}`"),
    ("A{,2}", 2, "`n}` or `n,m}`"),
    ("A{2,}", 2, "`n}` or `n,m}`"),
    ("A{1,2,3}", 2, "`n}` or `n,m}`"),
    ("A{3,2}", 2, "2 is less than 3"),
    ("A??", 3, "in a group"),
    ("AB{2}{3}", 6, "after `{2}`"),
    ("", 1, "empty"),
    ("A?", 1, "empty"),
    ("(A|)", 1, "empty"),
    ("[ A]{2}", 1, "blank"),
    ("A{1001}", 1, "1001 characters; the maximum is 1000"),
    ("(A{500}){3}", 1, "1500 characters"),
    ("(" * 51 + "A" + ")" * 51, 51, "50 deep"),
    ("A[\0-\U0010ffff]", 3, "more than 1000000 characters"),
    ("[\0-\ufffe]" * 16, 77, "more than 1000000 characters"),
])
def test_what_is_no_pattern_is_told_with_its_place(text, position, told):
    with pytest.raises(PatternError) as caught:
        parse_pattern(text)
    assert str(caught.value).startswith(f"at character {position}: ") and told in str(caught.value)


@pytest.mark.parametrize("text", ["A(){999999999}", "A(|){999999999}", "A((){999999999}){999999999}",
                                  "A(B{0}){999999999}"])
def test_nothing_is_not_drawn_without_end(text):
    assert drawn(text) == {"A"}


def test_the_longest_and_the_deepest_that_are_taken():
    assert drawn("A{1000}", 1) == {"A" * 1000}
    assert drawn("(" * 50 + "A" + ")" * 50, 1) == {"A"}
    assert drawn("(A)" * 60, 1) == {"A" * 60}
