"""The One Billion Word benchmark (Chelba et al. 2013): the held-out sentences that everyone tests on, shuffled.

Its units are words and one end of sentence each, 159,658 in all (tensorflow/tensor2tensor, `data_generators/lm1b.py`).
"""

from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.texts import read_plain_pieces

UNITS = 159_658
ONE_BILLION_WORDS = PublishedFile(
    name="the One Billion Word benchmark's test set",
    patterns=("news.en.heldout-00000-of-00050",),
    sha256=None,
    url="http://www.statmt.org/lm-benchmark/1-billion-word-language-modeling-benchmark-r13output.tar.gz",
    licence="WMT11's news crawl: research use",
    member="heldout-monolingual.tokenized.shuffled/news.en.heldout-00000-of-00050",
    archive_sha256="01ba60381110baf7f189dfd2b8374de371e8c9a340835793f190bdae9e90a34e",
)


def read_one_billion_words(source: DataSource) -> EvaluationSet[str]:
    """A sentence an item, without its newline."""
    found = source.file(ONE_BILLION_WORDS)
    sentences = "".join(read_plain_pieces(Path(found.path))).removesuffix("\n").split("\n")
    for number, sentence in enumerate(sentences, 1):
        if not sentence.strip():
            raise BadInput(f"{found.path}: line {number:,} is empty; give a sentence a line.")
    units = sum(len(sentence.split()) + 1 for sentence in sentences)
    found = source.check_count(found, units, UNITS, "words and ends of sentences")
    return EvaluationSet(tuple(sentences), (found,))
