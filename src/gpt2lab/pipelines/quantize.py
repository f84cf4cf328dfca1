"""A model with smaller weights, and what that costs: how it predicts texts, beside the model that it was made of.

Both networks read the same windows of the same texts, one network after the other, so that only one is in memory. What
is kept of each: the loss of each window, the most probable token in each place, and the whole distribution in some
places spread over the text.

Names of tensors end in their shape: B windows   T tokens of one   D model width   R rows of a chunk   V vocabulary
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import write_json
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.base.progress import progress_bar
from gpt2lab.base.text_table import text_table
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.quantizing import Quantized, TensorError, WeightType, quantize_model
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import TRANSPOSED, without_padding
from gpt2lab.datasets.evaluation_sets import DataSource, FoundFile
from gpt2lab.evaluate.scoring import TOKENS_A_PACK, Pair
from gpt2lab.evaluate.statistics import Metric, perplexity, ratio
from gpt2lab.evaluate.tasks.registry import own_tasks
from gpt2lab.evaluate.tasks.stream import FAST_STRIDE
from gpt2lab.evaluate.tasks.task import Question, Task
from gpt2lab.evaluate.tasks.wikitext import WikiText2
from gpt2lab.model.gpt2 import GPT2

QUALITY = "quality.json"
_WIKITEXT2 = "wikitext2"
_MATRICES = (*TRANSPOSED, "wte.weight", "wpe.weight", "lm_head.weight")
_KEPT_NUMBERS = 1 << 25  # of the distributions that are kept of a network: 128 MB
_ROWS = 512


@dataclass(frozen=True)
class TextQuality:
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
class QuantizedWithQuality:
    """What was made, and how it predicts each text."""

    made: Quantized
    texts: tuple[TextQuality, ...]


@dataclass(frozen=True)
class _Text:
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
class _Predictions:
    """What a network says of a text's windows: the loss of each in nats, the most probable token in each place.

    And log-probabilities [places, V] in some places of each window.
    """

    nats: list[float]
    top_tokens: list[npt.NDArray[np.int64]]
    kept: list[npt.NDArray[np.float32]]


def quantize(
    source: str | Path,
    out: Path,
    weights: WeightType,
    *,
    revision: str | None = None,
    texts: Sequence[Path] = (),
    wikitext2: DataSource | None = None,
    limit: int | None = None,
    command: str = "",
) -> QuantizedWithQuality:
    """Make a model folder with smaller weights, and measure it on text files and on WikiText-2, where it is given.

    `limit` takes only the first windows of each text. quality.json in the folder holds what was found. Raises as
    `quantize_model` does, and BadInput for texts that can't be read; nothing is written then.
    """
    if limit is not None and limit < 1:
        raise BadOption(f"--limit {limit}: must be at least 1.")
    tasks = own_tasks(texts, (), ())
    if wikitext2 is not None:
        tasks |= {_WIKITEXT2: WikiText2(stride=FAST_STRIDE)}
    prepared = _read_texts(source, revision, tasks, wikitext2 or DataSource(), limit) if tasks else []
    made = quantize_model(source, out, weights, revision=revision)
    before = _predict_texts(source, revision, prepared, "before")
    after = _predict_texts(out, None, prepared, "after")
    found = QuantizedWithQuality(made, tuple(map(_compared, prepared, before, after)))
    write_json(
        out / QUALITY,
        asdict(found) | {"command": command, "versions": describe_versions(), "machine": describe_machine()},
    )
    return found


def quality_text(found: QuantizedWithQuality) -> str:
    """What it cost, in sentences and then in tables, for a terminal."""
    made = found.made
    lines = [_sentence(made.weights, text) for text in found.texts]
    if found.texts:
        head = ["text", "tokens", "perplexity", f"with {made.weights}", "change", "same top token", "divergence"]
        rows = [
            [
                text.text,
                f"{text.tokens:,}",
                f"{text.perplexity_before.value:,.4f}",
                f"{text.perplexity_after.value:,.4f}",
                _per_cent(text.change),
                f"{text.same_top_token.value:.2%}",
                f"{text.divergence.value:.2g} nats",
            ]
            for text in found.texts
        ]
        lines += ["", text_table([head, *rows]), ""]
    kinds: dict[str, list[TensorError]] = {}
    for error in made.errors:
        if error.name.endswith(_MATRICES) and error.largest:
            kinds.setdefault(_kind(error.name), []).append(error)
    errors = [
        [kind, each[0].dtype, f"{max(e.largest for e in each):.3g}", f"{max(e.relative for e in each):.3%}"]
        for kind, each in kinds.items()
    ]
    if not errors:
        return "\n".join([*lines, "No matrix changed: they were of this type before."])
    lines.append(text_table([["tensor", "type", "largest error", "RMS error of RMS"], *errors], left=(0, 1)))
    return "\n".join(lines)


def _sentence(weights: str, text: TextQuality) -> str:
    return (
        f"{text.text}: with {weights} the perplexity a token is {text.perplexity_after.value:,.2f} instead of"
        f" {text.perplexity_before.value:,.2f} ({_per_cent(text.change)}), and in {text.same_top_token.value:.1%} of"
        f" {text.tokens:,} places the same token comes first."
    )


def _per_cent(change: Metric) -> str:
    error = "" if change.standard_error is None else f" ± {change.standard_error * 100:.3f}"
    return f"{change.value * 100:+.3f}{error} %"


def _kind(name: str) -> str:
    """A tensor's name without the number of its layer."""
    return "h.*." + name.split(".", 2)[2] if name.startswith("h.") else name


def _read_texts(
    source: str | Path, revision: str | None, tasks: dict[str, Task], data: DataSource, limit: int | None
) -> list[_Text]:
    checkpoint = open_model(source, revision)
    tokenizer, texts = checkpoint.required_tokenizer(), []
    for label, task in tasks.items():
        found = task.read(data)
        questions = task.questions(found, tokenizer, checkpoint.config.context_length)[:limit]
        texts.append(_Text(label, found.files, questions))
    return texts


def _predict_texts(source: str | Path, revision: str | None, texts: Sequence[_Text], when: str) -> list[_Predictions]:
    """What a model says of each text; its network is let go at the end."""
    if not texts:
        return []
    network = network_of(without_padding(open_model(source, revision)))
    return [_predict(network, text.pairs, f"{text.label}, {when}") for text in texts]


@torch.inference_mode()
def _predict(network: GPT2, pairs: Sequence[Pair], name: str) -> _Predictions:
    """Raises BadInput for logits that are no numbers."""
    tokens = sum(len(pair.continuation) for pair in pairs)
    step = max(1, -(-tokens * network.config.vocab_size // _KEPT_NUMBERS))
    found = _Predictions([], [], [])
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


def _compared(text: _Text, before: _Predictions, after: _Predictions) -> TextQuality:
    tokens, words = text.sums("tokens"), text.sums("units")
    differences = [late - early for early, late in zip(before.nats, after.nats, strict=True)]
    same = [float((a == b).sum()) for a, b in zip(before.top_tokens, after.top_tokens, strict=True)]
    divergences = [_divergence(a, b) for a, b in zip(before.kept, after.kept, strict=True)]
    kept = [float(len(each)) for each in before.kept]
    factor = perplexity("change", differences, tokens)
    low, high = (None if bound is None else bound - 1 for bound in (factor.low, factor.high))
    return TextQuality(
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
