"""Texts of one's own as rows of tokens: which are held out, how long the rows are, what is predicted in them.

Documents follow each other in one stream, each after an `<|endoftext|>`, as in token shards; each epoch cuts it at
other places, or a short text would be learned by its positions. A prompt's completion ends
in one; several examples share a row, none sees another, each has positions from 0, as when `generate` is asked, and
only the completions are predicted.
"""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import sha256_of
from gpt2lab.datasets.own_texts import OwnTexts
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.loader import Loader
from gpt2lab.tokens.permutation import permuted_by_epoch, random_below
from gpt2lab.tokens.sequences import IGNORED, Batch, shifted
from gpt2lab.train.recipe import Recipe

SHORTEST_SEQUENCE = 16
FEWEST_ROWS = 8
"""Training rows that a short text is cut into at least: a batch of one long row would be the same text every time."""
SHARED_ROW = 255
"""Tokens of a row that short examples share: longer ones would be slower for nothing, as none sees another."""

Ids = npt.NDArray[np.int32]
Pair = tuple[list[int], list[int]]
"""A prompt and what is predicted after it, its `<|endoftext|>` included."""


@dataclass(frozen=True)
class TextSplit:
    """Training or held-out side: rows to learn from (int32 [2 or 3, rows, sequence_length]), and the texts in them."""

    rows: npt.NDArray[np.int32]
    texts: tuple[str, ...]
    prompts: tuple[str, ...]
    stream: Ids | None = None
    """of documents: what the rows were cut from"""

    @property
    def sequences(self) -> int:
        """Rows in an epoch of training."""
        return int(self.rows.shape[1]) if self.stream is None else -(-len(self.stream) // self.rows.shape[2])

    @property
    def targets(self) -> Ids:
        """The tokens that are predicted."""
        targets: Ids = self.rows[1][self.rows[1] != IGNORED]
        return targets


@dataclass(frozen=True)
class Texts:
    """Both sides, and what had to be done to the text, a sentence each."""

    train: TextSplit
    held_out: TextSplit
    sequence_length: int
    notes: tuple[str, ...]


def prepare_texts(
    own: OwnTexts,
    tokenizer: ByteLevelBPE,
    context_length: int,
    held_out_share: float,
    sequence_length: int | None = None,
) -> Texts:
    """Encode texts and cut them into rows of `sequence_length` tokens (as fits the model and the text, unless given).

    Raises BadInput for a text that is too short, BadOption for a sequence length or share that can't be.
    """
    if not 0 < held_out_share < 1:
        raise BadOption(f"--held-out-share {held_out_share}: must be above 0 and below 1.")
    if sequence_length is not None and not SHORTEST_SEQUENCE <= sequence_length <= context_length:
        raise BadOption(
            f"--sequence-length {sequence_length}: must be at least {SHORTEST_SEQUENCE} and at most the model's context"
            f" of {context_length:,}."
        )
    notes = [f"left out: empty documents ({own.empty:,})."] if own.empty else []
    prepare = _completions if own.are_completions else _documents
    prepared = prepare(own, tokenizer, context_length, held_out_share, sequence_length)
    return Texts(prepared.train, prepared.held_out, prepared.sequence_length, (*notes, *prepared.notes))


def _documents(own: OwnTexts, tokenizer: ByteLevelBPE, context: int, share: float, asked: int | None) -> Texts:
    texts = [example.text for example in own.examples]
    encoded = tokenizer.encode_batch(texts)
    total = sum(map(len, encoded)) + len(encoded)
    chosen = _held_out_documents(texts, encoded, share)
    notes = []
    if chosen:
        train = [ids for n, ids in enumerate(encoded) if n not in chosen]
        held_out = [encoded[n] for n in sorted(chosen)]
        train_ids, held_out_ids = _stream(train, tokenizer), _stream(held_out, tokenizer)
        train_texts = [text for n, text in enumerate(texts) if n not in chosen]
        held_out_texts = [texts[n] for n in sorted(chosen)]
    else:
        longest = max(range(len(encoded)), key=lambda n: len(encoded[n]))
        cut = max(0, len(encoded[longest]) - max(1, round(share * total)))
        kept, held = encoded[longest][:cut], encoded[longest][cut:]
        others = [n for n in range(len(encoded)) if n != longest]
        train_ids = _stream([*(encoded[n] for n in others), kept], tokenizer)
        held_out_ids = np.array(held, np.int32)
        train_texts = [*(texts[n] for n in others), tokenizer.decode(kept)]
        held_out_texts = [tokenizer.decode(held)]
        notes.append(
            f"its last {len(held):,} tokens are held out."
            if len(texts) == 1
            else f"the last {len(held):,} tokens of the longest document are held out."
        )
    fits = min(context, len(held_out_ids) - 1, (len(train_ids) - 1) // FEWEST_ROWS)
    if fits < SHORTEST_SEQUENCE or (asked or 0) > min(len(held_out_ids), len(train_ids)) - 1:
        raise BadInput(
            f"{own.files[0]}: too short to train on ({total:,} tokens, {len(held_out_ids):,} of them held out;"
            f" sequences of {asked or SHORTEST_SEQUENCE:,} are wanted). Give more text or a larger --held-out-share."
        )
    length = asked or (fits if fits == context else fits // SHORTEST_SEQUENCE * SHORTEST_SEQUENCE)
    if length < context and not asked:
        notes.append(f"trained in sequences of {length:,} tokens, for the text is short (the context is {context:,}).")
    sides = ((train_ids, train_texts), (held_out_ids, held_out_texts))
    splits = [TextSplit(_cut(ids, length), tuple(side), (), ids) for ids, side in sides]
    return Texts(splits[0], splits[1], length, tuple(notes))


def _stream(documents: Sequence[list[int]], tokenizer: ByteLevelBPE) -> Ids:
    return np.array([token for ids in documents for token in (tokenizer.end_of_text, *ids)], np.int32)


def _held_out_documents(texts: Sequence[str], encoded: Sequence[list[int]], share: float) -> set[int]:
    """Documents, in the order of their hashes, that are half of `share` of all tokens at least and `share` at most.

    Equal texts are on the same side. None where no such documents are met, as with one document, or few of very
    different lengths.
    """
    wanted = share * sum(map(len, encoded))
    copies: dict[int, list[int]] = {}
    for n, text in enumerate(texts):
        copies.setdefault(_hash(text), []).append(n)
    chosen: set[int] = set()
    taken = 0
    for _, members in sorted(copies.items()):
        size = sum(len(encoded[n]) for n in members)
        if taken + size <= wanted:
            chosen.update(members)
            taken += size
    return chosen if taken >= wanted / 2 and len(chosen) < len(texts) else set()


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def _cut(ids: Ids, length: int) -> Ids:
    """Rows of a stream, each token predicted once: the last row reaches back, its repeated targets are ignored."""
    starts = np.arange(0, len(ids) - 1, length)
    whole = np.minimum(starts, len(ids) - 1 - length)
    rows = shifted(ids[whole[:, None] + np.arange(length + 1)]).astype(np.int32)
    rows[1, -1, : starts[-1] - whole[-1]] = IGNORED
    return rows


def _completions(own: OwnTexts, tokenizer: ByteLevelBPE, context: int, share: float, asked: int | None) -> Texts:
    prompts = [example.prompt or "" for example in own.examples]
    # Encoded apart, as generate encodes a prompt; an empty one begins with <|endoftext|>, as there, too.
    prompt_ids = [ids or [tokenizer.end_of_text] for ids in tokenizer.encode_batch(prompts)]
    completion_ids = tokenizer.encode_batch([example.text for example in own.examples])
    pairs = [(p, [*c, tokenizer.end_of_text]) for p, c in zip(prompt_ids, completion_ids, strict=True)]
    longest, total = (f(len(p) + len(c) for p, c in pairs) for f in (max, sum))
    length = asked or min(context, max(longest - 1, min(SHARED_ROW, total - 1)))
    fitting = [(n, pair) for n, pair in enumerate(pairs) if len(pair[1]) <= length]
    cut = sum(len(p) + len(c) > length + 1 for _, (p, c) in fitting)
    notes = []
    if left_out := len(pairs) - len(fitting):
        notes.append(f"left out: completions of more than {length:,} tokens ({left_out:,}).")
    if cut:
        notes.append(
            f"cut at the beginning: prompts of more than {length + 1:,} tokens with their completion ({cut:,})."
        )
    order = sorted(fitting, key=lambda each: (_hash(prompts[each[0]] + own.examples[each[0]].text), each[0]))
    held = {n for n, _ in order[: max(1, round(share * len(order)))]}
    # Copies of an example that is held out are, too.
    held_examples = {own.examples[n] for n in held}
    sides: list[list[int]] = [[], []]
    for n, _ in fitting:
        sides[own.examples[n] in held_examples].append(n)
    if not all(sides):
        raise BadInput(
            f"{own.files[0]}: too few examples that fit {length:,} tokens ({len(fitting):,}): some are trained on and"
            " some, different ones, held out. Give more."
        )
    splits = []
    for side in sides:
        shortened = [(pairs[n][0][-(length + 1 - len(pairs[n][1])) :], pairs[n][1]) for n in side]
        rows = _packed(shortened, length, tokenizer.end_of_text)
        splits.append(TextSplit(rows, tuple(own.examples[n].text for n in side), tuple(prompts[n] for n in side)))
    return Texts(splits[0], splits[1], length, tuple(notes))


def _packed(pairs: Sequence[Pair], length: int, end_of_text: int) -> Ids:
    """Examples in rows, each in the row where it leaves the least room: inputs, targets, where examples begin."""
    room: list[tuple[int, int]] = []  # of each row that is begun, rising: free tokens, row
    members: list[list[Pair]] = []
    for pair in pairs:
        size = len(pair[0]) + len(pair[1])
        place = bisect_left(room, (size, 0))
        if place < len(room):
            free, row = room.pop(place)
        else:
            free, row = length + 1, len(members)
            members.append([])
        members[row].append(pair)
        insort(room, (free - size, row))
    tokens = np.full((len(members), length + 1), end_of_text, np.int32)
    counted = np.zeros(tokens.shape, bool)
    documents = np.zeros(tokens.shape, np.int32)
    for row, held in enumerate(members):
        start = 0
        for prompt, completion in held:
            middle, end = start + len(prompt), start + len(prompt) + len(completion)
            tokens[row, start:end] = [*prompt, *completion]
            counted[row, middle:end] = True
            documents[row, start:end] = start
            start = end
        documents[row, start:] = start
    targets = np.where(counted[:, 1:], tokens[:, 1:], IGNORED)
    return np.stack([tokens[:, :-1], targets, documents[:, :-1]]).astype(np.int32)


class _Rows:
    """A source of batches, each row once an epoch."""

    def __init__(self, rows: Ids) -> None:
        self.rows = rows

    def places(self, numbers: npt.NDArray[np.uint64], key: bytes) -> npt.NDArray[np.int64]:
        count = self.rows.shape[1]
        return permuted_by_epoch(numbers % np.uint64(count), numbers // np.uint64(count), count, key)

    def read(self, places: npt.NDArray[np.int64]) -> Batch:
        return self.rows[:, places].astype(np.int64)


class _Stream:
    """A source of batches, each token of a stream predicted once an epoch; after its end it begins again."""

    def __init__(self, ids: Ids, length: int, seed: int) -> None:
        self.ids, self.length, self.key = ids, length, f"{seed}:cuts".encode()
        self.sequences = -(-len(ids) // length)

    def places(self, numbers: npt.NDArray[np.uint64], key: bytes) -> npt.NDArray[np.int64]:
        epochs, within = np.divmod(numbers, np.uint64(self.sequences))
        rows = permuted_by_epoch(within, epochs, self.sequences, key)
        return epochs.astype(np.int64) * self.sequences + rows

    def read(self, places: npt.NDArray[np.int64]) -> Batch:
        epochs, rows = np.divmod(places, self.sequences)
        first = random_below(epochs.astype(np.uint64), np.full(len(epochs), self.length), self.key)
        within = (rows * self.length)[:, None] + np.arange(self.length + 1)
        batch = shifted(self.ids[(first[:, None] + within) % len(self.ids)])
        batch[1][within[:, :-1] >= len(self.ids)] = IGNORED  # the last row meets tokens of the first one again
        return batch


class TextData:
    """Prepared texts as a run's data."""

    kind = "the text"

    def __init__(self, recipe: Recipe, own: OwnTexts, texts: Texts, tokenizer: ByteLevelBPE) -> None:
        self.recipe, self.own, self.texts, self.tokenizer = recipe, own, texts, tokenizer
        self.sequence_length = texts.sequence_length
        self.restart_positions = own.are_completions
        self.sequences_a_step = recipe.batch.sequences * recipe.batch.accumulation
        train = texts.train
        source = _Rows(train.rows) if train.stream is None else _Stream(train.stream, self.sequence_length, recipe.seed)
        self._loader = Loader([source], self.sequences_a_step, recipe.seed)

    def batch(self, step: int) -> Batch:
        """The rows of a step."""
        return self._loader.batch(step)

    def held_out(self) -> list[Batch]:
        """`watch.validation_sequences` rows at most, spread evenly."""
        rows = self.texts.held_out.rows
        count = min(rows.shape[1], self.recipe.watch.validation_sequences)
        places = np.arange(count) * rows.shape[1] // count
        parts = np.array_split(places, -(-count // self.recipe.batch.sequences))
        return [rows[:, part].astype(np.int64) for part in parts]

    def counts(self) -> npt.NDArray[np.int64]:
        """Of the tokens that are predicted."""
        counts: npt.NDArray[np.int64] = np.bincount(self.texts.train.targets, minlength=self.tokenizer.vocab_size)
        return counts

    def check(self) -> None:
        """Nothing is left to check: all of it was read."""

    def hashes(self) -> list[Any]:
        """The SHA-256 of both sides' rows, so of the text, the split and the tokenizer."""
        sides = (self.texts.train.rows, self.texts.held_out.rows)
        return [[hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest() for rows in sides]]

    def described(self) -> list[dict[str, Any]]:
        """The files and how much there is on either side."""
        return [
            {
                "files": {str(file): sha256_of(file) for file in self.own.files},
                "examples": len(self.own.examples),
                "train_tokens": len(self.texts.train.targets),
                "held_out_tokens": len(self.texts.held_out.targets),
                "sequence_length": self.sequence_length,
                "notes": list(self.texts.notes),
            }
        ]

    def provenance(self) -> dict[str, Any]:
        """The same."""
        return {"train_tokens_available": len(self.texts.train.targets), "tokens": self.described()}


def example_prompts(held_out: TextSplit, most: int = 3) -> list[str]:
    """Prompts for samples: those of held-out examples, or how held-out documents (or parts of the one) begin."""
    if held_out.prompts:
        return list(dict.fromkeys(held_out.prompts))[:most]
    texts = held_out.texts
    if len(texts) < most:
        longest = max(texts, key=len)
        texts = tuple(longest[len(longest) * n // most :].partition(" ")[2] for n in range(most))
    step = len(texts) // most
    starts = (" ".join(text.split()[:8])[:80] for text in texts[:: max(1, step)])
    return [start for start in dict.fromkeys(starts) if start][:most]
