"""HellaSwag (Zellers et al. 2019): which of four endings goes on with a description."""

import json
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.json_fields import choice_of, text_field, texts_field
from gpt2lab.datasets.texts import Record, read_json_lines, read_parquet_records, suffix_of

ITEMS = 10_042
_ENDINGS = ("0", "1", "2", "3")
HELLASWAG = PublishedFile(
    name="HellaSwag's validation set",
    patterns=("hellaswag_val.jsonl", "*hellaswag*val*.jsonl", "*hellaswag*val*.parquet"),
    sha256="0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
    url="https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
    licence="MIT",
)
_END = ("split", "split_type", "label", "endings", "source_id")
_FIELDS = ("ind", "activity_label", "ctx_a", "ctx_b", "ctx", *_END)
_FIELDS_OF_WIKIHOW = ("ind", "ctx", "activity_label", "ctx_a", "ctx_b", *_END)


@dataclass(frozen=True)
class HellaSwagItem:
    """A context (`ctx`, or `ctx_a` and the beginning `ctx_b` of the ending's sentence) and its endings."""

    activity_label: str
    ctx_a: str
    ctx_b: str
    ctx: str
    endings: tuple[str, ...]
    answer: int


def read_hellaswag(source: DataSource) -> EvaluationSet[HellaSwagItem]:
    """The validation items (the test set's answers are secret); JSON lines or Parquet."""
    found = source.file(HELLASWAG, restore=_restored)
    items = tuple(_item(record, place) for place, record in _records(Path(found.path)))
    found = source.check_count(found, len(items), ITEMS)
    return EvaluationSet(items, (found,))


def _records(path: Path) -> list[tuple[str, Record]]:
    if suffix_of(path) == ".parquet":
        return [(f"{path}: row {row:,}", record) for row, record in read_parquet_records(path)]
    return [(f"{path}: line {line:,}", record) for line, record in read_json_lines(path)]


def _item(record: Record, place: str) -> HellaSwagItem:
    endings = texts_field(record, "endings", place)
    return HellaSwagItem(
        text_field(record, "activity_label", place),
        text_field(record, "ctx_a", place, empty=True),
        text_field(record, "ctx_b", place, empty=True),
        text_field(record, "ctx", place),
        endings,
        choice_of(record.get("label"), _ENDINGS[: len(endings)], place),
    )


def _restored(path: Path) -> bytes:
    """The makers' file to the byte: Hugging Face's rows have other orders of fields, and labels as text."""
    lines = []
    for place, record in _records(path):
        if not set(_FIELDS) <= set(record):
            raise BadInput(f"{place} lacks {', '.join(set(_FIELDS) - set(record))}.")
        fields = _FIELDS_OF_WIKIHOW if str(record["source_id"]).startswith("wikihow") else _FIELDS
        record["label"] = choice_of(record["label"], _ENDINGS, place)
        lines.append(json.dumps({key: record[key] for key in fields}) + "\n")
    return "".join(lines).encode()
