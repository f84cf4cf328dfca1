"""The most probable next word of a text, searched for among whole words rather than tokens."""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gpt2lab.base.errors import BadInput
from gpt2lab.model.gpt2 import GPT2, KVCache
from gpt2lab.tokens.bpe import ByteLevelBPE

LONGEST_WORD = 16  # tokens
AT_ONCE = 8
MOST_BEGINNINGS = 1024
"""A trained network needs some twenty; to one that finds all words alike the search would be endless."""
_GENERAL_PUNCTUATION = b"\xe2\x80"  # dashes, curly quotes, dots: U+2000 to U+203F


@dataclass(frozen=True)
class FoundWord:
    """A word without the space before it, and the log-probability in nats that it, and no longer one, comes next.

    `exact` says whether the search came to its end.
    """

    word: str
    log_prob: float
    exact: bool


def is_punctuation(token: bytes) -> bool:
    """Whether a token has no letter and no digit; a piece of one character counts as a letter's where it may be one."""
    bare = token.strip()
    text = bare.decode("utf-8", "ignore")
    return bare.startswith(_GENERAL_PUNCTUATION) or not bare or (text != "" and not any(map(str.isalnum, text)))


def starts_word(token: bytes) -> bool:
    """Whether a token begins a new word: a space, then no punctuation."""
    return token.startswith(b" ") and not is_punctuation(token)


def continues_word(token: bytes) -> bool:
    """Whether a token goes on with the word before it: a letter, a digit, a hyphen, or an apostrophe with letters."""
    return token == b"-" or (token != b"" and not token[:1].isspace() and not is_punctuation(token))


@lru_cache(maxsize=2)
def _token_classes(tokenizer: ByteLevelBPE) -> tuple[Tensor, Tensor]:
    """Ids of the tokens that begin a word, and of those that continue one."""
    kinds = (starts_word, continues_word)
    starts, continues = ([n for n, token in enumerate(tokenizer.token_bytes) if kind(token)] for kind in kinds)
    return torch.tensor(starts), torch.tensor(continues)


@dataclass
class _Siblings:
    """The tokens that may follow a beginning of a word, most probable first; `log_probs` are those of beginnings."""

    before: tuple[int, ...]
    tokens: Tensor
    log_probs: Tensor


@torch.inference_mode()
def most_probable_word(
    network: GPT2, tokenizer: ByteLevelBPE, context: Iterable[int], allowed: Callable[[str], bool]
) -> FoundWord | None:
    """The word with the highest probability after `context`, among those that `allowed` lets pass.

    A word is a token that begins with a space and those that continue it; its probability is that of its tokens times
    that of any token after them that does not continue it. Best-first search over beginnings, whose probability no
    word that begins so can exceed, so that the first whole word to come up is the best one: exact, but for words of
    more than 16 tokens and for the same word cut into tokens in another way, which counts as another. After 1,024
    beginnings it gives the best word so far.
    None where no word is allowed. The context loses its start where it and a word do not fit the network's.
    Raises BadInput for logits that are no numbers.
    """
    longest = min(LONGEST_WORD, network.config.context_length // 2)
    read = list(context)[-(network.config.context_length - longest) :]
    weight = network.wte.weight
    starts, continues = (ids.to(weight.device) for ids in _token_classes(tokenizer))
    cache = KVCache(network.config, 1, weight.dtype, weight.device, len(read) + longest)
    log_probs_V = _log_probs(network, network.hidden(torch.tensor([read], device=weight.device), cache)[:, -1])[0]

    order = itertools.count()  # ties are broken by age, so that heap entries are never compared further
    heap: list[tuple[float, int, tuple[_Siblings, int] | str]] = []

    def push_sibling(siblings: _Siblings, rank: int) -> None:
        if rank < len(siblings.tokens):
            heapq.heappush(heap, (-float(siblings.log_probs[rank]), next(order), (siblings, rank)))

    def push_children(before: tuple[int, ...], log_prob: float, ids: Tensor, log_probs_V: Tensor) -> None:
        sorted_, places = (log_probs_V[ids] + log_prob).sort(descending=True)
        push_sibling(_Siblings(before, ids[places], sorted_), 0)

    push_children((), 0.0, starts, log_probs_V)
    tried = 0
    while heap and tried < MOST_BEGINNINGS:
        beginnings: list[tuple[tuple[int, ...], float]] = []
        while heap and len(beginnings) < AT_ONCE:
            cost, _, entry = heap[0]
            if isinstance(entry, str):
                if not beginnings:
                    return FoundWord(entry, -cost, exact=True)
                break
            heapq.heappop(heap)
            siblings, rank = entry
            push_sibling(siblings, rank + 1)
            beginnings.append(((*siblings.before, int(siblings.tokens[rank])), -cost))
        tried += len(beginnings)
        rows = [tokens for tokens, _ in beginnings]
        width = max(map(len, rows))
        padded = torch.tensor([row + (0,) * (width - len(row)) for row in rows], device=weight.device)
        hidden_BTD = network.hidden(padded, cache.expanded(len(rows)))
        last_BD = hidden_BTD[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
        for (tokens, log_prob), log_probs_V in zip(beginnings, _log_probs(network, last_BD), strict=True):
            word = tokenizer.decode(tokens).strip()
            if word and allowed(word):
                goes_on = float(log_probs_V[continues].exp().sum())
                ended = log_prob + float(torch.log1p(torch.tensor(-min(goes_on, 1.0), dtype=torch.float64)))
                heapq.heappush(heap, (-ended, next(order), word))
            if len(tokens) < longest:
                push_children(tokens, log_prob, continues, log_probs_V)
    words = [(cost, entry) for cost, _, entry in heap if isinstance(entry, str)]
    return FoundWord(min(words)[1], -min(words)[0], exact=False) if words else None


def _log_probs(network: GPT2, hidden_BD: Tensor) -> Tensor:
    log_probs_BV = network.head(hidden_BD).float().log_softmax(-1)
    if not log_probs_BV.isfinite().all():
        raise BadInput("the model gives logits that are not numbers: its weights are broken.")
    return log_probs_BV
