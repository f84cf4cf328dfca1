"""WikiText-2 and WikiText-103 (Merity et al. 2017): the test set of both, 62 articles, as one text.

The two have the same words; they differ in which of them are `<unk>` (15,218 and 2,492). The raw form has none and is
the same for both. All hashes are those of files whose SHA-1 dmlc/gluon-nlp publishes (`data/corpora/wikitext.py`).
"""

from pathlib import Path
from typing import Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.texts import read_json_lines, read_parquet_records, read_plain_pieces, suffix_of

_S3 = "https://s3.amazonaws.com/research.metamind.io/wikitext"
_LICENCE = "CC BY-SA 3.0 and GFDL"
_ROWS = ("*wikitext-2-v1*test*.parquet", "*wikitext-2-v1*test*.jsonl")
WIKITEXT_2 = PublishedFile(
    name="WikiText-2's test set",
    patterns=("wikitext-2/wiki.test.tokens", "*wikitext*2*test.tokens", *_ROWS, "wiki.test.tokens"),
    sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    url=f"{_S3}/wikitext-2-v1.zip",
    licence=_LICENCE,
    member="wiki.test.tokens",
    archive_sha256="92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
)
WIKITEXT_103 = PublishedFile(
    name="WikiText-103's test set",
    patterns=(
        "wikitext-103/wiki.test.tokens",
        "*wikitext*103*test.tokens",
        *(pattern.replace("-2-", "-103-") for pattern in _ROWS),
        "wiki.test.tokens",
    ),
    sha256="56db52eb157b1ab5c89646eef70510c1eca6e12a3bfdb99f0d6b05b4eacb75b9",
    url=f"{_S3}/wikitext-103-v1.zip",
    licence=_LICENCE,
    member="wiki.test.tokens",
    archive_sha256="242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
)
RAW = PublishedFile(
    name="WikiText's raw test set",
    patterns=("wiki.test.raw", "*wikitext-*-raw-v1*test*.parquet", "*wikitext-*-raw-v1*test*.jsonl"),
    sha256="173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
    url=f"{_S3}/wikitext-2-raw-v1.zip",
    licence=_LICENCE,
    member="wiki.test.raw",
    archive_sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
)


def read_wikitext(
    source: DataSource, version: Literal["2", "103"], form: Literal["tokens", "raw"] = "tokens"
) -> EvaluationSet[str]:
    """One item: the whole test set, every line with its newline, blank lines as the original has them (a space)."""
    wanted, other = {
        ("2", "tokens"): (WIKITEXT_2, WIKITEXT_103),
        ("103", "tokens"): (WIKITEXT_103, WIKITEXT_2),
    }.get((version, form), (RAW, None))
    found = source.file(wanted, restore=_restored)
    if other is not None and found.sha256 == other.sha256:
        raise BadInput(f"{found.path}: this is {other.name}, not {wanted.name}; get {wanted.url}, put it below --data.")
    text = _restored(Path(found.path)).decode("utf-8")
    if not text.strip():
        raise BadInput(f"{found.path}: empty; get the file again.")
    return EvaluationSet((text,), (found,))


def _restored(path: Path) -> bytes:
    """The original's bytes: in copies blank lines are empty, and Hugging Face has a line a row."""
    match suffix_of(path):
        case ".parquet":
            text = "".join(str(record.get("text", "")) or "\n" for _, record in read_parquet_records(path))
        case ".jsonl":
            text = "".join(str(record.get("text", "")) or "\n" for _, record in read_json_lines(path))
        case _:
            text = "".join(read_plain_pieces(path))
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return "".join(f"{line or ' '}\n" for line in lines).encode()
