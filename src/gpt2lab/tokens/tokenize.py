"""Documents to token shards: with GPT-2's tokenizer, with one in a folder, or with one trained on the spot."""

from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.tokens.shards import TokensInfo
from gpt2lab.tokens.tokenizer_files import GPT2, find_tokenizer
from gpt2lab.tokens.train_bpe import train_bpe_of_files
from gpt2lab.tokens.write_shards import write_shards


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
        chosen = train_bpe_of_files([documents], vocab_size, held_out_share=held_out_share)
    else:
        chosen = find_tokenizer(tokenizer)
    return write_shards(documents, out, chosen, held_out_share)
