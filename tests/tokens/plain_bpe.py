"""BPE training as the books tell it, in plain Python: what the fast one is measured against."""

from collections import Counter
from itertools import pairwise

from gpt2lab.tokens.bpe import byte_symbols


def plain_merges(words: dict[bytes, int], merges: int, min_count: int = 2) -> list[tuple[int, int]]:
    """The pairs of ids merged, counted anew only in words that hold the merged pair."""
    id_of_byte = {byte: number for number, (byte, _) in enumerate(byte_symbols())}
    tokens = [[id_of_byte[byte] for byte in word] for word in words]
    counts = list(words.values())
    pairs: Counter[tuple[int, int]] = Counter()
    words_with: dict[tuple[int, int], set[int]] = {}

    def add(number: int, times: int) -> None:
        word = tokens[number]
        for pair in pairwise(word):
            pairs[pair] += times
            words_with.setdefault(pair, set()).add(number)

    for number, count in enumerate(counts):
        add(number, count)
    made: list[tuple[int, int]] = []
    while len(made) < merges and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < min_count:
            break
        for number in words_with.pop(best):
            add(number, -counts[number])
            tokens[number] = merged(tokens[number], best, 256 + len(made))
            add(number, counts[number])
        for pair in [pair for pair, count in pairs.items() if count == 0]:
            del pairs[pair]
        made.append(best)
    return made


def merged(word: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """A word in which a pair became one token, from left to right."""
    out: list[int] = []
    place = 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            out.append(new)
            place += 2
        else:
            out.append(word[place])
            place += 1
    return out
