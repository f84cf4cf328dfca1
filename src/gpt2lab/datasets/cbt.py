"""Children's Book Test (Hill et al. 2016): twenty sentences of a book, and the next with a word left out.

CN: common nouns, NE: named entities, V: verbs, P: prepositions. GPT-2's paper tests on the validation questions.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.texts import read_plain_pieces

CONTEXT_SENTENCES = 20
GAP = "XXXXX"
QUESTIONS = {"valid": 2000, "test": 2500}
_NUMBERED = re.compile(r"(\d+) (.*)", re.DOTALL)


@dataclass(frozen=True)
class CbtItem:
    """A question: the sentences before it, one with a gap (XXXXX), what may fill it, and what does."""

    context: tuple[str, ...]
    query: str
    candidates: tuple[str, ...]
    answer: str


def published_cbt(kind: Literal["CN", "NE", "V", "P"], split: Literal["valid", "test"]) -> PublishedFile:
    """The file of one kind of word. Only the archive's hash is published."""
    name = f"cbtest_{kind}_{split}_{QUESTIONS[split]}ex.txt"
    return PublishedFile(
        name=f"Children's Book Test {kind}, {split}",
        patterns=(name.lower(),),
        sha256=None,
        url="http://www.thespermwhale.com/jaseweston/babi/CBTest.tgz",
        licence="GFDL 1.3 (books of Project Gutenberg)",
        member=f"CBTest/data/{name}",
        archive_sha256="932df0cadc1337b2a12b4c696b1041c1d1c6d4b6bd319874c6288f02e4a61e92",
    )


def read_cbt(
    source: DataSource, kind: Literal["CN", "NE", "V", "P"], split: Literal["valid", "test"] = "valid"
) -> EvaluationSet[CbtItem]:
    """The questions, their sentences tokenized as in the file, without the numbers at their beginning."""
    found = source.file(published_cbt(kind, split))
    text = "".join(read_plain_pieces(Path(found.path))).replace("\r\n", "\n")
    items: list[CbtItem] = []
    context: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        place = f"{found.path}: line {number:,}"
        if not line.strip():
            if context:
                raise BadInput(f"{place}: a question ends after {len(context)} sentences, without its own; mend it.")
            continue
        numbered = _NUMBERED.fullmatch(line)
        if numbered is None or int(numbered[1]) != len(context) + 1 or not numbered[2].strip():
            raise BadInput(f"{place} does not begin with {len(context) + 1} and a sentence; mend it.")
        if len(context) < CONTEXT_SENTENCES:
            context.append(numbered[2].strip())
        else:
            items.append(_question(tuple(context), numbered[2], place))
            context.clear()
    if context:
        raise BadInput(f"{found.path}: its last question is cut off after {len(context)} sentences; get it again.")
    found = source.check_count(found, len(items), QUESTIONS[split], "questions")
    return EvaluationSet(tuple(items), (found,))


def _question(context: tuple[str, ...], line: str, place: str) -> CbtItem:
    fields = [field for field in line.split("\t") if field.strip()]
    if len(fields) != 3:
        raise BadInput(f"{place} has {len(fields)} parts between tabs, not query, answer and candidates; mend it.")
    query, answer, candidates = fields[0].strip(), fields[1].strip(), tuple(fields[2].strip().split("|"))
    if GAP not in query:
        raise BadInput(f"{place}: its query has no {GAP}; mend it.")
    if answer not in candidates or not all(candidate.strip() for candidate in candidates):
        raise BadInput(f"{place}: its answer {answer!r} is none of its candidates, or one of them is empty; mend it.")
    return CbtItem(context, query, candidates, answer)
