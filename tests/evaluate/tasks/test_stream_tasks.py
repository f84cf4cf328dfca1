"""Language-modelling tasks score each token of a set once and divide by the set's own units."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.run import identify_model, run_task
from gpt2lab.evaluate.scoring import score
from gpt2lab.evaluate.tasks import enwik8, one_billion_words, ptb, text8, wikitext
from gpt2lab.evaluate.tasks.enwik8 import Enwik8
from gpt2lab.evaluate.tasks.one_billion_words import OneBillionWords
from gpt2lab.evaluate.tasks.own_text import OwnText
from gpt2lab.evaluate.tasks.ptb import PennTreebank
from gpt2lab.evaluate.tasks.stream import Piece, Stream, window_questions, windows
from gpt2lab.evaluate.tasks.text8 import Text8, join_digits, spell_digits
from gpt2lab.evaluate.tasks.wikitext import LM_EVAL, WikiText2, WikiText103, articles
from gpt2lab.tokens.bpe import gpt2_tokenizer
from gpt2lab.webtext.overlap.grams import normalise

WIKI = "".join(
    f' \n = Town {n} = \n \n Town {n} is a well @-@ known place , and the <unk> \'s " big " house'
    f" is there ( 1 @,@ 20{n}"
    " people ) . \n = = The past = = \n An attached-hyphen makes this line verbatim . \n"
    for n in range(4)
)
SENTENCES = tuple(f"The man 's dog , number {n} , said \" {n} $ 5 \" and didn 't go ." for n in range(9))
TREEBANK = "".join(
    f" the <unk> corp. said it was n't worth $ N million or N % on day {'a' * n} \n" for n in range(1, 9)
)


def rows_of(task, questions, model):
    scores = iter(score(model.network, [pair for question in questions for pair in question.pairs]))
    return [{"item": q.name, **q.facts, **task.row(q, list(itertools.islice(scores, len(q.pairs))))} for q in questions]


def plain_nats(network, ids: list[int], stride: int) -> float:
    """Loss of all tokens but the first, a window at a time, each over the whole context before it."""
    context = network.config.context_length
    total, new = 0.0, 1
    while new < len(ids):
        end = min(len(ids), new + (context if new == 1 else stride))
        read = ids[max(0, end - 1 - context) : end - 1]
        with torch.inference_mode():
            log_probabilities = network(torch.tensor([read]))[0].log_softmax(-1)[new - end :]
        total -= sum(float(row[token]) for row, token in zip(log_probabilities, ids[new:end], strict=True))
        new = end
    return total


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 60))
def test_windows_score_each_token_but_the_first_once_and_fit_the_context(tokens, context_length, stride):
    scored = []
    for start, new, end in windows(tokens, context_length, stride):
        assert 0 <= start < new < end <= tokens
        assert end - 1 - start <= context_length
        assert end - 1 - start == min(context_length, end - 1)  # all the context there is room for
        scored += range(new, end)
    assert scored == list(range(1, tokens))


def test_whole_windows_are_megatrons():
    context, stride, tokens = 64, 8, 64 + 8 * 20 + 1
    for number, (start, new, end) in enumerate(windows(tokens, context, stride)):
        assert (start, end) == (stride * number, stride * number + context + 1)
        assert new == (1 if number == 0 else end - stride)


@pytest.mark.parametrize("stride", [1, 5, 32, 1024])
@pytest.mark.parametrize("bos", ["none", "eot"])
def test_losses_equal_a_plain_loop_over_windows(small_model, stride, bos):
    tokenizer = small_model.tokenizer
    task = WikiText103(stride=stride, bos=bos)
    text = WIKI[:250]
    rows = rows_of(task, task.questions(EvaluationSet((text,), ()), tokenizer, 32), small_model)
    ids = [tokenizer.end_of_text] * (bos == "eot") + tokenizer.encode(text)
    expected = plain_nats(small_model.network, ids, min(stride, 32))
    assert math.fsum(row["nats"] for row in rows) == pytest.approx(expected, abs=1e-4 * len(ids))
    assert math.fsum(row["nats"] for row in rows) == pytest.approx(expected, rel=1e-6)
    units = len(text.split()) + text.count("\n")
    by_name = {metric.name: metric.value for metric in task.metrics(rows)}
    assert by_name["perplexity"] == pytest.approx(math.exp(expected / units), rel=1e-5)
    assert by_name["bits_per_byte"] == pytest.approx(expected / math.log(2) / len(text.encode()), rel=1e-5)


@pytest.mark.parametrize("detokenizer", ["none", "megatron", "roundtrip"])
@pytest.mark.parametrize("unit", ["words+eos", "words", "bpe", "bytes"])
@pytest.mark.parametrize(("scope", "bos"), [("stream", "none"), ("stream", "eot"), ("article", "eot")])
def test_wikitexts_units_add_up_exactly_and_every_target_counts(small_tokenizer, detokenizer, unit, scope, bos):
    task = WikiText2(detokenizer=detokenizer, unit=unit, scope=scope, bos=bos, stride=7)
    found = EvaluationSet((WIKI,), ())
    questions = task.questions(found, small_tokenizer, 32)
    facts = task.facts(found, small_tokenizer)
    targets = sum(len(pair.continuation) for question in questions for pair in question.pairs)
    assert targets == facts["tokens"] - (bos == "none")
    texts = articles(WIKI) if scope == "article" else [WIKI]
    assert len(questions) == 4 or scope == "stream"
    expected = {
        "words+eos": sum(len(text.split()) + text.count("\n") for text in texts),
        "words": len(WIKI.split()),
        "bytes": sum(len(text.encode()) for text in texts),
        "bpe": targets,
    }[unit]
    assert sum(question.facts["units"] for question in questions) == expected
    assert sum(question.facts["bytes"] for question in questions) == sum(len(text.encode()) for text in texts)
    assert all(question.facts["units"] >= 0 for question in questions)
    assert len({question.name for question in questions}) == len(questions)
    if unit != "bpe":
        assert facts["units"] == expected
    if detokenizer == "roundtrip":
        assert (facts["verbatim_lines"], facts["verbatim_share"]) == (4, 0.25)


def test_a_windows_units_are_those_of_its_own_lines(small_tokenizer):
    text = " a b c d e f \n" * 3 + " abcdefghijklm \n" * 3  # six words a line, then one
    questions = WikiText103(stride=4, unit="words").questions(EvaluationSet((text,), ()), small_tokenizer, 8)
    assert questions[1].facts["units"] > 2.5 * questions[-2].facts["units"]


def test_what_the_model_predicts_is_the_text_without_its_artefacts(small_tokenizer):
    task = WikiText2(stride=5, bos="eot")
    questions = task.questions(EvaluationSet((WIKI,), ()), small_tokenizer, 32)
    shown = small_tokenizer.decode(token for question in questions for token in question.pairs[0].continuation.tolist())
    assert shown.startswith('\n= Town 0 =\n\nTown 0 is a well-known place, and the <unk>\'s "big" house')
    assert questions[1].name == f"{questions[1].facts['start']}-{questions[2].facts['start'] - 1}"


def test_lm_evals_units_count_the_empty_strings_of_its_split(small_model):
    task = LM_EVAL["wikitext"]
    found = EvaluationSet((WIKI,), ())
    questions = task.questions(found, small_model.tokenizer, 32)
    assert [question.facts["units"] for question in questions] == [len(page.split()) + 2 for page in articles(WIKI)]
    assert all(page.startswith(" = Town") and page.endswith(" \n ") for page in articles(WIKI)[:-1])
    names = [metric.name for metric in task.metrics(rows_of(task, questions, small_model))]
    assert names == ["word_perplexity", "byte_perplexity", "bits_per_byte"]


@pytest.mark.parametrize("task", [WikiText2(), WikiText103(), *LM_EVAL.values()])
def test_counts_of_the_published_wikitext(shared_data, task):
    found = task.read(DataSource(shared_data("wikitext-2").parent, allow_changed=True))
    tokenizer = gpt2_tokenizer()
    facts = task.facts(found, tokenizer)
    if task.unit == "lm-eval-words":  # 0.18700 words a byte, as in figures published with it
        assert (facts["units"], facts["bytes"]) == (241_335, 1_290_527)
        assert len(articles(found.items[0])) == 62
        return
    assert (facts["units"], facts["verbatim_share"] if task.detokenizer == "roundtrip" else 0) == (245_569, 0)
    questions = task.questions(found, tokenizer, 1024)
    assert sum(question.facts["tokens"] for question in questions) == facts["tokens"] - 1
    assert sum(question.facts["units"] for question in questions) == 245_569
    assert len(questions) == 1 + math.ceil((facts["tokens"] - 1 - 1024) / 32)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"detokenizer": "none"},
        {"detokenizer": "none", "join": "space"},
        {"detokenizer": "megatron"},
        {"detokenizer": "sedd", "join": "space"},
        {"n_map": "1", "unk": "rare", "capitalise_sentence": True, "add_period": True, "join": "space", "bos": "eot"},
    ],
)
def test_the_penn_treebanks_units_are_words_and_line_ends_however_it_is_shown(small_tokenizer, options):
    task = PennTreebank(stride=4, **options)
    found = EvaluationSet((TREEBANK,), ())
    questions = task.questions(found, small_tokenizer, 32)
    assert sum(q.facts["units"] for q in questions) == len(TREEBANK.split()) + TREEBANK.count("\n")
    shown = "".join(q.text for q in questions)
    assert ("\n" in shown) == (options.get("join") != "space")
    assert "  " not in shown.rstrip(" ")


def test_the_penn_treebanks_edits_go_with_our_de_tokenizer_only():
    with pytest.raises(BadOption, match="detokenizer=roundtrip"):
        PennTreebank(detokenizer="sedd", n_map="1")


@pytest.mark.parametrize("detokenizer", ["none", "sedd", "roundtrip"])
def test_sentences_of_the_one_billion_words_are_read_in_a_stream_or_alone(small_tokenizer, detokenizer):
    found = EvaluationSet(SENTENCES, ())
    units = sum(len(sentence.split()) + 1 for sentence in SENTENCES)
    stream = OneBillionWords(detokenizer, "stream", stride=8).questions(found, small_tokenizer, 32)
    assert sum(q.facts["units"] for q in stream) == units
    for scope, first in (("sentence+eot", small_tokenizer.end_of_text), ("sentence+newline", 10)):
        alone = OneBillionWords(detokenizer, scope).questions(found, small_tokenizer, 64)
        assert len(alone) == len(SENTENCES)
        assert sum(q.facts["units"] for q in alone) == units
        assert all(small_tokenizer.decode(q.pairs[0].context) in ("<|endoftext|>", "\n") for q in alone)
        assert {int(q.pairs[0].context[0]) for q in alone} == {
            first if first != 10 else small_tokenizer.encode("\n")[0]
        }
        assert all(q.text.endswith(" go.\n") or detokenizer != "roundtrip" for q in alone)


def test_a_start_of_the_stream_does_not_go_with_sentences_alone():
    with pytest.raises(BadOption, match="bos"):
        OneBillionWords(scope="sentence+newline", bos="eot")


def test_bytes_of_a_character_cut_in_two_are_scored_as_they_are(small_tokenizer, tmp_path):
    content = ("x" + "é&lt;ab&amp;lt;中" * 400).encode()
    content = content[: len(content) // 20 * 20]
    while content[-(len(content) // 20)] not in range(0x80, 0xC0):  # a continuation byte first
        content = b"xxxxxxxxxxxxxxxxxxxx" + content[:-1] + b"x"
        content = content[: len(content) // 20 * 20]
    (tmp_path / "enwik8").write_bytes(content)
    task = Enwik8(stride=16)
    found = task.read(DataSource(tmp_path, allow_changed=True))
    test_set = content[-(len(content) // 20) :]
    questions = task.questions(found, small_tokenizer, 32)
    ids = [questions[0].pairs[0].context[0], *(i for q in questions for i in q.pairs[0].continuation)]
    assert small_tokenizer.decode_bytes(map(int, ids)) == test_set
    assert sum(q.facts["bytes"] for q in questions) == len(test_set) == task.facts(found, small_tokenizer)["units"]
    unescaped = Enwik8(unescape_xml=True)
    assert sum(q.facts["bytes"] for q in unescaped.questions(found, small_tokenizer, 32)) == len(test_set)
    assert "<ab&lt;中" in "".join(q.text for q in unescaped.questions(found, small_tokenizer, 32))


@given(st.lists(st.sampled_from("one nine zero two a bone ones three".split())).map(" ".join))
def test_joined_digits_are_invertible(text):
    assert spell_digits(join_digits(text)) == text


def test_text8_gives_bits_per_character(small_model):
    text = "in one nine eight four the one dog sleeps " * 5
    for task, shown in ((Text8(), "one nine eight"), (Text8(digits="joined"), "in 1984 the one dog")):
        questions = task.questions(EvaluationSet((text,), ()), small_model.tokenizer, 32)
        assert shown in "".join(q.text for q in questions)
        rows = rows_of(task, questions, small_model)
        (metric,) = task.metrics(rows)
        assert metric.name == "bits_per_character"
        nats = sum(row["nats"] for row in rows)
        assert metric.value == pytest.approx(nats / math.log(2) / len(text))


def test_a_text_of_ones_own_is_scored_by_word_token_and_byte(small_model, sentences, tmp_path):
    file = tmp_path / "own.txt"
    text = "\n".join(sentences[:2]) + " é\u2028é"
    file.write_text(text, encoding="utf-8")
    result = run_task(small_model, identify_model("small", small_model), "text", OwnText(file, 16), DataSource())
    tokens = small_model.tokenizer.encode(text)
    nats = plain_nats(small_model.network, [small_model.tokenizer.end_of_text, *tokens], 16)
    by_name = {metric.name: metric.value for metric in result.metrics}
    assert by_name["word_perplexity"] == pytest.approx(math.exp(nats / len(text.split())), rel=1e-4)
    assert by_name["token_perplexity"] == pytest.approx(math.exp(nats / len(tokens)), rel=1e-4)
    assert by_name["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-4)
    assert result.scored_tokens == len(tokens) == result.facts["tokens"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no text"),
        (b" \n\t\n", "no text"),
        (b"good\nbad \xff\n", "line 2 is not UTF-8"),
        (b"a\0b", "NUL"),
    ],
)
def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path, content, said):
    file = tmp_path / "own.txt"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        OwnText(file).read(DataSource())


def test_what_can_not_be_scored_is_refused_in_one_line(small_tokenizer, tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        OwnText(tmp_path / "absent.txt").read(DataSource())
    with pytest.raises(BadInput, match="at least two"):
        OwnText(tmp_path, bos="none").questions(EvaluationSet(("a",), ()), small_tokenizer, 32)
    with pytest.raises(BadOption, match="stride 0"):
        OwnText(tmp_path, stride=0).questions(EvaluationSet(("a b c",), ()), small_tokenizer, 32)


def test_the_suites_hold_every_set_at_both_strides():
    for module in (wikitext, ptb, one_billion_words, enwik8, text8):
        assert module.PAPER.keys() == module.FAST.keys()
        assert {task.stride for task in module.PAPER.values()} == {32}
        assert {task.stride for task in module.FAST.values()} == {1024}


def test_the_windows_texts_have_each_8_gram_of_the_stream_once():
    text = "It cost 5 €; naïve_words and others. " * 3 + "\n" + "And so it was, the end of the whole story."
    stream = Stream("a text", (Piece(text, 1, 1),))
    tokenizer = gpt2_tokenizer()

    def grams(text: str) -> list[tuple[str, ...]]:
        words = normalise(text).split()
        return [tuple(words[n : n + 8]) for n in range(len(words) - 7)]

    for stride in (1, 3, 64):
        questions = window_questions(stream, tokenizer, 16, stride, tokenizer.end_of_text, "words")
        assert [gram for question in questions for gram in grams(question.text)] == grams(text)
