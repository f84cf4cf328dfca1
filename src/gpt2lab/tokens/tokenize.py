"""Documents to token shards: with GPT-2's tokenizer, with one in a folder, or with one trained on the spot."""

from collections.abc import Iterator
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import progress_bar
from gpt2lab.datasets.documents import read_documents
from gpt2lab.tokens.bpe import ByteLevelBPE, gpt2_tokenizer, train_bpe
from gpt2lab.tokens.shards import TokensInfo, is_held_out
from gpt2lab.tokens.write_shards import write_shards

GPT2 = "gpt2"
"""The name that stands for the published tokenizer."""


def tokenize(
    documents: Path,
    out: Path,
    *,
    tokenizer: str = GPT2,
    vocab_size: int | None = None,
    held_out_share: float = 0.05,
) -> TokensInfo:
    """Write token shards of `documents` into `out`, a `held_out_share` of the documents apart for validation.

    With `vocab_size` a byte-level BPE of that size is trained on the documents that are not held out; otherwise
    `tokenizer` names GPT-2's own ("gpt2") or a folder. Run again it goes on where it stopped.
    """
    if vocab_size is not None and tokenizer != GPT2:
        raise BadOption("--vocab-size trains a new tokenizer: leave out --tokenizer.")
    if vocab_size is not None:
        chosen = train_bpe(_training_texts(documents, held_out_share), vocab_size)
    elif tokenizer == GPT2:
        chosen = gpt2_tokenizer()
    else:
        chosen = ByteLevelBPE.load(Path(tokenizer))
    return write_shards(documents, out, chosen, held_out_share)


def _training_texts(documents: Path, held_out_share: float) -> Iterator[str]:
    with progress_bar("train bpe", unit="documents") as bar:
        for document in read_documents(documents):
            if not is_held_out(document.text, held_out_share):
                yield document.text
            bar.advance()
