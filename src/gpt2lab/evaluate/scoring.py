"""One function from (context, continuation) pairs to log-likelihoods, with exact token borders.

Sequences with a common beginning are grouped; groups are sorted by size and packed (`packing.py`), so that no padding
is computed and a common beginning once; the head is applied only where a score is needed.
"""

import math
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import progress_bar
from gpt2lab.evaluate.packing import Ids, Segment, needed_hidden
from gpt2lab.evaluate.target_scores import target_scores
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2

TOKENS_A_PACK = 2048
FEWEST_SHARED = 8
"""A common beginning shorter than this is computed again: keeping it apart costs more calls than it saves."""
_SORTED_BY = 64
CALIBRATING_PACKS = 6


@dataclass(frozen=True)
class Pair:
    """What to score: the log-likelihood of `continuation` after `context` (token ids; the context is not empty)."""

    context: Sequence[int] | npt.NDArray[np.integer]
    continuation: Sequence[int] | npt.NDArray[np.integer]


@dataclass(frozen=True)
class BannedTokens:
    """Tokens a model may not choose: bool [V] each, for the first token of a continuation and for those after it."""

    first: Tensor
    later: Tensor


@dataclass(frozen=True)
class Scores:
    """What a network says of one pair, token by token of its continuation.

    `log_probs` in nats; `best`: whether the token is the most probable one (of equals the first, as greedy decoding has
    it). The same among the tokens that are not banned, where any are (probabilities then renormalised; a banned token's
    is 0, and it is never the best). `truncated`: tokens cut off the start of the context.
    """

    log_probs: tuple[float, ...]
    best: tuple[bool, ...]
    allowed_log_probs: tuple[float, ...] | None = None
    allowed_best: tuple[bool, ...] | None = None
    truncated: int = 0

    @property
    def total(self) -> float:
        """Log-likelihood of the whole continuation in nats."""
        return math.fsum(self.log_probs)


@dataclass(frozen=True)
class _Sequence:
    """A pair as it is fed: the last `kept` tokens of its context, and its continuation but for the last token."""

    number: int
    pair: Pair
    kept: int
    beginning: Ids
    """its first inputs, by which sequences are sorted"""

    @property
    def length(self) -> int:
        """Number of inputs."""
        return self.kept + self.scored - 1

    @property
    def scored(self) -> int:
        """Number of targets; the last so many inputs predict them."""
        return len(self.pair.continuation)

    @property
    def truncated(self) -> int:
        """Tokens cut off the start of the context."""
        return len(self.pair.context) - self.kept

    def inputs(self, most: int | None = None) -> Ids:
        """The inputs, int64 [T] (made when asked for: windows over a text overlap); the first `most` of them."""
        context = self.pair.context[self.truncated :][:most]
        rest = self.pair.continuation[:-1][: None if most is None else most - len(context)]
        return np.concatenate([np.asarray(context, dtype=np.int64), np.asarray(rest, dtype=np.int64)])


@dataclass
class _Group:
    """Sequences with the same first `shared` inputs."""

    members: list[_Sequence]
    shared: int

    @property
    def tokens(self) -> int:
        """Tokens to compute."""
        return sum(member.length for member in self.members) - self.shared * (len(self.members) - 1)


@dataclass(frozen=True)
class _Pack:
    """Segments, and of each sequence the rows that its targets are read from (numbers among all needed rows)."""

    segments: list[Segment]
    sequences: list[_Sequence]
    rows_of: list[Ids]


def log_likelihoods(network: GPT2, pairs: Sequence[Pair], name: str = "score") -> list[list[float]]:
    """Log-probability in nats of each continuation token of each pair; raises as `score_as_done` does."""
    return [list(scores.log_probs) for scores in score(network, pairs, name)]


def score(
    network: GPT2, pairs: Sequence[Pair], name: str = "score", banned: BannedTokens | None = None
) -> list[Scores]:
    """The scores of each pair, in their order; raises as `score_as_done` does."""
    results: dict[int, Scores] = {}
    with progress_bar(name, total=len(pairs)) as bar:
        for number, scores in score_as_done(network, pairs, banned):
            results[number] = scores
            bar.advance()
    return [results[number] for number in range(len(pairs))]


def score_as_done(
    network: GPT2, pairs: Sequence[Pair], banned: BannedTokens | None = None, done: Container[int] = ()
) -> Iterator[tuple[int, Scores]]:
    """Number and scores of each pair that is not `done`, in the order in which they are computed.

    The others are packed with those that are done, so that they get the same bits as if none were.
    A pair longer than the network's context loses the start of its context. Raises BadInput for an empty context, a
    continuation that alone does not fit, and logits that are no numbers.
    """
    for groups in _packs(_groups(_sequences(pairs, network.config.context_length))):
        if all(member.number in done for group in groups for member in group.members):
            continue
        for number, scores in _score_pack(network, _laid_out(groups), banned):
            if number not in done:
                yield number, scores


def predict_seconds(network: GPT2, lists: Iterable[Sequence[Pair]]) -> float:
    """How long it will take to score some lists of pairs, by measuring a few packs out of all of them.

    The packs are those at equal steps of the whole work in FLOPs, so that each kind has its share.
    """
    planned: list[tuple[float, list[_Group]]] = []
    start = time.perf_counter()
    for pairs in lists:
        groups = _groups(_sequences(pairs, network.config.context_length))
        planned += [(sum(_flops(network.config, group) for group in pack), pack) for pack in _packs(groups)]
    planning = time.perf_counter() - start
    ends = np.cumsum([flops for flops, _ in planned])
    if not len(ends):
        return 0.0
    steps = (np.arange(CALIBRATING_PACKS) + 0.5) / CALIBRATING_PACKS
    chosen = [planned[place] for place in np.unique(np.searchsorted(ends, steps * ends[-1]))]
    seconds = 0.0
    for number, (_, pack) in enumerate([chosen[0], *chosen]):
        start = time.perf_counter()
        for _ in _score_pack(network, _laid_out(pack), None):
            pass
        if number:  # the first of all is slower: memory is got
            seconds += time.perf_counter() - start
    return planning + seconds * float(ends[-1]) / math.fsum(flops for flops, _ in chosen)


def _flops(config: GPT2Config, group: _Group) -> float:
    """Multiplications and additions of a group: matrices, attention over what is seen, and the head."""
    shared, width = group.shared, config.n_embd
    firsts = [member.length - member.scored for member in group.members]
    rows = shared - min(*firsts, shared)
    rows += sum(member.length - max(first, shared) for member, first in zip(group.members, firsts, strict=True))
    own = group.tokens - shared
    layers = 24 * width * width * (group.tokens * (config.n_layer - 1) + rows)
    keys_and_values = 4 * width * width * max(0, group.tokens - rows)
    seen = shared * shared / 2 + own * (shared + own)
    return layers + keys_and_values + 4 * width * seen * config.n_layer + 2 * width * config.vocab_size * rows


def _sequences(pairs: Sequence[Pair], window: int) -> list[_Sequence]:
    sequences = []
    for number, pair in enumerate(pairs):
        if not 0 < len(pair.continuation) <= window or not len(pair.context):
            raise BadInput(
                f"a continuation of {len(pair.continuation):,} tokens after a context of {len(pair.context):,} can't be"
                f" scored by a network with a context of {window:,} tokens."
            )
        kept = min(len(pair.context), window + 1 - len(pair.continuation))
        sequence = _Sequence(number, pair, kept, np.empty(0, np.int64))
        sequences.append(replace(sequence, beginning=sequence.inputs(_SORTED_BY)))
    return sequences


def _groups(sequences: list[_Sequence]) -> list[_Group]:
    """Sequences by what they have in common, largest group first: in order of tokens, neighbours have most of it."""
    groups: list[_Group] = []
    for sequence in sorted(sequences, key=lambda each: each.beginning.astype(">u4").tobytes()):
        if groups:
            group = groups[-1]
            shared = min(group.shared, _common(group.members[-1], sequence))
            saved = shared * len(group.members) - group.shared * (len(group.members) - 1)
            grown = _Group([*group.members, sequence], shared)
            if shared >= FEWEST_SHARED and saved > 0 and grown.tokens <= TOKENS_A_PACK:
                groups[-1] = grown
                continue
        groups.append(_Group([sequence], sequence.length))
    return sorted(groups, key=lambda group: (-group.tokens, group.members[0].number))


def _common(first: _Sequence, second: _Sequence) -> int:
    """How many tokens two sequences begin with alike."""
    common = _equal_tokens(first.beginning, second.beginning)
    return common if common < _SORTED_BY else _equal_tokens(first.inputs(), second.inputs())


def _equal_tokens(first: Ids, second: Ids) -> int:
    length = min(len(first), len(second))
    different = first[:length] != second[:length]
    return int(different.argmax()) if different.any() else length


def _packs(groups: list[_Group]) -> Iterator[list[_Group]]:
    """As many groups as TOKENS_A_PACK hold."""
    here: list[_Group] = []
    tokens = 0
    for group in groups:
        if here and tokens + group.tokens > TOKENS_A_PACK:
            yield here
            here, tokens = [], 0
        here.append(group)
        tokens += group.tokens
    if here:
        yield here


def _laid_out(groups: list[_Group]) -> _Pack:
    segments: list[Segment] = []
    sequences: list[_Sequence] = []
    rows_of: list[Ids] = []
    rows = 0
    for group in groups:
        shared, inputs = group.shared, [member.inputs() for member in group.members]
        # The last inputs of each sequence are needed, one for each target; some may lie in what is shared.
        firsts = [member.length - member.scored for member in group.members]
        first_shared = min(*firsts, shared)
        shared_row = rows - first_shared
        segments.append(Segment(inputs[0][:shared], np.arange(first_shared, shared), (shared,)))
        prefix = len(segments) - 1
        rows += shared - first_shared
        done, ends, needed = 0, [], []
        for sequence, first, tokens in zip(group.members, firsts, inputs, strict=True):
            own = np.arange(max(first, shared), len(tokens)) - shared
            sequences.append(sequence)
            rows_of.append(np.concatenate([shared_row + np.arange(min(first, shared), shared), rows + own - own[:1]]))
            ends.append(tokens[shared:])
            needed.append(done + own)
            rows += len(own)
            done += len(ends[-1])
        if done:
            lengths = tuple(map(len, ends))
            segments.append(Segment(np.concatenate(ends), np.concatenate(needed), lengths, shared, prefix))
    return _Pack(segments, sequences, rows_of)


@torch.inference_mode()
def _score_pack(network: GPT2, pack: _Pack, banned: BannedTokens | None) -> Iterator[tuple[int, Scores]]:
    """The scores of a pack's sequences, in its order."""
    hidden_RD = needed_hidden(network, pack.segments)
    # Rows are read in order, so the targets are put in the order of their rows.
    rows = np.concatenate(pack.rows_of)
    order = np.argsort(rows, kind="stable")
    targets = np.concatenate([np.asarray(each.pair.continuation, dtype=np.int64) for each in pack.sequences])
    firsts = np.concatenate([np.arange(each.scored) == 0 for each in pack.sequences]).astype(np.int64)
    device = hidden_RD.device
    rows_M, targets_M, firsts_M = (torch.from_numpy(each[order]).to(device) for each in (rows, targets, firsts))
    banned_KV = None if banned is None else (torch.stack([banned.later, banned.first]).to(device), firsts_M)
    read = target_scores(hidden_RD, network.head_weight, rows_M, targets_M, banned_KV)
    columns = [column.cpu().numpy()[np.argsort(order, kind="stable")] for column in read]
    if not np.isfinite(columns[0]).all():
        raise BadInput("the model gives logits that are not numbers: its weights are broken.")
    done = 0
    for sequence in pack.sequences:
        own = slice(done, done + sequence.scored)
        done = own.stop
        log_probs, best, *allowed = (tuple(column[own].tolist()) for column in columns)
        allowed_log_probs, allowed_best = allowed or (None, None)
        yield sequence.number, Scores(log_probs, best, allowed_log_probs, allowed_best, sequence.truncated)
