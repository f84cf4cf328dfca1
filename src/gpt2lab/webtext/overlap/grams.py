"""8-grams of lower-cased alphanumeric words, as 64-bit hashes by array operations: no Python object a word."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from gpt2lab.webtext.word_hashes import LANE, Hashes, Numbers, fold, hash_runs, runs

WORDS_PER_GRAM = 8
HASH_VERSION = 2
"""Changes when the hash of a gram does: saved hashes of another version say nothing."""

BATCH_BYTES = 1 << 19  # of twice that less stays in a cache: 4 % slower
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_TO_WORDS = bytes(ord(chr(byte).lower()) * chr(byte).isalnum() for byte in range(128)) + bytes(range(128, 256))
"""ASCII lower-cased, 0 for what is in no word; other bytes as they are."""
_ALPHANUMERIC, _HAS_LOWER_CASE = 1, 2
_SEPARATOR = b"\0"


def normalise(text: str) -> str:
    """Lower-cased alphanumeric words with a single space between them (Radford et al. 2019, section 4)."""
    return _NOT_ALPHANUMERIC.sub(" ", text.lower()).strip()


def hash_grams(texts: Sequence[str]) -> tuple[Hashes, Numbers]:
    """The hashes of all 8-grams of `normalise(text)` of every text, one after the other, and how many each text has.

    Two different grams have the same hash once in about 2**64 pairs.
    """
    if not texts:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    words, words_of = _hash_words(texts)
    return fold(words, words_of, WORDS_PER_GRAM), np.maximum(words_of - (WORDS_PER_GRAM - 1), 0)


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts together, so that array operations are worth their call: about BATCH_BYTES, or one longer text."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """For every code point whether words may have it (it is alphanumeric), and whether `lower` changes it."""
    characters = np.arange(0x110000, dtype=np.uint32).view("<U1")
    lower_case = np.fromiter((char.lower() != char for char in map(chr, range(0x110000))), bool, 0x110000)
    kinds = np.zeros(characters.size, np.uint8)
    kinds[np.strings.isalnum(characters)] = _ALPHANUMERIC
    kinds[lower_case] |= _HAS_LOWER_CASE
    return kinds


def _hash_words(texts: Sequence[str]) -> tuple[Hashes, Numbers]:
    """Hashes of all words of all texts, one text after the other, and how many each text has."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    codes, capitals = _codes_of_words(encoded)
    if capitals.size:  # beyond ASCII, where lower-casing may change lengths and look at neighbours
        for place in np.unique(np.searchsorted(_ends(encoded), capitals, side="right")).tolist():
            encoded[place] = texts[place].lower().encode("utf-8", "surrogatepass")
        codes, _ = _codes_of_words(encoded)
    starts, lengths = runs(codes != 0)
    words_before = np.searchsorted(starts, _ends(encoded))
    return hash_runs(codes, starts, lengths), np.diff(words_before, prepend=0)


def _ends(encoded: Sequence[bytes]) -> Numbers:
    """Where each text ends, its separator included."""
    return np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)) + len(_SEPARATOR))


def _codes_of_words(encoded: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], Numbers]:
    """The texts' bytes with a 0 for each that is in no word, and some more; letters beyond ASCII to be lower-cased."""
    joined = bytearray(_SEPARATOR.join([*encoded, bytes(LANE)]))
    codes = np.frombuffer(joined.translate(_TO_WORDS), np.uint8)
    if all(map(bytes.isascii, encoded)):
        return codes, np.empty(0, np.int64)
    kinds = _kinds()
    capitals = []
    for start in range(0, codes.size, BATCH_BYTES):
        leads = np.flatnonzero(codes[start : start + BATCH_BYTES] >= 0xC0) + start
        first = codes[leads].astype(np.int32)
        points = (first & 0x1F) << 6 | codes[leads + 1] & 0x3F
        longer = first >= 0xE0
        at = leads[longer]
        points[longer] = ((points[longer] & 0x3FF) << 6) | (codes[at + 2] & 0x3F)
        longest = first >= 0xF0
        at = leads[longest]
        points[longest] = ((points[longest] & 0x7FFF) << 6) | (codes[at + 3] & 0x3F)
        found = kinds[points]
        capitals.append(leads[(found & _HAS_LOWER_CASE) != 0])
        outside = (found & _ALPHANUMERIC) == 0
        for place, there in enumerate((outside, outside, outside & longer, outside & longest)):
            codes[leads[there] + place] = 0
    return codes, np.concatenate(capitals)
