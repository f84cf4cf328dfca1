"""Winograd schemas (Levesque et al. 2012): which of two is meant by a pronoun.

The 273 everyone tests on, GPT-2's paper too, are the first of the web's collection, which has grown to 285.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.texts import open_bytes

SCHEMAS = 273
_PATTERNS = ("wscollection.xml",)
_URL = "https://cs.nyu.edu/faculty/davise/papers/WinogradSchemas/WSCollection.xml"
COLLECTION = PublishedFile(
    name="the Winograd schema collection",
    patterns=_PATTERNS,
    sha256="98c845a5b33c109f2c49742e726fac592bbb1fdc3b3706b604de12f9c9f58c91",
    url=_URL,
    licence="CC BY 4.0",
)
COLLECTION_OF_283 = PublishedFile(
    name="the Winograd schema collection when it had 283",
    patterns=_PATTERNS,
    sha256="29939d96035c7459c4a663f70649fbdf7701617292c7eef43549e9cd42f1f360",
    url=None,
    licence="CC BY 4.0",
)


@dataclass(frozen=True)
class WinogradItem:
    """A schema: `before + pronoun + after` is the sentence; `answer` is the place of what is meant."""

    before: str
    pronoun: str
    after: str
    candidates: tuple[str, str]
    answer: int


def read_winograd(source: DataSource) -> EvaluationSet[WinogradItem]:
    """The 273 schemas, runs of white space made one space."""
    found = source.file(COLLECTION, COLLECTION_OF_283)
    with open_bytes(Path(found.path)) as handle:
        content = handle.read()
    encoding = "iso-8859-1" if b'encoding="ISO-8859-1"' in content[:100] else "utf-8"
    # Not an XML parser: the file is flat, and no entities of its own can then be expanded.
    schemas = re.findall(r"<schema>(.*?)</schema>", content.decode(encoding, "replace"), re.DOTALL)
    items = tuple(_item(schema, f"{found.path}: schema {number}") for number, schema in enumerate(schemas[:SCHEMAS], 1))
    found = source.check_count(found, len(items), SCHEMAS, "schemas")
    return EvaluationSet(items, (found,))


def _item(schema: str, place: str) -> WinogradItem:
    text = re.search(r"<txt1>(.*?)</txt1>\s*<pron>(.*?)</pron>\s*<txt2>(.*?)</txt2>", schema, re.DOTALL)
    candidates = [_plain(answer) for answer in re.findall(r"<answer>(.*?)</answer>", schema, re.DOTALL)]
    correct = re.search(r"<correctAnswer>\s*([AB])\b", schema)
    if text is None or len(candidates) != 2 or correct is None:
        raise BadInput(f"{place} lacks its text, its two answers, or which is correct (A or B); get the file again.")
    before, pronoun, after = map(_plain, text.groups())
    if not (pronoun and after and all(candidates)):
        raise BadInput(f"{place} is empty in part; get the file again.")
    # Before a full stop there is no space; whether it stands in one element or the other differs.
    space = " " if text[2][-1:].isspace() or text[3][:1].isspace() else ""
    return WinogradItem(
        f"{before} " if before else "", pronoun, space + after, (candidates[0], candidates[1]), "AB".index(correct[1])
    )


def _plain(text: str) -> str:
    return " ".join(text.split())
