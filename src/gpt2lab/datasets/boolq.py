"""BoolQ (Clark et al. 2019): questions that people asked a search engine, answered by yes or no, with a passage."""

from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.json_fields import choice_of, text_field
from gpt2lab.datasets.texts import Record, read_json_lines

ITEMS = 3270
_LICENCE = "CC BY-SA 3.0"
BOOLQ = PublishedFile(
    name="BoolQ's development set",
    patterns=("*boolq*dev.jsonl", "*boolq*validation*.jsonl"),
    sha256="ebc29ea3808c5c611672384b3de56e83349fe38fc1fe876fd29b674d81d0a80a",
    url="https://storage.googleapis.com/boolq/dev.jsonl",
    licence=_LICENCE,
)
LLM_FOUNDRY = PublishedFile(
    name="BoolQ's development set as llm-foundry keeps it",
    patterns=("boolq.jsonl",),
    sha256="454ff101e614370bb1807fe7ebbda6fdb57e794b9662cc1ccae211bf1ff626c8",
    url=None,
    licence=_LICENCE,
)


@dataclass(frozen=True)
class BoolqItem:
    """A passage, a question as it was typed (lower case, no question mark), and the answer."""

    passage: str
    question: str
    answer: bool


def read_boolq(source: DataSource) -> EvaluationSet[BoolqItem]:
    """The development items (the test set's answers are secret), from the makers' JSON lines or llm-foundry's."""
    found = source.file(BOOLQ, LLM_FOUNDRY)
    records = read_json_lines(Path(found.path))
    items = tuple(_item(record, f"{found.path}: line {number:,}") for number, record in records)
    found = source.check_count(found, len(items), ITEMS)
    return EvaluationSet(items, (found,))


def _item(record: Record, place: str) -> BoolqItem:
    if "query" in record:
        passage, mark, question = text_field(record, "query", place).rpartition("\nQuestion: ")
        if not mark:
            raise BadInput(f"{place}: its query has no line that begins with Question: ; mend the line.")
        answer = choice_of(record.get("gold"), ("0", "1"), place) == 1
        return BoolqItem(passage.removeprefix("Passage: "), question.removesuffix("?"), answer)
    label = record.get("answer")
    if not isinstance(label, bool):
        raise BadInput(f"{place}: label {label!r} is neither true nor false; mend the line.")
    return BoolqItem(text_field(record, "passage", place), text_field(record, "question", place), label)
