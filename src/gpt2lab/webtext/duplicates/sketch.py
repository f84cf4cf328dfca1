"""What de-duplication keeps of a text beside it: a hash of its words, and band hashes for near duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from gpt2lab.webtext.duplicates.shingles import shingles
from gpt2lab.webtext.word_hashes import Hashes, Numbers, mix

PERMUTATIONS = 128  # at most: some are left over, and not made, when they fill no band
SEED = 1
RECALL = 0.995  # of pairs exactly at the threshold; more above it


@dataclass(frozen=True)
class Sketches:
    """Two columns of a table of texts, a value a text."""

    text_hashes: list[bytes]
    """xxh3-128 of the words with single spaces between: 16 bytes"""
    bands: list[bytes] | None
    """the band hashes, 8 bytes each: two texts that agree in one of them may be near duplicates"""


def sketch(texts: Sequence[str], threshold: float | None) -> Sketches:
    """Sketches of `texts` for near duplicates from a Jaccard similarity of `threshold` on (None: for exact ones only).

    MinHash-LSH over the sets of word 5-grams (Broder 1997; Leskovec et al., Mining of Massive Datasets, section 3.4).
    The same on every machine, whatever texts come together.
    """
    text_hashes: list[bytes] = []
    bands: list[bytes] = []
    for some in shingles(texts):
        text_hashes += some.text_hashes
        if threshold is not None:
            rows, count = band_shape(threshold)
            hashes = band_hashes(min_hashes(some.grams, some.offsets, rows * count), rows)
            bands += [hashes[n].tobytes() for n in range(len(hashes))]
    return Sketches(text_hashes, None if threshold is None else bands)


def band_shape(threshold: float) -> tuple[int, int]:
    """(rows in a band, bands): the longest bands, and of those the fewest, that find RECALL of pairs at `threshold`."""
    for rows in range(PERMUTATIONS, 0, -1):
        for bands in range(1, PERMUTATIONS // rows + 1):
            if band_recall(threshold, rows, bands) >= RECALL:
                return rows, bands
    return 1, PERMUTATIONS


def band_recall(similarity: float, rows: int, bands: int) -> float:
    """The chance that two sets of this Jaccard similarity agree in all rows of at least one band."""
    return float(1 - (1 - similarity**rows) ** bands)


def min_hashes(grams: Hashes, offsets: Numbers, permutations: int) -> npt.NDArray[np.uint32]:
    """MinHash digests, a row of `permutations` for each set grams[offsets[n]:offsets[n + 1]]; repeats do no harm."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams, offsets.astype(np.uint64), permutations, SEED)
    return np.array(matrix.to_rows(), np.uint32).reshape(-1, permutations)


def band_hashes(digests: npt.NDArray[np.uint32], rows: int) -> Hashes:
    """One hash for each band of `rows` digests; shape (texts, bands), little-endian."""
    banded = digests.reshape(len(digests), -1, rows).astype(np.uint64)
    hashes = np.tile(np.arange(banded.shape[1], dtype=np.uint64), (len(banded), 1))  # no two bands are alike
    for row in range(rows):
        mix(hashes, banded[:, :, row])
    return hashes.astype("<u8")
