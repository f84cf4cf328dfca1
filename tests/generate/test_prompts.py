"""Tasks in the paper's words, style samples, and what is cut to fit the context."""

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.generate.prompts import (
    ANSWERS,
    TASK_OPTIONS,
    TRANSLATIONS,
    Conditioning,
    first_sentences,
    fitted,
    read_examples,
    style_conditioning,
    task_conditioning,
)


def test_tasks_are_asked_in_the_papers_words():
    assert task_conditioning("summarize", "An article.\n") == Conditioning("\nTL;DR:", "An article.")
    assert (TASK_OPTIONS["summarize"].max_tokens, TASK_OPTIONS["summarize"].top_k) == (100, 2)
    translate = task_conditioning("translate", "I am\nhere.").tail.split("\n")
    assert translate == [*(f"{english} = {french}" for english, french in TRANSLATIONS), "I am here. ="]
    assert TASK_OPTIONS["translate"].temperature == TASK_OPTIONS["answer"].temperature == 0
    assert task_conditioning("answer", "Who?").tail.startswith(f"Q: {ANSWERS[0][0]}\nA: {ANSWERS[0][1]}\n\nQ: ")
    about = task_conditioning("answer", "Why?", [("Who?", "Ann")], "Ann left.")
    assert about.body + about.tail == "Ann left.\n\nQ: Who?\nA: Ann\n\nQ: Why?\nA:"
    with pytest.raises(BadInput, match="--task summarize: nothing to work on"):
        task_conditioning("summarize", " \n")


def test_what_is_cut_keeps_the_right_end_at_a_border_and_leaves_room_for_new_tokens(small_tokenizer, sentences):
    text = "\n\n".join(sentences[:4])
    article = task_conditioning("summarize", text)
    sample = style_conditioning(text, "The cat")
    for context in range(20, 400, 19):
        summary, left_out = fitted(article, small_tokenizer, context, 8)
        assert len(small_tokenizer.encode(summary)) + 8 <= context
        body = summary.removesuffix("TL;DR:").rstrip("\n")
        assert text.startswith(body)
        assert left_out == len(text) - len(body)
        styled, _ = fitted(sample, small_tokenizer, context, 8)
        assert len(small_tokenizer.encode(styled)) + 8 <= context
        body = styled.removesuffix("The cat").rstrip("\n")
        assert styled.endswith("The cat")
        assert text.endswith(body)
        assert not body or text[len(text) - len(body) - 1] in " \n"  # no half words
    assert fitted(article, small_tokenizer, 5000, 8) == (text + "\nTL;DR:", 0)


def test_plain_prompts_are_left_as_they_are(small_tokenizer):
    assert fitted(Conditioning("\n\n The cat "), small_tokenizer, 4, 100) == ("\n\n The cat ", 0)


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        (" One. Two! Three? Four.", 3, ("One. Two! Three?", True)),
        ("One. Two", 3, ("One. Two", False)),
        ("Dr. A. Smith paid 3.5 euros. Then", 1, ("Dr. A. Smith paid 3.5 euros.", True)),
        ("“Go.” He went. Now", 2, ("“Go.” He went.", True)),
        ("A heading\n\nA line.", 1, ("A heading", True)),
        ("", 3, ("", False)),
    ],
)
def test_the_first_sentences_are_found(text, count, found):
    assert first_sentences(text, count) == found


def test_examples_are_pairs_one_a_line(tmp_path):
    file = tmp_path / "pairs.txt"
    file.write_text("one = un\n\ntwo = two\tdeux\n", encoding="utf-8")
    assert read_examples(file) == (("one", "un"), ("two = two", "deux"))
    file.write_text("one = un\ntwo\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"pairs\.txt: line 2 is no pair; write `one = other`"):
        read_examples(file)
