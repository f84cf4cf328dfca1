"""Tokenizers on disk, in the formats of transformers, tokenizers and tiktoken. All of them give the same ids.

vocab.json + merges.txt   GPT-2's own encoder.json + vocab.bpe under transformers' names; they know no split pattern
tokenizer.json            Hugging Face tokenizers; the only one that holds the split pattern
tokenizer_config.json     what AutoTokenizer of transformers is to do with them
tokenizer.tiktoken        a line "base64 rank" for each token but <|endoftext|>; read by tiktoken and gigatoken
"""

import base64
import binascii
import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json, sha256_of, whole_file, write_json
from gpt2lab.tokens.bpe import (
    END_OF_TEXT,
    SPLIT_PATTERN,
    VOCAB_BPE_SHA256,
    ByteLevelBPE,
    byte_symbols,
    check_split_pattern,
    gpt2_tokenizer,
    parse_merges,
)

GPT2 = "gpt2"
"""The name that stands for the published tokenizer."""
MERGES_FILES = ("merges.txt", "vocab.bpe")
TOKENIZER_FILES = (*MERGES_FILES, "tokenizer.json", "tokenizer.tiktoken")
"""Any of these alone is a tokenizer."""
VOCABULARY_FILES = ("vocab.json", "encoder.json")
_VOCAB_JSON_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
_SHA256_OF_GPT2S = dict.fromkeys(MERGES_FILES, VOCAB_BPE_SHA256) | dict.fromkeys(VOCABULARY_FILES, _VOCAB_JSON_SHA256)
_SHA256_OF_GPT2S["tokenizer.json"] = "cfac1e16cb6f54685fd081e30599e6fe91f01651139db4cbcf644e98718fbfb4"
# The published files, and tokenizer.json as written here: known by hash, they need not be parsed and compared.


def save_tokenizer(tokenizer: ByteLevelBPE, folder: Path) -> None:
    """Write all formats into an existing folder."""
    for name, text in (
        ("merges.txt", tokenizer.merges_text()),
        ("vocab.json", json.dumps(tokenizer.vocabulary())),
        ("tokenizer.json", _fast_text(tokenizer)),
        ("tokenizer.tiktoken", tiktoken_text(tokenizer)),
    ):
        with whole_file(folder / name, "w") as handle:
            handle.write(text)
    # The GPT2Tokenizer of transformers knows no other split pattern than GPT-2's, whatever tokenizer.json says.
    settings = {
        "tokenizer_class": "GPT2Tokenizer" if tokenizer.split_pattern == SPLIT_PATTERN else "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
    }
    write_json(folder / "tokenizer_config.json", settings)


def find_tokenizer(name: str) -> ByteLevelBPE:
    """GPT-2's own tokenizer ("gpt2"), or the one at a path; see `load_tokenizer`."""
    return gpt2_tokenizer() if name == GPT2 else load_tokenizer(Path(name))


def load_tokenizer(place: Path, *, without_added: bool = False) -> ByteLevelBPE:
    """Read a tokenizer from a folder, a `tokenizer.json` or a `.tiktoken` file.

    In a folder that holds several formats they must agree. Without a tokenizer.json the split pattern is GPT-2's.
    Raises BadInput where there is none, where a file is damaged, and for tokenizers that are not of GPT-2's layout of
    ids (see `bpe`): special tokens that were added behind it, too, unless they may be left out (`without_added`).
    """
    if place.is_file():
        return read_tiktoken(place) if place.suffix == ".tiktoken" else _read_fast(place, without_added)
    merges = next((place / name for name in MERGES_FILES if (place / name).exists()), None)
    if merges is not None and _all_gpt2s(place):
        return gpt2_tokenizer()
    fast = _read_fast(place / "tokenizer.json", without_added) if (place / "tokenizer.json").exists() else None
    if merges is None:
        if fast is not None:
            return fast
        if (place / "tokenizer.tiktoken").exists():
            return read_tiktoken(place / "tokenizer.tiktoken")
        raise BadInput(f"{place}: no tokenizer here (no {', '.join(MERGES_FILES)}, tokenizer.json or .tiktoken file).")
    try:
        parsed = parse_merges(merges.read_text(encoding="utf-8"))
        tokenizer = fast if fast is not None and fast.merges == tuple(parsed) else ByteLevelBPE(parsed)
    except (BadInput, UnicodeDecodeError) as error:
        raise BadInput(f"{merges}: {error}") from error
    if fast is not None and tokenizer is not fast:
        raise BadInput(f"{place / 'tokenizer.json'}: holds other merges than {merges.name} beside it; remove one.")
    for name in VOCABULARY_FILES:
        if (place / name).exists() and read_json(place / name) != tokenizer.vocabulary():
            raise BadInput(f"{place / name}: does not have GPT-2's layout of ids for {merges.name} beside it.")
    return tokenizer


def _all_gpt2s(folder: Path) -> bool:
    """Whether all of a folder's files that tell ids are GPT-2's own, to the byte."""
    return all(_is_gpt2s(folder / name) for name in _SHA256_OF_GPT2S if (folder / name).exists())


def _is_gpt2s(file: Path) -> bool:
    return file.is_file() and sha256_of(file) == _SHA256_OF_GPT2S[file.name]


def added_tokens(folder: Path) -> list[str]:
    """The tokens beside <|endoftext|> that a folder's files add to those of its merges, as "[PAD]" for padding."""
    fast, older = folder / "tokenizer.json", folder / "added_tokens.json"
    added: list[str] = []
    try:
        if fast.exists() and not _is_gpt2s(fast):
            added += [token["content"] for token in read_json(fast).get("added_tokens") or ()]
        if older.exists():
            added += read_json(older)
    except (KeyError, TypeError, AttributeError):
        raise BadInput(f"{folder}: {fast.name} or {older.name} is not of Hugging Face tokenizers.") from None
    return [token for token in dict.fromkeys(added) if token != END_OF_TEXT]


def read_tiktoken(file: Path, split_pattern: str = SPLIT_PATTERN) -> ByteLevelBPE:
    """Read a `.tiktoken` file: which merges its tokens come from follows from their ranks."""
    tokens: list[bytes] = []
    try:
        for number, line in enumerate(file.read_bytes().splitlines()):
            encoded, told = line.split()
            if int(told) != number:
                raise BadInput(
                    f"{file}: line {number + 1:,} has rank {int(told):,}; ranks must be 0, 1, 2, ... in order."
                )
            tokens.append(base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error):
        raise BadInput(f"{file}: line {len(tokens) + 1:,} is not a token in base64 and its rank.") from None
    if tokens[:256] != [bytes([byte]) for byte, _ in byte_symbols()]:
        raise BadInput(f"{file}: its first 256 tokens are not the single bytes in GPT-2's order.")
    symbol_of = dict(byte_symbols())
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for rank, token in enumerate(tokens[256:], 256):
        parts = _merged(token, ranks, rank)
        if len(parts) != 2:
            raise BadInput(f"{file}: token {rank:,} ({token!r}) is not two earlier ones joined: no byte-level BPE.")
        merges.append(" ".join("".join(symbol_of[byte] for byte in part) for part in parts))
    return ByteLevelBPE(merges, split_pattern)


def _merged(token: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """What merges of ranks below `below` make of the bytes of a token."""
    parts = [token[n : n + 1] for n in range(len(token))]
    while len(parts) > 1:
        joined = [ranks.get(first + second, below) for first, second in pairwise(parts)]
        lowest = min(joined)
        if lowest >= below:
            break
        place = joined.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


@lru_cache(maxsize=1)
def tiktoken_text(tokenizer: ByteLevelBPE) -> str:
    """The `.tiktoken` file."""
    tokens = tokenizer.token_bytes[:-1]
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))


def _fast_text(tokenizer: ByteLevelBPE) -> str:
    # Written without tokenizers, which takes ten times as long; merges as strings, which its older versions read, too.
    whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    split = {
        "type": "Split",
        "pattern": {"Regex": tokenizer.split_pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    patterned = {"type": "Sequence", "pretokenizers": [split, whole | {"use_regex": False}]}
    special = {
        "id": tokenizer.end_of_text,
        "content": END_OF_TEXT,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": tokenizer.vocabulary(),
        "merges": tokenizer.merges,
    }
    fast = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": whole if tokenizer.split_pattern == SPLIT_PATTERN else patterned,
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model,
    }
    return json.dumps(fast)


def _read_fast(file: Path, without_added: bool = False) -> ByteLevelBPE:
    found = read_json(file)
    try:
        model = found["model"]
        special = {token["content"]: token.get("id") for token in found.get("added_tokens") or ()}
        if model["type"] != "BPE" or found.get("normalizer"):
            raise BadInput(f"{file}: not a byte-level BPE without a normalizer.")
        if special.keys() - {END_OF_TEXT} and not without_added:
            raise BadInput(
                f"{file}: has special tokens beside {END_OF_TEXT} ({_first([*special])}); there is no place for them"
                " here."
            )
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        pattern = _pattern_of(found.get("pre_tokenizer"))
        if pattern is None:
            raise BadInput(f"{file}: its pre_tokenizer is neither GPT-2's nor a split by one pattern.")
        vocabulary = dict(model["vocab"])
    except (KeyError, TypeError, AttributeError):
        raise BadInput(f"{file}: not a tokenizer.json of Hugging Face tokenizers.") from None
    try:
        check_split_pattern(pattern)
        tokenizer = ByteLevelBPE(merges, pattern)
    except (BadInput, BadOption) as error:
        raise BadInput(f"{file}: {error}") from None
    end_of_text = special.pop(END_OF_TEXT, None)
    whole = {END_OF_TEXT: len(vocabulary) if end_of_text is None else end_of_text} | vocabulary
    if whole != tokenizer.vocabulary() or tokenizer.end_of_text in special.values():
        raise BadInput(f"{file}: its ids are not GPT-2's: 256 bytes, one for each merge, {END_OF_TEXT}.")
    return tokenizer


def _first(names: Sequence[str], how_many: int = 3) -> str:
    shown = [name for name in names if name != END_OF_TEXT]
    return ", ".join(shown[:how_many]) + (", ..." if len(shown) > how_many else "")


def _pattern_of(pre_tokenizer: Any) -> str | None:
    """The split pattern that a tokenizer.json tells; None for something else."""
    if pre_tokenizer is None:
        return None
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    *splits, last = steps
    if last["type"] != "ByteLevel" or last.get("add_prefix_space", True):
        return None
    splits_itself = last.get("use_regex", True)
    if not splits and splits_itself:
        return SPLIT_PATTERN
    if len(splits) != 1 or splits_itself or splits[0]["type"] != "Split":
        return None
    # Either way the matches are the words; our patterns leave nothing between them.
    if (splits[0]["behavior"], splits[0]["invert"]) not in (("Isolated", False), ("Removed", True)):
        return None
    return str(splits[0]["pattern"]["Regex"])
