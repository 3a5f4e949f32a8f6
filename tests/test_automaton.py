"""Automata of words and patterns, against sets of texts and regular expressions; the options that make them."""

import itertools
import re
import string

import numpy as np
import pytest

from aocr.charset import Charset
from aocr.config import PredictConfig, SearchConfig
from aocr.errors import UserError
from aocr.search import pattern_automaton
from aocr.search.automaton import NEVER, Words, accepted, of_words
from aocr.search.pattern_automaton import of_pattern
from aocr.search.search import Search, search_of
from aocr.synth.patterns import PatternError, parse_pattern

ABC = Charset("ABCab1-")


def words_of(*texts):
    """Returns Words of texts of digits, which are their classes."""
    return Words(np.array([int(k) for text in texts for k in text], np.int32),
                 np.array([len(text) for text in texts], np.int32))


def language(automaton, characters=string.digits, most=9):
    """Returns all texts that an automaton accepts."""
    found, waiting = set(), [(0, "")]
    while waiting:
        state, text = waiting.pop()
        if not automaton.distance[state]:
            found.add(text)
        if len(text) < most:
            waiting += [(automaton.targets[m], text + characters[automaton.labels[m]])
                        for m in range(automaton.first[state], automaton.first[state + 1])]
    return found


def search(longest=9, charset=ABC, **options):
    return search_of(SearchConfig(**options), charset, longest)


# ---- words

def test_words_by_hand():
    """States: the start, after 0, after 01 and 1, the end, dead."""
    automaton = of_words(words_of("012", "12", "0", "0"))
    assert language(automaton) == {"0", "012", "12"}
    assert automaton.distance.tolist() == [1, 0, 1, 0, NEVER]
    assert automaton.distance[automaton.dead] == NEVER and automaton.shortest == 1


@pytest.mark.parametrize("seed", range(40))
def test_an_automaton_accepts_its_words_only_and_is_minimal(seed):
    random = np.random.RandomState(seed)
    texts = ["".join(map(str, random.randint(0, 3, random.randint(0, 6)))) for _ in range(random.randint(1, 15))]
    automaton = of_words(words_of(*texts))
    assert language(automaton) == set(texts)
    prefixes = {text[:length] for text in texts for length in range(len(text) + 1)}
    ends = {frozenset(text.removeprefix(prefix) for text in texts if text.startswith(prefix)) for prefix in prefixes}
    assert len(automaton.distance) == len(ends) + 1  # and the dead state
    others = ["".join(map(str, random.randint(0, 4, length))) for length in (0, 1, 2, 3, 4, 7)]
    assert accepted(automaton, words_of(*others, *texts)).tolist() == [
        text in texts for text in [*others, *texts]]


def test_no_words_and_the_empty_word():
    nothing, empty = of_words(words_of()), of_words(words_of(""))
    assert (language(nothing), nothing.shortest) == (set(), NEVER)
    assert (language(empty), empty.shortest) == ({""}, 0)
    assert accepted(nothing, words_of("", "1")).tolist() == [False, False]


def test_equal_hashes_do_not_merge_what_differs(monkeypatch):
    monkeypatch.setattr("aocr.search.automaton._mixed", lambda content: np.zeros(content.shape[1], np.uint64))
    texts = ["012", "12", "0", "2101", "20", "1110"]
    assert language(of_words(words_of(*texts))) == set(texts)


def test_many_words_take_seconds():
    random = np.random.RandomState(1)
    lengths = random.randint(3, 10, 100_000).astype(np.int32)
    words = Words(random.randint(0, 26, lengths.sum()).astype(np.int32), lengths)
    automaton = of_words(words)
    assert accepted(automaton, words).all() and len(automaton.labels) < 400_000


# ---- patterns

@pytest.mark.parametrize("pattern", [
    "A", "[A-C]{2}-?1{1,3}", "A(B|CA){1,2}C?", "(A|AB)(C|BC)", "(A?B?){3}1", "(|A)(|B)C", "[a-b](A|(B|C){2}|1){0,2}",
    r"\-[AB]{0,1}", "(A{2}){2}B{0}", "(AB?){2}|CC"])
def test_a_pattern_is_a_regular_expression(pattern):
    characters = ABC.characters
    found = language(of_pattern(parse_pattern(pattern), characters, range(len(characters))), characters, most=5)
    assert found == {"".join(text) for length in range(6) for text in itertools.product(characters, repeat=length)
                     if re.fullmatch(pattern, "".join(text))}


def test_clusters_of_a_charset_match_their_code_points():
    characters = ["e", "e\u0301", "\u0301", "x"]
    found = language(of_pattern(parse_pattern("e\u0301[ex]"), characters, [0, 1, 3]), ["e", "É", "", "x"])
    assert found == {"Ée", "Éx"}


def test_patterns_that_are_too_large_are_refused(monkeypatch):
    monkeypatch.setattr(pattern_automaton, "MOST_STATES", 50)
    with pytest.raises(PatternError, match="more than 50 states"):
        of_pattern(parse_pattern("(A|B){20}"), "AB", range(2))
    monkeypatch.setattr(pattern_automaton, "MOST_WORK", 1000)
    with pytest.raises(PatternError, match="too many states"):
        of_pattern(parse_pattern("[AB]{0,9}A[AB]{9}"), "AB", range(2))
    monkeypatch.setattr(pattern_automaton, "MOST_EDGES", 5)
    with pytest.raises(PatternError, match="too large: 4 states of 2 characters"):
        of_pattern(parse_pattern("[AB]{3}"), "AB", range(2))


# ---- options

def test_the_width_of_a_beam():
    assert SearchConfig().width == 1 and SearchConfig(beam=3).width == 3 and SearchConfig(n_best=4).width == 4
    assert SearchConfig(allow="A").width == 16 == SearchConfig(allow="A", n_best=5).width
    assert SearchConfig(pattern="A", n_best=20).width == 20 and SearchConfig(pattern="A", beam=1).width == 1
    assert PredictConfig(beam=2).width == 2
    assert search().greedy and not search(beam=2).greedy and not search(beam=1, allow="A").greedy
    assert search() == Search()


@pytest.mark.parametrize("options, message", [
    (dict(beam=2, n_best=3), "--n-best is 3, but --beam is 2"), (dict(lexicon_weight=1.0), "there is no --lexicon"),
    (dict(beam=0), "--beam is 0; the minimum is 1"), (dict(n_best=0), "--n-best is 0"),
    (dict(lexicon="x", lexicon_weight=0.0), "--lexicon-weight is 0.0; use a number above")])
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**options)


def test_constraints_are_intersected(tmp_path):
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("AB\nB1\nab\nC\nABC\n1\n", encoding="utf-8")
    characters = ABC.characters
    assert language(search(lexicon=str(lexicon)).required, characters) == {"AB", "B1", "ab", "C", "ABC", "1"}
    assert language(search(lexicon=str(lexicon), allow="ABC").required, characters) == {"AB", "C", "ABC"}
    assert language(search(lexicon=str(lexicon), pattern="[A-B1]{2,3}").required, characters) == {"AB", "B1"}
    assert language(search(pattern="[A-Z1]{2}", allow="1B").required, characters) == {"11", "1B", "B1", "BB"}
    assert language(search(allow="-a").required, characters, most=1) == {"", "-", "a"}
    preferred = search(lexicon=str(lexicon), lexicon_weight=2.5, pattern="[A-B1]{2,3}")
    assert language(preferred.preferred, characters) == {"AB", "B1"} and preferred.bonus == 2.5
    assert len(language(preferred.required, characters)) == 9 + 27


def test_what_cannot_be_read_is_told_once(tmp_path, caplog):
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("A\nZ\nAZA\nABCABC\n\nB é\n", encoding="utf-8")
    found = search(longest=5, lexicon=str(lexicon))
    assert language(found.required, ABC.characters) == {"A"}
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "3 of 5 words have characters that are not in the charset of the model, and are never read",
        "1 of 5 words have more than 5 characters, the longest text of the model, and are never read"]
    caplog.clear()
    assert search(longest=5, allow="AZ").required.labels.tolist() == [0]
    assert "1 characters are not in the charset of the model: Z" in caplog.text


@pytest.mark.parametrize("options", [dict(lexicon="Z\nYA\n"), dict(pattern="AZ"), dict(pattern="A{6}"),
                                     dict(lexicon="AB\n", pattern="A")])
def test_no_possible_text_is_a_warning(options, tmp_path, caplog):
    if "lexicon" in options:
        (tmp_path / "words.txt").write_text(options["lexicon"], encoding="utf-8")
        options = dict(options, lexicon=str(tmp_path / "words.txt"))
    assert search(longest=5, **options).required.shortest > 5
    assert "every image will be read as an empty text of confidence 0" in caplog.text


@pytest.mark.parametrize("options, message", [
    (dict(allow="zZ"), "--allow zZ: has none of the model's 7 characters: ABCab1-"),
    (dict(allow=""), "--allow : has none"),
    (dict(pattern="[x-z]{2}"), r"--pattern \[x-z\]\{2\}: has none of the characters that may be read: ABCab1-"),
    (dict(pattern="A", allow="BC"), "has none of the characters that may be read: BC"),
    (dict(pattern="A{2"), r"--pattern A\{2: at character 2"), (dict(pattern="A?"), "a word could be empty"),
    (dict(lexicon="/nowhere/words.txt"), "--lexicon /nowhere/words.txt: cannot be read")])
def test_mistakes_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as caught:
        search(**options)
    assert "\n" not in str(caught.value)


def test_words_in_other_spellings_are_found(tmp_path):
    """Labels are NFC by default; the word of the file is decomposed. A charset of clusters holds them whole."""
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("\ufeffe\u0301A\nA\n", encoding="utf-8")
    composed = search(charset=Charset("Aé"), lexicon=str(lexicon))
    assert language(composed.required, "Aé") == {"A", "éA"}
    pytest.importorskip("regex")
    clusters = Charset(["A", "e\u0301"], graphemes=True)
    assert language(search(charset=clusters, lexicon=str(lexicon)).required, "Aé") == {"A", "éA"}
    assert language(search(charset=clusters, allow="e\u0301").required, "Aé", most=1) == {"", "é"}


