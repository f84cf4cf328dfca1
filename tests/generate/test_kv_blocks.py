"""Blocks: each is free, held or kept, never two of them; a prefix is found again as long as there is room."""

import random

from gpt2lab.generate.kv_blocks import KVBlocks


def filled(blocks: KVBlocks, tokens: list[int]) -> list[int]:
    """A table whose blocks hold `tokens` and can be found."""
    table, digest = blocks.find(tokens, len(tokens) // 4)
    for start in range(len(table) * 4, len(tokens), 4):
        table.append(blocks.take())
        digest = blocks.digest(digest, tokens[start : start + 4])
        blocks.name(table[-1], digest)
    return table


def test_a_prefix_is_found_again_until_room_is_needed():
    blocks = KVBlocks(6, 4)
    first, second = filled(blocks, [1] * 8), filled(blocks, [2] * 8)
    for table in (second, first):
        blocks.give_back(table)
    assert blocks.free == 6
    assert blocks.find([1] * 8, 2)[0] != []
    taken = [blocks.take() for _ in range(3)]  # two that hold nothing, then the end of the least recently used
    assert None not in taken
    assert len(blocks.find([2] * 8, 2)[0]) == 1
    assert blocks.take() is None


def test_memory_that_was_used_is_taken_again_once_enough_is_kept():
    blocks, touched = KVBlocks(100, 4, keep=3), set()
    for text in range(40):
        table = filled(blocks, [text] * 8)
        touched.update(table)
        blocks.give_back(table)
    assert len(touched) < 8
    assert len(blocks.find([39] * 8, 2)[0]) == 2
    assert blocks.find([0] * 8, 2)[0] == []
    assert blocks.free == 98
    assert None not in [blocks.take() for _ in range(98)]
    assert blocks.take() is None


def test_a_prefix_depends_on_all_tokens_before_it():
    blocks = KVBlocks(8, 4)
    filled(blocks, [1, 1, 1, 1, 5, 5, 5, 5])
    assert blocks.find([2, 2, 2, 2, 5, 5, 5, 5], 2)[0] == []
    assert len(blocks.find([1, 1, 1, 1, 5, 5, 5, 6], 2)[0]) == 1


def test_held_blocks_are_never_given_away():
    """Random takes, forks, finds and returns: the holders counted from outside are those counted inside."""
    chooser, blocks = random.Random(1), KVBlocks(20, 4)
    tables: list[list[int]] = []
    for _ in range(2000):
        action = chooser.randrange(3)
        if action == 0 and blocks.free >= 5:
            tables.append(filled(blocks, [chooser.randrange(2) for _ in range(4 * chooser.randrange(1, 6))]))
        elif action == 1 and tables:
            tables.append(blocks.share(chooser.choice(tables)))
        elif tables:
            blocks.give_back(tables.pop(chooser.randrange(len(tables))))
        held = {block for table in tables for block in table}
        assert blocks.free == 20 - len(held)
        assert all(blocks.is_shared(n) == (sum(n in table for table in tables) > 1) for n in range(20))
    for table in tables:
        blocks.give_back(table)
    assert blocks.free == 20
