"""The evaluation of one model on the user's own documents: loss, bits per byte, a cloze test; results on disk."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import locked_folder, whole_file, write_json
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.base.progress import say
from gpt2lab.datasets.documents import read_documents
from gpt2lab.evaluate.cloze import ClozeItem, ClozeResult, cloze_rows, count_words, make_cloze, score_cloze
from gpt2lab.evaluate.language_modelling import LanguageModellingResult, score_documents
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.tokens.shards import is_held_out

TEXT_FILES = (".txt", ".md")


@dataclass(frozen=True)
class Evaluation:
    """What a model scores on a set of documents; `cloze` is None where it was not asked for."""

    data: str
    language_modelling: LanguageModellingResult
    cloze: ClozeResult | None


def evaluate(
    model: LanguageModel,
    data: Path,
    out: Path | None = None,
    *,
    held_out_share: float | None = None,
    cloze_items: int = 200,
    stride: int | None = None,
) -> Evaluation:
    """Score `model` on documents (a `build` folder, Parquet) or a text file, and write `results.json` into `out`.

    `stride` is that of `score_documents`; `cloze_items` 0 leaves the cloze test out.

    With `held_out_share` only the documents that `tokenize` held out at that share are scored, and the cloze test takes
    its candidates from the others; without it all are scored. Raises BadInput where there is nothing to score.
    """
    if held_out_share is not None and not 0 < held_out_share <= 1:
        raise BadOption(f"--held-out-share {held_out_share}: must be above 0 and at most 1.")
    if out is not None:
        with locked_folder(out):
            pass  # a folder that can't be had must be known before the work
    word_counts: Counter[str] = Counter()
    texts: list[str] = []
    for text in read_texts(data):
        held_out = held_out_share is None or is_held_out(text, held_out_share)
        if held_out:
            texts.append(text)
        if cloze_items and (not held_out or held_out_share is None):
            word_counts.update(count_words([text]))
    if not any(texts):
        if held_out_share is None:
            raise BadInput(f"{data}: no text to evaluate on.")
        raise BadInput(
            f"{data}: no document is held out at a share of {held_out_share}, for there are too few of them. Leave"
            " --held-out-share out to score all of them, those of the training included."
        )
    items: list[ClozeItem] = []
    if cloze_items:
        try:
            items = make_cloze(texts, word_counts, cloze_items)
        except BadInput as error:
            say(f"{data}: no cloze test ({str(error).rstrip('.')}).")
    modelling = score_documents(model, texts, stride)
    cloze = score_cloze(model, items) if items else None
    result = Evaluation(str(data), modelling, cloze)
    if out is not None:
        if cloze is not None:
            with whole_file(out / "cloze.jsonl", "w") as handle:
                handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in cloze_rows(items, cloze))
        write_json(
            out / "results.json",
            asdict(result)
            | {"held_out_share": held_out_share, "versions": describe_versions(), "machine": describe_machine()},
        )
    return result


def read_texts(data: Path) -> Iterator[str]:
    """The texts of a documents folder or Parquet file, or of one plain text file."""
    if data.suffix.lower() in TEXT_FILES and data.is_file():
        try:
            yield data.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadInput(f"{data}: byte {error.start:,} is not valid UTF-8. Save the file as UTF-8.") from None
        return
    for document in read_documents(data):
        yield document.text
