"""Prompts of files, with options of their own."""

import json
from dataclasses import fields

import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.requests import Request, read_requests, with_options

OPTIONS = SamplingOptions(seed=5)


def test_every_option_can_be_given_as_json():
    written = json.dumps({field.name: getattr(SamplingOptions(), field.name) for field in fields(SamplingOptions)})
    assert with_options(SamplingOptions(seed=9, n=3), json.loads(written)) == SamplingOptions()
    given = {"stop": "\n", "logit_bias": {"7": -1}, "temperature": 1, "logprobs": 2}
    assert with_options(OPTIONS, given) == SamplingOptions(
        seed=5, stop=("\n",), logit_bias=((7, -1.0),), temperature=1.0, logprobs=2
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temprature": 1}, "'temprature' is no option; there are max_tokens, temperature"),
        ({"temperature": "hot"}, 'temperature: "hot" is not a number'),
        ({"top_k": 1.5}, r"top_k: 1\.5 is not a whole number"),
        ({"n": True}, "n: true is not a whole number"),
        ({"stop": [1]}, r"stop: \[1\] is not a text, or a list of texts"),
        ({"logit_bias": {"x": 1}}, "logit_bias: .* is not an object of token ids and numbers"),
        ({"top_p": 0}, r"--top-p 0\.0: must be above 0"),
    ],
)
def test_options_that_are_none_are_named(given, words):
    with pytest.raises(BadOption, match=words):
        with_options(OPTIONS, given)


def test_lines_of_text_and_objects_keep_their_numbers():
    assert list(read_requests(b"\xef\xbb\xbfone\r\n\n two\n", "p.txt", OPTIONS)) == [
        Request("one", OPTIONS, "p.txt: line 1", 1),
        Request(" two", OPTIONS, "p.txt: line 3", 3),
    ]
    rows = b'{"prompt": "a", "id": "x", "n": 2}\n\n{"prompt": "b\\n", "document": "d"}\n'
    found = list(read_requests(rows, "standard input", OPTIONS))
    assert [(one.prompt, one.id, one.options.n, one.line, one.document) for one in found] == [
        ("a", "x", 2, 1, ""),
        ("b\n", None, 1, 3, "d"),
    ]


def test_lines_that_cannot_be_used_are_named_and_the_others_come_all_the_same():
    rows = (
        b'{"prompt": "a"}\nb\n{"prompt": 5}\n{"prompt": "\\ud800"}\n{"prompt": "\xff"}\n{"prompt": "c", "n": 0}\n{}\n'
    )
    first, *others = read_requests(rows, "p.jsonl", OPTIONS)
    assert first == Request("a", OPTIONS, "p.jsonl: line 1", 1)
    assert all(isinstance(one, BadInput) for one in others)
    assert [str(one).removeprefix("p.jsonl: line ") for one in others] == [
        '2 is not a JSON object; write {"prompt": "..."}.',
        "3 has no text 'prompt'.",
        "4: character 1 is broken: no valid Unicode.",
        "5: not UTF-8 near byte 12; convert it (iconv -t utf-8).",
        "6: --n 0: must be at least 1.",
        "7 has no text 'prompt'.",
    ]
