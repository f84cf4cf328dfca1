"""How two models predict the same texts: a model and what was made of it, such as one with smaller weights.

Both networks read the same windows, one network after the other, so that only one is in memory. What is kept of each:
the loss of each window, the most probable token in each place, and the whole distribution in some places spread over
the text.

Names of tensors end in their shape: B windows   T tokens of one   D model width   R rows of a chunk   V vocabulary
P places
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import progress_bar
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import without_padding
from gpt2lab.datasets.evaluation_sets import DataSource, FoundFile
from gpt2lab.evaluate.scoring import TOKENS_A_PACK, Pair
from gpt2lab.evaluate.statistics import Metric, perplexity, ratio
from gpt2lab.evaluate.tasks.task import Question, Task
from gpt2lab.model.gpt2 import GPT2

_KEPT_NUMBERS = 1 << 25  # of the distributions that are kept of a network: 128 MB
_ROWS = 512


@dataclass(frozen=True)
class TextComparison:
    """How two models predict a text: perplexities a token and a word, before and after.

    `change` is that of the perplexity a token: 0.01 is one per cent more. `same_top_token` is the share of places where
    both find the same token most probable; `divergence` the Kullback-Leibler divergence of the distribution after from
    that before, in nats a token, over `divergence_tokens` places. Errors are over windows; that of `change` is paired.
    """

    text: str
    files: tuple[FoundFile, ...]
    windows: int
    tokens: int
    perplexity_before: Metric
    perplexity_after: Metric
    change: Metric
    word_perplexity_before: Metric
    word_perplexity_after: Metric
    same_top_token: Metric
    divergence: Metric
    divergence_tokens: int


@dataclass(frozen=True)
class WindowedText:
    """A text as a task's questions, each a window."""

    label: str
    files: tuple[FoundFile, ...]
    questions: Sequence[Question]

    @property
    def pairs(self) -> list[Pair]:
        """All windows, in the order of the text."""
        return [pair for question in self.questions for pair in question.pairs]

    def sums(self, fact: str) -> list[float]:
        """The tokens or units of each question."""
        return [question.facts[fact] for question in self.questions]


@dataclass(frozen=True)
class Predictions:
    """What a network says of a text's windows: the loss of each in nats, the most probable token in each place.

    And log-probabilities [places, V] in some places of each window.
    """

    nats: list[float]
    top_tokens: list[npt.NDArray[np.int64]]
    kept: list[npt.NDArray[np.float32]]


def read_texts(
    source: str | Path, revision: str | None, tasks: Mapping[str, Task], data: DataSource, limit: int | None = None
) -> list[WindowedText]:
    """The texts of tasks that score windows, cut for a model; only the first `limit` windows of each.

    Raises BadInput where a text can't be read.
    """
    checkpoint = open_model(source, revision)
    tokenizer, texts = checkpoint.required_tokenizer(), []
    for label, task in tasks.items():
        found = task.read(data)
        questions = task.questions(found, tokenizer, checkpoint.config.context_length)[:limit]
        texts.append(WindowedText(label, found.files, questions))
    return texts


def predict_texts(
    source: str | Path, revision: str | None, texts: Sequence[WindowedText], when: str
) -> list[Predictions]:
    """What a model says of each text; its network is let go at the end.

    `when` stands beside the text's name where progress is shown. Raises BadInput for logits that are no numbers.
    """
    if not texts:
        return []
    network = network_of(without_padding(open_model(source, revision)))
    return [_predict(network, text.pairs, f"{text.label}, {when}") for text in texts]


@torch.inference_mode()
def _predict(network: GPT2, pairs: Sequence[Pair], name: str) -> Predictions:
    tokens = sum(len(pair.continuation) for pair in pairs)
    step = max(1, -(-tokens * network.config.vocab_size // _KEPT_NUMBERS))
    found = Predictions([], [], [])
    place = 0
    with progress_bar(name, tokens, "tokens") as bar:
        for batch in _batches(pairs):
            inputs = [np.concatenate([pair.context, pair.continuation[:-1]]).astype(np.int64) for pair in batch]
            hidden_BTD = network.hidden(torch.from_numpy(np.stack(inputs)))
            for pair, hidden_TD in zip(batch, hidden_BTD, strict=True):
                targets = torch.from_numpy(np.asarray(pair.continuation, np.int64))
                scored_TD = hidden_TD[-len(targets) :]
                nats, tops, kept = 0.0, [], []
                for start in range(0, len(targets), _ROWS):
                    log_probs_RV = network.head(scored_TD[start : start + _ROWS]).float().log_softmax(-1)
                    target_R = targets[start : start + _ROWS]
                    nats -= float(log_probs_RV.gather(1, target_R[:, None]).sum(dtype=torch.float64))
                    tops.append(log_probs_RV.argmax(-1).numpy())
                    kept.append(log_probs_RV[-place % step :: step].numpy().copy())
                    place += len(target_R)
                if not np.isfinite(nats):
                    raise BadInput("the model gives logits that are not numbers: its weights are broken.")
                found.nats.append(nats)
                found.top_tokens.append(np.concatenate(tops))
                found.kept.append(np.concatenate(kept))
                bar.advance(len(targets))
    return found


def _batches(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Neighbouring windows of one length, as many as TOKENS_A_PACK hold."""
    batch: list[Pair] = []
    length = 0
    for pair in pairs:
        here = len(pair.context) + len(pair.continuation) - 1
        if batch and (here != length or (len(batch) + 1) * here > TOKENS_A_PACK):
            yield batch
            batch = []
        batch.append(pair)
        length = here
    if batch:
        yield batch


def compared(text: WindowedText, before: Predictions, after: Predictions) -> TextComparison:
    """What two models' predictions of one text say beside each other."""
    tokens, words = text.sums("tokens"), text.sums("units")
    differences = [late - early for early, late in zip(before.nats, after.nats, strict=True)]
    same = [float((a == b).sum()) for a, b in zip(before.top_tokens, after.top_tokens, strict=True)]
    divergences = [_divergence(a, b) for a, b in zip(before.kept, after.kept, strict=True)]
    kept = [float(len(each)) for each in before.kept]
    factor = perplexity("change", differences, tokens)
    low, high = (None if bound is None else bound - 1 for bound in (factor.low, factor.high))
    return TextComparison(
        text=text.label,
        files=text.files,
        windows=len(tokens),
        tokens=int(sum(tokens)),
        perplexity_before=perplexity("token_perplexity", before.nats, tokens),
        perplexity_after=perplexity("token_perplexity", after.nats, tokens),
        change=replace(factor, value=factor.value - 1, low=low, high=high),
        word_perplexity_before=perplexity("word_perplexity", before.nats, words),
        word_perplexity_after=perplexity("word_perplexity", after.nats, words),
        same_top_token=ratio("same_top_token", same, tokens),
        divergence=ratio("divergence", divergences, kept),
        divergence_tokens=int(sum(kept)),
    )


def _divergence(before_PV: npt.NDArray[np.float32], after_PV: npt.NDArray[np.float32]) -> float:
    """The sum over P places of the Kullback-Leibler divergence of the distribution after from that before, in nats."""
    return float((np.exp(before_PV) * (before_PV - after_PV)).sum(dtype=np.float64))
