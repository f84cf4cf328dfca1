"""WinoGrande (Sakaguchi et al. 2019): which of two fills a gap in a sentence, in the manner of Winograd's schemas."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.json_fields import choice_of, text_field, texts_field
from gpt2lab.datasets.texts import Record, read_json_lines

ITEMS = 1267
GAP = "_"
_LICENCE = "CC BY 4.0"
WINOGRANDE = PublishedFile(
    name="WinoGrande's development set",
    patterns=("*winogrande*dev.jsonl", "*winogrande*validation*.jsonl"),
    sha256=None,
    url="https://storage.googleapis.com/ai2-mosaic/public/winogrande/winogrande_1.1.zip",
    licence=_LICENCE,
    member="winogrande_1.1/dev.jsonl",
    archive_sha256="3619ab104d8be2977b25c90ff420cb42d491707dcc75362a1e5d22bc082b7318",
)
LLM_FOUNDRY = PublishedFile(
    name="WinoGrande's development set as llm-foundry keeps it",
    patterns=("winogrande.jsonl",),
    sha256="ea1592526f3bfdd0948ed3acb1b4dfa3f83d23698917118688ee1df7f8d4b8d7",
    url=None,
    licence=_LICENCE,
)


@dataclass(frozen=True)
class WinograndeItem:
    """A sentence with a gap, `before + option + after`."""

    before: str
    after: str
    options: tuple[str, str]
    answer: int


def read_winogrande(source: DataSource) -> EvaluationSet[WinograndeItem]:
    """The development items (the test set's answers are secret), from the makers' JSON lines or llm-foundry's.

    llm-foundry's have the options in their sentences: words that both begin with are then part of `before`.
    """
    found = source.file(WINOGRANDE, LLM_FOUNDRY)
    records = read_json_lines(Path(found.path))
    items = tuple(_item(record, f"{found.path}: line {number:,}") for number, record in records)
    found = source.check_count(found, len(items), ITEMS)
    return EvaluationSet(items, (found,))


def _item(record: Record, place: str) -> WinograndeItem:
    if "context_options" in record:
        return _of_contexts(record, place)
    sentence = text_field(record, "sentence", place)
    before, gap, after = sentence.partition(GAP)
    if not gap or GAP in after:
        raise BadInput(f"{place}: its sentence has not one gap ({GAP}); mend the line.")
    options = (text_field(record, "option1", place), text_field(record, "option2", place))
    return WinograndeItem(before, after, options, choice_of(record.get("answer"), ("1", "2"), place))


def _of_contexts(record: Record, place: str) -> WinograndeItem:
    contexts = texts_field(record, "context_options", place)
    if len(contexts) != 2:
        raise BadInput(f"{place} has {len(contexts)} context_options, not two; mend the line.")
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*contexts, strict=False)))
    # Back to the beginning of a word; it is one of both options where one begins with all of the other.
    before = contexts[0][: contexts[0].rfind(" ", 0, min(same, *(len(context) - 1 for context in contexts))) + 1]
    after = text_field(record, "continuation", place)
    space = "" if after[0] in ".,;:!?'" else " "
    options = (contexts[0].removeprefix(before), contexts[1].removeprefix(before))
    return WinograndeItem(before, space + after, options, choice_of(record.get("gold"), ("0", "1"), place))
