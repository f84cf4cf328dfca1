"""A set of grams that is asked for many others at once: sorted hashes, and a small table that says no at once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2lab.webtext.word_hashes import Hashes, Numbers

_PLACES_A_GRAM = 16
_FEWEST_BITS, _MOST_BITS = 10, 27  # 1 KiB to 128 MiB


@dataclass(frozen=True)
class GramTable:
    """Distinct hashes in ascending order; `may_have` tells of their first bits whether some hash begins with them."""

    hashes: Hashes
    may_have: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, grams: Hashes) -> "GramTable":
        """The table of some grams in any order, some maybe more than once."""
        return cls.of_sorted(np.unique(grams))

    @classmethod
    def of_sorted(cls, hashes: Hashes) -> "GramTable":
        """The table of distinct hashes in ascending order."""
        bits = min(max((_PLACES_A_GRAM * hashes.size).bit_length(), _FEWEST_BITS), _MOST_BITS)
        may_have = np.zeros(1 << bits, bool)
        may_have[_first_bits(hashes, may_have.size)] = True
        return cls(hashes, may_have)

    def find(self, grams: Hashes) -> tuple[Numbers, Numbers]:
        """Which of `grams` are in the table, ascending, and each one's place in `hashes`."""
        if not self.hashes.size:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        maybe = np.flatnonzero(self.may_have[_first_bits(grams, self.may_have.size)])
        asked = grams[maybe]
        places = np.minimum(np.searchsorted(self.hashes, asked), self.hashes.size - 1)
        there = self.hashes[places] == asked
        return maybe[there], places[there]

    def save(self, folder: Path) -> None:
        """Write the table where other processes may map it into their memory, all the same pages."""
        np.save(folder / "hashes.npy", self.hashes)
        np.save(folder / "may_have.npy", self.may_have)

    @classmethod
    def load(cls, folder: Path) -> "GramTable":
        """Map a saved table."""
        return cls(np.load(folder / "hashes.npy", mmap_mode="r"), np.load(folder / "may_have.npy", mmap_mode="r"))


def _first_bits(hashes: Hashes, size: int) -> Numbers:
    return (hashes >> np.uint64(65 - size.bit_length())).view(np.int64)
