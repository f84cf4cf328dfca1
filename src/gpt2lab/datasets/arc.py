"""ARC (Clark et al. 2018): natural science questions of school examinations, easy ones and a challenge set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.json_fields import checked_options, choice_of, text_field, texts_field
from gpt2lab.datasets.texts import Record, read_json_lines

ITEMS = {"easy": 2376, "challenge": 1172}
_LICENCE = "CC BY-SA 4.0"
_LLM_FOUNDRY = {
    "easy": "d2d12e59543acf9a5ef6079634a72b30215e36c2fd4236fff3bc855d287b87f5",
    "challenge": "1ae3aeedf1951d881cbd5c2e3a31e78a1993d251479afbe4cb413b6707244636",
}


@dataclass(frozen=True)
class ArcItem:
    """A question and what may answer it: three to five choices."""

    question: str
    choices: tuple[str, ...]
    answer: int


def published_arc(kind: Literal["easy", "challenge"]) -> tuple[PublishedFile, PublishedFile]:
    """The makers' test file (only its archive's hash is published), and the same items as llm-foundry keeps them."""
    name = f"ARC-{kind.capitalize()}-Test.jsonl"
    official = PublishedFile(
        name=f"ARC's {kind} test set",
        patterns=(name.lower(),),
        sha256=None,
        url="https://s3-us-west-2.amazonaws.com/ai2-website/data/ARC-V1-Feb2018.zip",
        licence=_LICENCE,
        member=name,
        archive_sha256="6d2d5ab50b2ceec6ba5f79c921be77cf2de712ea25a2b3f4fff3acc101cecfa0",
    )
    copy = PublishedFile(
        name=f"ARC's {kind} test set as llm-foundry keeps it",
        patterns=(f"arc_{kind}.jsonl",),
        sha256=_LLM_FOUNDRY[kind],
        url=None,
        licence=_LICENCE,
    )
    return official, copy


def read_arc(source: DataSource, kind: Literal["easy", "challenge"]) -> EvaluationSet[ArcItem]:
    """The test items, from the makers' JSON lines, Hugging Face's rows as JSON lines, or llm-foundry's."""
    found = source.file(*published_arc(kind))
    records = read_json_lines(Path(found.path))
    items = tuple(_item(record, f"{found.path}: line {number:,}") for number, record in records)
    found = source.check_count(found, len(items), ITEMS[kind])
    return EvaluationSet(items, (found,))


def _item(record: Record, place: str) -> ArcItem:
    match record:
        case {"query": str(query), "gold": gold}:
            choices = texts_field(record, "choices", place)
            question = query.removeprefix("Question: ")
            answer = choice_of(gold, [str(number) for number in range(len(choices))], place)
        case {"question": {"stem": str(question), "choices": [*options]}, "answerKey": key}:
            pairs = [option for option in options if isinstance(option, dict)]
            choices = checked_options([option.get("text") for option in pairs], "choices", place)
            answer = choice_of(key, [str(option.get("label")) for option in pairs], place)
        case {"question": str(question), "choices": {"text": texts, "label": [*labels]}, "answerKey": key}:
            choices = checked_options(texts, "choices", place)
            answer = choice_of(key, [str(label) for label in labels], place)
        case _:
            raise BadInput(f"{place} is no item of ARC (question with its choices, answerKey); mend the line.")
    if answer >= len(choices):
        raise BadInput(f"{place} has fewer choices than labels; mend the line.")
    return ArcItem(text_field({"question": question}, "question", place), choices, answer)
