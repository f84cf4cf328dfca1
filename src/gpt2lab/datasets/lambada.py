"""LAMBADA (Paperno et al. 2016): passages whose last word can be guessed from the whole, not from its last sentence.

Two texts of the same 5,153 test passages: OpenAI's, cased and not tokenized (GPT-2's), and the original, lower-cased
and tokenized.
"""

from pathlib import Path
from typing import Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.json_fields import text_field
from gpt2lab.datasets.texts import read_json_lines, read_plain_pieces

PASSAGES = 5153
OPENAI = PublishedFile(
    name="LAMBADA's test set, OpenAI's text",
    patterns=("lambada_test.jsonl", "*lambada*openai*.jsonl", "*lambada*test*.jsonl"),
    sha256="4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
    url="https://openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl",
    licence="CC BY 4.0",
)
ORIGINAL = PublishedFile(
    name="LAMBADA's test set, the original text",
    patterns=("lambada_test_plain_text.txt", "*lambada*test*.txt"),
    sha256="4ab6062b68422bf2e83653d367c9765d42404f7ec21b8b59b6518b45606aaef2",
    url="https://zenodo.org/record/2630551/files/lambada-dataset.tar.gz",
    licence="CC BY 4.0",
    member="lambada_test_plain_text.txt",
    archive_sha256="8fbe499096ddbdcbbd0cac406861b5026fb451d15b8fe04e0e4f3d082f2ad5d7",
)


def read_lambada(source: DataSource, version: Literal["openai", "original"] = "openai") -> EvaluationSet[str]:
    """The passages with their last words, as they are in the file."""
    if version == "openai":
        found = source.file(OPENAI)
        records = read_json_lines(Path(found.path))
        passages = tuple(text_field(record, "text", f"{found.path}: line {n:,}") for n, record in records)
    else:
        found = source.file(ORIGINAL)
        lines = "".join(read_plain_pieces(Path(found.path))).splitlines()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise BadInput(f"{found.path}: line {number:,} is empty; give a passage a line.")
        passages = tuple(lines)
    found = source.check_count(found, len(passages), PASSAGES, "passages")
    return EvaluationSet(passages, (found,))
