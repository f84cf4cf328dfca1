"""PIQA (Bisk et al. 2020): which of two ways reaches a physical goal. Its labels are in a file of their own."""

from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.json_fields import choice_of, text_field
from gpt2lab.datasets.texts import read_json_lines, read_plain_pieces

ITEMS = 1838
_LICENCE = "AFL 3.0"
PIQA = PublishedFile(
    name="PIQA's validation set",
    patterns=("piqa/valid.jsonl", "*piqa*valid.jsonl", "*physicaliqa*dev.jsonl"),
    sha256="93503cc97c679e459b065c3d13e848282e44b2a25213985bed3e5d458abef72d",
    url="https://yonatanbisk.com/piqa/data/valid.jsonl",
    licence=_LICENCE,
)
LABELS = PublishedFile(
    name="PIQA's validation labels",
    patterns=("piqa/valid-labels.lst", "*piqa*valid-labels.lst", "*physicaliqa*dev-labels.lst"),
    sha256="b4192dc3a2a0363d9d60ccf79800cbbe2f32ebb17726efdde6970e0b8131bceb",
    url="https://yonatanbisk.com/piqa/data/valid-labels.lst",
    licence=_LICENCE,
)


@dataclass(frozen=True)
class PiqaItem:
    """A goal and two ways to it."""

    goal: str
    solutions: tuple[str, str]
    answer: int


def read_piqa(source: DataSource) -> EvaluationSet[PiqaItem]:
    """The validation items (the test set's answers are secret)."""
    found, labels = source.file(PIQA), source.file(LABELS)
    answers = [
        choice_of(line.strip(), ("0", "1"), f"{labels.path}: line {number:,}")
        for number, line in enumerate("".join(read_plain_pieces(Path(labels.path))).splitlines(), 1)
    ]
    records = list(read_json_lines(Path(found.path)))
    if len(records) != len(answers):
        raise BadInput(f"{found.path}: {len(records):,} items, but {labels.path} has {len(answers):,} labels.")
    items = []
    for (number, record), answer in zip(records, answers, strict=True):
        goal, first, second = (
            text_field(record, key, f"{found.path}: line {number:,}") for key in ("goal", "sol1", "sol2")
        )
        items.append(PiqaItem(goal, (first, second), answer))
    found = source.check_count(found, len(items), ITEMS)
    return EvaluationSet(tuple(items), (found, labels))
