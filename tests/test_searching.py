"""Search by each decoding: against enumeration of all texts, and with a trained model from options to export."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from test_beam_search import FEW, STEPS, V, all_texts, by_trying, weights
from test_decoder import LENGTHS, decoder_of, encoded_feed
from test_original import U, written_here
from test_prefix_beam import by_counting

from aocr.charset import FIRST_ID, PAD_ID
from aocr.checkpoint import find_model
from aocr.cli import main
from aocr.config import ATTENTION, CTC, DECODINGS, JOINT, Decoding, SearchConfig
from aocr.graph.searching import transcribe_by_search
from aocr.search.automaton import Words, any_of, of_words
from aocr.search.search import Search

CTC_LENGTHS = np.array([4, 2, 3], np.int32)
LOGITS = np.random.RandomState(8).normal(size=[len(LENGTHS), 4, V - FIRST_ID + 1]).astype(np.float32)


def read(bench, how, search):
    """Returns what a search finds with random weights, and the Bench."""
    feed = dict(encoded_feed(False), logits=LOGITS, steps_of_ctc=CTC_LENGTHS)

    def build(logits, steps_of_ctc, **encoded):
        found = transcribe_by_search(search, how, decoder_of(False, 1, **encoded), logits, steps_of_ctc, STEPS)
        return found._replace(candidates=())

    network = bench(build, feed, weights(False))
    return network.run(**feed), network


def expected(network, how, n, bonus=None):
    """Returns {text: score} of one image, for all texts of two characters; with CTC, of those that fit into its steps.

    `bonus`: of each text, {text: nats}.
    """
    counted = {tuple(FIRST_ID + k for k in text): np.log(value)
               for text, value in by_counting(LOGITS[n], CTC_LENGTHS[n]).items()}
    texts = [text for text in all_texts(range(FIRST_ID, FIRST_ID + FEW), STEPS - 1)
             if text in counted or how.method == ATTENTION]
    share = {ATTENTION: 0.0, CTC: 1.0, JOINT: how.ctc_share}[how.method]
    return {text: (1.0 - share) * score + share * counted.get(text, 0.0) + (bonus or {}).get(text, 0.0)
            for text, score in by_trying(network, False, n, texts).items()}


@pytest.mark.parametrize("how", [Decoding(ATTENTION), Decoding(CTC), Decoding(JOINT, 0.3)], ids=lambda how: how.method)
def test_the_n_best_texts_are_those_of_all_texts(bench, how):
    found, network = read(bench, how, Search(40, 3, any_of(range(FEW))))
    assert found.hypotheses.probabilities.dtype == found.probability.dtype == np.float64
    for n in range(len(LENGTHS)):
        scores = expected(network, how, n)
        best = sorted(scores, key=scores.get, reverse=True)[:3]
        assert [tuple(k for k in ids if k != PAD_ID) for ids in found.hypotheses.ids[n].tolist()] == best
        np.testing.assert_allclose(found.hypotheses.probabilities[n], [np.exp(scores[text]) for text in best],
                                   rtol=1e-4)
        assert found.ids[n].tolist()[:len(best[0]) + 1] == [*best[0], 2]
    np.testing.assert_array_equal(found.probability, found.hypotheses.probabilities[:, 0])
    assert found.attention.shape[:2] == found.ids.shape


@pytest.mark.parametrize("how", [Decoding(ATTENTION), Decoding(CTC), Decoding(JOINT, 0.3)], ids=lambda how: how.method)
def test_preferred_words_get_their_bonus(bench, how):
    """The bonus changes the order, not the probabilities."""
    words = [(0, 1, 0), (1,)]
    preferred = of_words(Words(np.array([k for word in words for k in word], np.int32), np.array([3, 1], np.int32)))
    found, network = read(bench, how, Search(40, 4, any_of(range(FEW)), preferred, 4.0))
    changed = 0
    for n in range(len(LENGTHS)):
        bonus = {tuple(FIRST_ID + k for k in word): 4.0 for word in words}
        ranks, scores = expected(network, how, n, bonus), expected(network, how, n)
        best = sorted(ranks, key=ranks.get, reverse=True)[:4]
        changed += best != sorted(scores, key=scores.get, reverse=True)[:4]
        assert [tuple(k for k in ids if k != PAD_ID) for ids in found.hypotheses.ids[n].tolist()] == best
        np.testing.assert_allclose(found.hypotheses.probabilities[n], [np.exp(scores[text]) for text in best],
                                   rtol=1e-4)
    assert changed, "the bonus of this test changes nothing"


# ---- with a trained model

def reading(trained, decoding, **options):
    """Returns (texts and probabilities, texts and probabilities of hypotheses) of the words' images."""
    found = find_model(trained.model_dir, {}, None, None, decoding)
    files = [Path(path).read_bytes() for path in trained.images]
    with found.open(search=found.search(SearchConfig(**options))) as model:
        hypotheses = model.session.run(model.hypotheses, {model.inputs.encoded: files}) if model.hypotheses else ()
        return model.predict(files), hypotheses


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_lexicon_is_obeyed_by_each_decoding(trained, tmp_path, decoding):
    """Without the word K90, another one is read instead of it."""
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("\n".join(["A1", "B27", "7", "K9O", "WWMW", "X" * 6, "Ω"]), encoding="utf-8")
    texts, hypotheses = reading(trained, decoding, lexicon=str(lexicon), n_best=3)
    assert [text for text, _ in texts] == ["A1", "B27", "7", "K9O", "WWMW"]
    assert all(0.0 < probability <= 1.0 for _, probability in texts)
    assert hypotheses.texts.shape == hypotheses.probabilities.shape == (5, 3)
    assert [text.decode() for text in hypotheses.texts[:, 0]] == [text for text, _ in texts]
    assert hypotheses.probabilities[:, 0].tolist() == [probability for _, probability in texts]
    assert (np.diff(hypotheses.probabilities, axis=1) <= 0).all()


def test_where_no_text_is_possible_the_reading_is_empty(trained, tmp_path):
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("Ω\n", encoding="utf-8")
    texts, hypotheses = reading(trained, JOINT, lexicon=str(lexicon), n_best=2)
    assert texts == [("", 0.0)] * 5
    assert set(hypotheses.texts.ravel()) == {b""} and not hypotheses.probabilities.any()


def test_greedy_hypotheses_are_the_reading(trained):
    texts, hypotheses = reading(trained, None, n_best=1)
    assert [text for text, _ in texts] == trained.labels
    assert [(text.decode(), p) for text, p in zip(hypotheses.texts[:, 0], hypotheses.probabilities[:, 0])] == texts


def test_a_beam_reads_what_greedy_decoding_reads(trained):
    """The model is sure of its words."""
    texts, hypotheses = reading(trained, JOINT, beam=5, n_best=4)
    assert [text for text, _ in texts] == trained.labels
    assert {len(set(row)) for row in hypotheses.texts} == {4}


def test_predict_and_export_obey_the_options(trained, tmp_path, capsys):
    """The exported graph holds the automaton in constants: no files, no tables."""
    options = ["--pattern", "[A-Z]{1,4}[0-9]?", "--allow", "ABKW17", "--model-dir", trained.model_dir, "--log-path", ""]
    assert main(["predict", *options, *trained.images]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 5 and all(re.fullmatch("[ABKW]{1,4}[17]?", text) for _, _, text in lines)
    assert main(["export", str(tmp_path / "frozen"), "--format", "frozengraph", "--no-verify", *options]) == 0
    graph_def = tf.GraphDef.FromString((tmp_path / "frozen" / "frozen_graph.pb").read_bytes())
    ops = {node.op for part in (graph_def, *graph_def.library.function) for node in getattr(
        part, "node", None) or part.node_def}
    assert not [op for op in ops if "HashTable" in op or "File" in op]
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph_def, name="")
        texts = session.run("prediction:0", {"input_image_as_bytes:0": [
            Path(path).read_bytes() for path in trained.images]})
    assert [text.decode() for text in texts] == [text for _, _, text in lines]


def test_test_and_compare_obey_the_options(trained, capsys):
    flags = ["--beam", "4", "--allow", "7", "--log-path", ""]
    assert main(["compare", trained.model_dir, trained.model_dir, "--dataset", trained.dataset, *flags]) == 0
    assert re.search(r"exact_match +0\.200000 +0\.200000", capsys.readouterr().out)  # the label 7
    assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--allow", "Ω", "--log-path", ""]) == 2
    assert "--allow Ω: has none of the model's 36 characters" in capsys.readouterr().err


def test_a_model_of_the_original_obeys_the_options(tmp_path, words, capsys):
    """It writes 7A, by attention; its steps leave room for six characters."""
    written_here(str(tmp_path))
    flags = ["--model-dir", str(tmp_path), "--attn-num-hidden", str(U), "--log-path", "", words.images[0]]
    for options, text in [(["--beam", "3"], "7A"), (["--pattern", "[0-9]{2}"], "7")]:
        assert main(["predict", *options, *flags]) == 0
        assert capsys.readouterr().out.rstrip("\n").split("\t")[2].startswith(text)


