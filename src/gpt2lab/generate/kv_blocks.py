"""Which blocks of the KV cache are free, who shares them, and which prefix of tokens each full one holds.

A full block is known by the digest of all tokens up to its end (vLLM's automatic prefix caching does the same), so a
sequence that begins with the same tokens finds it again. Up to a number of blocks that nobody holds are kept for that,
the most recently used ones. Of those that hold nothing the last one to become free is taken first: its memory has been
touched already. A block is written by one sequence alone; one that several hold is copied before it is written, which
only ever concerns the last, partly filled one.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b


class KVBlocks:
    """Numbers of `count` blocks of `block_tokens` tokens each: free, held by sequences, or kept for those to come.

    At most `keep` are kept (None: all of them).
    """

    def __init__(self, count: int, block_tokens: int, keep: int | None = None) -> None:
        self.count = count
        self._keep = count if keep is None else keep
        self.block_tokens = block_tokens
        self.reset()

    def reset(self) -> None:
        """All blocks are free and hold nothing."""
        self._holders = [0] * self.count
        self._free = list(range(self.count - 1, -1, -1))
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._block_of: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Blocks that can be taken: those that hold nothing, and those that nobody holds but that are kept."""
        return len(self._free) + len(self._kept)

    def digest(self, before: bytes, tokens: Sequence[int]) -> bytes:
        """The digest after a block of `tokens` that follows the one with digest `before` (the first: b"")."""
        return blake2b(before + array("i", tokens).tobytes(), digest_size=16).digest()

    def find(self, tokens: Sequence[int], blocks: int) -> tuple[list[int], bytes]:
        """The longest known prefix of `tokens`, at most `blocks` of them, now held once more; and its digest."""
        size, found, digest = self.block_tokens, [], b""
        for n in range(blocks):
            after = self.digest(digest, tokens[n * size : (n + 1) * size])
            if (block := self._block_of.get(after)) is None:
                break
            if self._holders[block] == 0:
                del self._kept[block]
            self._holders[block] += 1
            found.append(block)
            digest = after
        return found, digest

    def name(self, block: int, digest: bytes) -> None:
        """A block has become full: it can be found by its digest, unless another one is already."""
        if digest not in self._block_of:
            self._block_of[digest] = block
            self._digest_of[block] = digest

    def take(self) -> int | None:
        """A block for one holder; None where all are held."""
        if not self._free and not self._kept:
            return None
        block = self._free.pop() if self._free else self._forget_one()
        self._holders[block] = 1
        return block

    def share(self, table: Sequence[int]) -> list[int]:
        """The same blocks for one holder more."""
        for block in table:
            self._holders[block] += 1
        return list(table)

    def is_shared(self, block: int) -> bool:
        """Whether more than one sequence holds it."""
        return self._holders[block] > 1

    def give_back(self, table: list[int]) -> None:
        """One holder fewer of each block, and the table is empty; a prefix is kept longer than what follows it."""
        while table:
            block = table.pop()
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._digest_of:
                self._kept[block] = None
            else:
                self._free.append(block)
        while len(self._kept) > self._keep:
            self._free.append(self._forget_one())

    def _forget_one(self) -> int:
        """The least recently used of the kept blocks, which is found no more."""
        block = self._kept.popitem(last=False)[0]
        del self._block_of[self._digest_of.pop(block)]
        return block
