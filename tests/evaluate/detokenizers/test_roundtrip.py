"""Our de-tokenizers lose nothing, leave few lines as they are, and leave few artefacts."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt2lab.evaluate.detokenizers import one_billion_words, ptb, wikitext
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized, restore_lines
from gpt2lab.tokens.bpe import gpt2_tokenizer

WORDS = (
    "the The U.S. Mr. No. 5 12 1990s boys 's 't ' '' \" ( ) [ ] . , ; : ! ? ... .. = @-@ @,@ @.@ @ - – — -- $ £ % # ° C"
    " <unk> <formula> N n't can don ’ “ ” late- 1,500th T2.5 x.y $5 'x x' US / & ′ § é 中 corp. \\/ N% 1 X."
)
TOKENS = st.sampled_from([*WORDS.split(), "", "\t", "\xa0", "\x0b", "\u2028"])
LINES = st.lists(TOKENS, max_size=12).map(lambda words: f" {' '.join(words)} ") | st.text(max_size=30)
TEXTS = st.lists(LINES, max_size=4).map("\n".join)
EDITS = [
    ptb.Edits(n_map, unk, capitals, periods)
    for n_map, unk, capitals, periods in itertools.product(
        ("N", "1"), ("literal", "?", "rare"), (False, True), (False, True)
    )
]


@given(TEXTS)
@example("  \n ")
@example("")
def test_wikitext_comes_back_exactly(text):
    done = wikitext.roundtrip(text)
    assert restore_lines(done.text, wikitext.inverse, done.verbatim) == text


@given(TEXTS)
def test_one_billion_words_come_back_exactly(text):
    done = one_billion_words.roundtrip(text)
    assert restore_lines(done.text, one_billion_words.inverse, done.verbatim) == text


@given(TEXTS, st.sampled_from(EDITS))
def test_the_penn_treebank_comes_back_exactly(text, edits):
    done = ptb.roundtrip(text, edits)
    assert restore_lines(done.text, lambda line: ptb.inverse(line, edits), done.verbatim) == text


def test_wikitext_becomes_ordinary_text():
    tokens = (
        " \n"
        " = = The Boys ' House = = \n"
        " \n"
        ' " It \'s a well @-@ known place , " said Mr. O \'Hara ( in the U.S. ) : " 1 @,@ 200 km / h ? " \n'
        " He paid US $ 5 @.@ 50 or 10 % in 1990 – 1995 – a record — and didn 't say ' no ' [ ... ] . \n"
        " The U.S. . It was 5 : 30 at 20 ° C or so . \n"
    )
    done = wikitext.roundtrip(tokens)
    assert done.text == (
        "\n"
        "== The Boys' House ==\n"
        "\n"
        '"It\'s a well-known place," said Mr. O\'Hara (in the U.S.): "1,200 km/h?"\n'
        "He paid US$5.50 or 10% in 1990–1995 – a record—and didn't say 'no' [...].\n"
        "The U.S. . It was 5:30 at 20°C or so.\n"  # a full stop that the inverse would take for the abbreviation's
    )
    assert not done.verbatim


def test_a_line_the_inverse_can_not_give_back_is_kept_and_counted():
    text = " A good line . \n An attached-hyphen line . \n \n"
    done = wikitext.roundtrip(text)
    assert done.text == "A good line.\n An attached-hyphen line . \n\n"
    assert (done.verbatim, done.lines, done.verbatim_share) == ({1}, 2, 0.5)
    assert restore_lines(done.text, wikitext.inverse, done.verbatim) == text


def test_the_flags_of_verbatim_lines_cost_at_most_their_entropy():
    assert Detokenized("", frozenset(), 100).flag_nats == 0
    assert Detokenized("", frozenset(range(50)), 100).flag_nats == pytest.approx(100 * 0.6931472)


def test_the_penn_treebank_becomes_ordinary_text():
    line = " the <unk> corp. 's unit was n't worth $ N million or N % the traders ' say \n"
    assert ptb.roundtrip(line, ptb.Edits()).text == (
        "the <unk> corp.'s unit wasn't worth $N million or N% the traders' say\n"
    )
    dressed = ptb.Edits(n_map="1", unk="?", capitalise_sentence=True, add_period=True)
    assert ptb.roundtrip(line, dressed).text == ("The ? corp.'s unit wasn't worth $1 million or 1% the traders' say.\n")
    assert not ptb.roundtrip(line + " N of N \n", dressed).verbatim


def test_megatrons_rules_for_the_penn_treebank_are_kept_with_their_defect():
    tokens = " it did n't say ' \n they plunged N points to $ N or # N \n"
    assert ptb.megatron(tokens) == " it didn't say'\nthey plunged1 points to $1 or # N\n"


def test_sedds_rules():
    assert ptb.sedd(" a <unk> 's N N N \\/ N say n't $ N \n") == " a ?'s 1 1 1 / 1 sayn't $1 \n"
    sentence = 'See http : / / x " now " , it \'s $ 5 ( or 6 ) / 7 : go ! Why ?'
    assert one_billion_words.sedd(sentence) == 'See http://x "now", it\'s $5 (or 6)/7: go! Why?'


def test_megatrons_rules_for_wikitext_pair_quotes_over_lines_and_change_a_word():
    text = ' the boys \' " one \n two " N points @-@ wide ( x ) , = = y = = \n'
    assert wikitext.megatron(text) == ' the boys\' "one\ntwo" 1 points-wide (x), == y ==\n'


@pytest.mark.parametrize(
    ("file", "unknown", "as_is", "megatron", "ours"),
    [
        ("wikitext-2/wiki.test.tokens", 15_218, 295_877, 278_365, 278_383),
        ("wikitext-103/wiki.test.tokens", 2_492, 285_234, 270_330, 270_219),
    ],
)
def test_counts_of_wikitext_are_the_published_ones(shared_data, file, unknown, as_is, megatron, ours):
    text = shared_data(file).read_text(encoding="utf-8")
    tokenizer = gpt2_tokenizer()
    assert (len(text.split()), text.count("\n"), text.split().count("<unk>")) == (241_211, 4_358, unknown)
    assert len(tokenizer.encode(text)) == as_is
    assert len(tokenizer.encode(wikitext.megatron(text))) == megatron
    done = wikitext.roundtrip(text)
    assert restore_lines(done.text, wikitext.inverse, done.verbatim) == text
    assert (len(tokenizer.encode(done.text)), len(done.verbatim), done.lines) == (ours, 0, 2_891)
