"""The paper's direction: the training documents' 8-grams in a Bloom filter, which test sets are asked of later.

A kept filter answers for documents that are not at hand; it takes 38 bits a gram (WebText: some 30 GB) where the other
direction takes 8 bytes a gram of the test sets only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from rbloom import Bloom

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json, whole_file, write_json
from gpt2lab.base.progress import progress_bar
from gpt2lab.webtext.overlap.grams import HASH_VERSION, WORDS_PER_GRAM, batches, hash_grams
from gpt2lab.webtext.word_hashes import Hashes

FALSE_POSITIVES = 1e-8
BITS_A_GRAM = 38.4
"""ln(1 / FALSE_POSITIVES) / ln(2)**2."""
RANDOM_STRINGS = 1_000_000
_RANDOM_SEED = 8


@dataclass(frozen=True)
class GramFilter:
    """A Bloom filter of grams, and what went into it: texts, grams (every occurrence), bytes of text."""

    bloom: Bloom
    texts: int
    grams: int
    text_bytes: int

    @property
    def size_bytes(self) -> int:
        """Memory of the filter."""
        return int(self.bloom.size_in_bits) // 8

    def holds(self, grams: Hashes) -> npt.NDArray[np.bool_]:
        """Which grams are in it."""
        return np.fromiter(map(self.bloom.__contains__, grams.tolist()), bool, grams.size)

    def random_hits(self) -> int:
        """How many of 1,000,000 random strings of eight words it takes for its own; the paper found none."""
        words = np.random.default_rng(_RANDOM_SEED).integers(ord("a"), ord("z") + 1, (RANDOM_STRINGS + 7, 6), np.uint8)
        words[:, -1] = ord(" ")
        return int(self.holds(hash_grams([words.tobytes().decode()])[0]).sum())


def fill_filter(read_texts: Callable[[], Iterable[str]]) -> GramFilter:
    """A filter of all grams of the texts, which are read twice: first counted, so that it is as large as it has to be.

    Every occurrence is counted, so false positives stay below FALSE_POSITIVES. Raises BadOption when it would not fit.
    """
    texts = grams = text_bytes = 0
    with progress_bar("count", None, "MB") as bar:
        for batch in batches(read_texts()):
            texts, grams = texts + len(batch), grams + hash_grams(batch)[0].size
            size = sum(len(text.encode("utf-8", "surrogatepass")) for text in batch)
            text_bytes += size
            bar.advance(size / 1e6)
    needed, free = grams * BITS_A_GRAM / 8, psutil.virtual_memory().available
    if needed > free:
        raise BadOption(
            f"--bloom: a filter of {grams:,} grams takes {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are"
            " free; leave out --bloom: the other direction keeps only the test sets' grams."
        )
    bloom = Bloom(max(grams, 1), FALSE_POSITIVES, hash_func=int)  # they are hashes already
    with progress_bar("filter", grams, "grams") as bar:
        for batch in batches(read_texts()):
            hashes = hash_grams(batch)[0]
            bloom.update(hashes.tolist())
            bar.advance(hashes.size)
    return GramFilter(bloom, texts, grams, text_bytes)


def save_filter(kept: GramFilter, path: Path) -> None:
    """Write the filter, and what it is beside it in `path`.json."""
    with whole_file(path) as handle:
        handle.write(kept.bloom.save_bytes())
    facts = {
        "hash_version": HASH_VERSION,
        "words_per_gram": WORDS_PER_GRAM,
        "bytes": path.stat().st_size,
        "texts": kept.texts,
        "grams": kept.grams,
        "text_bytes": kept.text_bytes,
    }
    write_json(path.with_name(f"{path.name}.json"), facts)


def load_filter(path: Path) -> GramFilter:
    """Read a filter that `save_filter` wrote. Raises BadInput when it is another file, cut short, or of other grams."""
    about = path.with_name(f"{path.name}.json")
    for file in (path, about):
        if not file.is_file():
            raise BadInput(f"{file}: no such file; make a filter with gpt2lab overlap --save-filter {path}.")
    facts = read_json(about)
    wanted = {"hash_version": HASH_VERSION, "words_per_gram": WORDS_PER_GRAM, "bytes": path.stat().st_size}
    for name, value in wanted.items():
        if not isinstance(facts, dict) or facts.get(name) != value:
            raise BadInput(f"{path}: its {name} is not {value:,} as {about.name} has to say; make the filter again.")
    bloom = Bloom.load(path, int)
    return GramFilter(bloom, facts["texts"], facts["grams"], facts["text_bytes"])
