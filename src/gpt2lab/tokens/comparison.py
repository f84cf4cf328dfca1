"""How many bytes a token of each of several tokenizers stands for, on the same texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.progress import progress_bar
from gpt2lab.datasets.documents import document_files
from gpt2lab.datasets.evaluation_texts import named_set, read_evaluation_texts
from gpt2lab.tokens.bulk import BulkEncoder, JoinedTexts
from gpt2lab.tokens.document_batches import read_batches
from gpt2lab.tokens.shards import check_held_out_share
from gpt2lab.tokens.tokenizer_files import find_tokenizer

TEXTS_AT_ONCE = 512


@dataclass(frozen=True)
class Compared:
    """One set of texts: its size, and how many tokens each tokenizer makes of it."""

    name: str
    texts: int
    text_bytes: int
    tokens: tuple[int, ...]

    def bytes_a_token(self) -> list[float]:
        """For each tokenizer."""
        return [self.text_bytes / max(1, count) for count in self.tokens]


def compare_tokenizers(
    tokenizers: Sequence[str], sets: Sequence[str], documents: Path | None = None, held_out_share: float = 0.05
) -> list[Compared]:
    """Encode evaluation sets (NAME=PATH) and, by source, the documents that `tokenize` holds out.

    A held-out share of 0 takes all documents. Raises BadOption for nothing to compare.
    """
    if not tokenizers or not (sets or documents):
        raise BadOption("name at least one tokenizer, and --sets or --documents to compare on.")
    check_held_out_share(held_out_share)
    encoders = [BulkEncoder(find_tokenizer(name)) for name in tokenizers]
    found: dict[str, Compared] = {}
    with progress_bar("compare", unit="texts") as bar:
        for name, texts in _sets_of_texts(sets, documents, held_out_share):
            counts = tuple(len(encoder.encode(JoinedTexts.of(texts))[0]) for encoder in encoders)
            before = found.get(name, Compared(name, 0, 0, (0,) * len(encoders)))
            found[name] = Compared(
                name,
                before.texts + len(texts),
                before.text_bytes + sum(map(len, texts)),
                tuple(map(sum, zip(before.tokens, counts, strict=True))),
            )
            bar.advance(len(texts))
    if not found:
        raise BadInput(f"{documents}: no document is held out at a share of {held_out_share}.")
    return list(found.values())


def _sets_of_texts(
    sets: Sequence[str], documents: Path | None, held_out_share: float
) -> Iterator[tuple[str, list[bytes]]]:
    """Some texts in UTF-8 at a time, and whose they are."""
    for given in sets:
        name, path = named_set(given)
        texts = (text.encode("utf-8", "replace") for text in read_evaluation_texts(path))
        while some := list(islice(texts, TEXTS_AT_ONCE)):
            yield name, some
    for file in document_files(documents) if documents else ():
        for batch in read_batches(file, held_out_share):
            by_source: dict[str, list[bytes]] = {}
            for text, source, held_out in zip(batch.texts, batch.sources, batch.held_out, strict=True):
                if held_out or not held_out_share:
                    by_source.setdefault(source, []).append(bytes(text))
            yield from by_source.items()


def comparison_table(tokenizers: Sequence[str], found: Sequence[Compared]) -> str:
    """Bytes a token, a row a set, a column a tokenizer; with two of them the second's gain over the first."""
    width = max(len("bytes a token"), *(len(one.name) for one in found))
    names = [Path(name).name for name in tokenizers]
    columns = [max(len(name), 8) for name in names]
    gain = len(names) == 2
    header = "".join(f"  {name:>{column}}" for name, column in zip(names, columns, strict=True))
    lines = [f"{'bytes a token':<{width}}  {'texts':>8}  {'MB':>7}{header}{'    gain' if gain else ''}"]
    for one in found:
        rates = one.bytes_a_token()
        cells = "".join(f"  {rate:>{column}.3f}" for rate, column in zip(rates, columns, strict=True))
        more = f"  {rates[1] / rates[0] - 1:>+6.1%}" if gain else ""
        lines.append(f"{one.name:<{width}}  {one.texts:>8,}  {one.text_bytes / 1e6:>7.2f}{cells}{more}")
    return "\n".join(lines)
