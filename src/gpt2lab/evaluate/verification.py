"""Is this the model it is said to be? What it says against what the real one is recorded to have said.

Everything is measured in nats, the unit of logits, and only what softmax can see: a shift of all logits is taken off.
From recorded logits a difference is that of two logits. Recorded probabilities were rounded to 5 decimals, so a
difference is the distance of our log-probability from the interval that rounds to the record: 0.00004 says only
"between 0.000035 and 0.000045". A recorded rank that is not ours counts by the distance between the logits at the two
ranks: deep in the vocabulary a thousandth of a nat may hold several tokens.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import progress_bar
from gpt2lab.checkpoints.formats.q8_0 import BLOCK
from gpt2lab.evaluate.oracles import OracleKind, RecordedLogits, RecordedRanks, find_oracles, read_logits, read_ranks
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.model.gpt2 import GPT2

Grade = Literal["the same model", "the same model in lower precision", "close, but not the same", "another model"]
GRADES: tuple[Grade, ...] = get_args(Grade)
VERIFIED = GRADES[:2]
"""The grades of a model whose every difference is explained."""

Precision = Literal["float32", "float16", "bfloat16", "q8_0"]

SAME_NATS = 1e-3
"""The largest difference that float32 arithmetic explains, see `verify_model`."""
LOWER_PRECISION_NATS: dict[Precision, float] = {"float16": 1e-4, "bfloat16": 3e-3, "q8_0": 1e-2}
"""The mean KL divergence that weights in lower precision explain, see `verify_model`."""
ANOTHER_NATS = max(LOWER_PRECISION_NATS.values())

PROMPTS_A_BATCH = 8
_POSITIONS_AT_A_TIME = 64  # of a text: their logits are 26 MB in float64
_ROUNDING = 0.5e-5
_SHOWN_TOP = 10
_MEASURABLE = 0.01  # probabilities from here on were recorded to 0.05% or better


@dataclass(frozen=True)
class PromptDifference:
    """One prompt's logits against the recorded ones, in nats.

    `largest` and `mean` are of the absolute differences as they are; `largest_unshifted` is what is left of the largest
    without `shift`, the mean difference, which changes no probability. `kl` is that of our softmax from the recorded.
    """

    prompt: str
    tokens: int
    largest: float
    mean: float
    shift: float
    largest_unshifted: float
    kl: float
    same_best: bool
    shared_top_10: int
    rank_correlation: float


@dataclass(frozen=True)
class TextDifference:
    """One text's ranks and probabilities against the recorded ones.

    `tokens` were compared, `left_out` lie beyond the model's context. Of the tokens, `same_rank` is the share with the
    recorded rank, `largest_rank_gap` the most nats between the logits at the two ranks. Of the recorded probabilities
    (each token's own and the likeliest ones), `explained` is the share within rounding and SAME_NATS of ours,
    `median_difference` that of the log-probabilities where the record is at least 0.01 (None if nowhere), and
    `largest_difference` the largest beyond the record's rounding. `kl` is the mean divergence of our softmax from the
    recorded, all tokens that were not recorded taken as one. `shared_top_10` is the mean share of the ten likeliest.
    """

    text: str
    tokens: int
    left_out: int
    same_rank: float
    largest_rank_gap: float
    explained: float
    median_difference: float | None
    largest_difference: float
    kl: float
    shared_top_10: float


@dataclass(frozen=True)
class FileVerification:
    """One recorded file: `largest` is the largest difference in nats, `kl` the mean divergence.

    `left_out` counts prompts longer than the model's context. `exact_gelu` says that the figures are those of the model
    with the exact GELU in place of its tanh approximation (see `verify_model`).
    """

    file: str
    kind: OracleKind
    grade: Grade
    verified: bool
    reason: str
    largest: float
    kl: float
    exact_gelu: bool
    prompts: tuple[PromptDifference, ...]
    texts: tuple[TextDifference, ...]
    left_out: int


@dataclass(frozen=True)
class Verification:
    """The verdict over all recorded files: the worst of theirs. `precision` is that of the model's weights."""

    oracle: str
    grade: Grade
    verified: bool
    reason: str
    precision: Precision
    files: tuple[FileVerification, ...]


def verify_model(model: LanguageModel, oracle: Path) -> Verification:
    """Compare a model with the recorded logits or ranks in a file, or in all such files of a folder (see `oracles`).

    The recorded token ids are fed as they are, from position 0, with no sliding window: of a text, what lies beyond the
    model's context is left out, and so is a prompt that is longer than it.

    The grades, and what they rest on. The real weights could not be had where this was written, so the figures are
    those of random networks of the 117M's shape whose matrices and logits have about the size of the real ones (rms of
    c_attn 0.17, standard deviation of the logits 3.9), on 128 contexts, against float64:

        what is different            largest, nats   mean KL, nats
        float32 arithmetic                2e-5           5e-12
        exact GELU instead of tanh        4e-3           2e-7
        layer_norm_epsilon 1e-6           3e-3           1e-7
        float16 weights                   2e-2           5e-6
        bfloat16 weights                  1e-1           3e-4
        q8_0 weights                      4e-1           2e-3
        positions off by one              6e-1           5e-3
        layers 5 and 6 exchanged          4e+0           4e-1

    "the same model": no difference above SAME_NATS, 1e-3. The real model's logits are near -100, where a float32 is
    8e-6 wide, and its residual stream holds values in the thousands, so more than 2e-5 is to be expected.
    "the same model in lower precision": the weights are numbers of a lower precision, and the mean KL divergence is no
    more than LOWER_PRECISION_NATS: about ten times the table's for float16 and bfloat16, five times for q8_0.
    "close, but not the same": a divergence up to ANOTHER_NATS, 1e-2, that the weights' precision does not explain. Its
    size alone can't tell a small fault from a record that was itself made in lower precision.
    "another model": anything else. The first two are verified.

    Which GELU: the 117M's recorded logits that we know (poloclub/transformer-explainer) come from a float32 ONNX export
    of a network with the exact GELU, where GPT-2 has the tanh approximation. So a model with the tanh is compared
    under both where it doesn't fit such a file at once, and is the same if it fits under either. (That their file was
    made in float32 follows from the size of the model they serve, 630 MB; that it was made with that export, from
    their code; neither could be tried.) GLTR's demo ranks were recorded with Hugging Face's GPT-2, which has the tanh.
    A model that fits only when its own activation is replaced is otherwise not the same: its config is wrong.

    Raises BadInput for files of neither format, broken ones, those of another tokenizer, and a model whose logits are
    no numbers.
    """
    oracles = find_oracles(oracle)
    precision = weight_precision(model.network)
    files = []
    with progress_bar("verify", total=len(oracles), unit="files") as bar:
        for file, kind in oracles.items():
            files.append(_verify_file(model, file, kind, precision))
            bar.advance()
    # Of several files with the worst grade, the reason is that of the one that differs most.
    worst = max(files, key=lambda found: (GRADES.index(found.grade), found.largest))
    return Verification(str(oracle), worst.grade, worst.verified, worst.reason, precision, tuple(files))


def verification_text(found: Verification) -> str:
    """The figures and the verdict, to be read in a terminal."""
    lines = []
    if prompts := [prompt for file in found.files for prompt in file.prompts]:
        lines += [
            f"Logits after {_counted(len(prompts), 'prompt')}; differences in nats (centred: less their mean)",
            f"{'largest':>9}{'centred':>9}{'mean':>9}{'KL':>9}{'best':>7}{'top 10':>8}{'rank corr.':>12}  prompt",
        ]
        lines += [
            f"{_nats(prompt.largest):>9}{_nats(prompt.largest_unshifted):>9}{_nats(prompt.mean):>9}{_nats(prompt.kl):>9}"
            f"{'same' if prompt.same_best else 'other':>7}{prompt.shared_top_10:>8}{prompt.rank_correlation:12.6f}"
            f"  {_shortened(prompt.prompt, 34)}"
            for prompt in prompts
        ]
    if texts := [(Path(file.file).name, text) for file in found.files for text in file.texts]:
        tokens = sum(text.tokens for _, text in texts)
        lines += [
            *([""] if lines else []),
            f"Ranks and probabilities of {tokens:,} tokens in {_counted(len(texts), 'text')}; differences in nats",
            f"{'tokens':>7}{'same rank':>11}{'gap':>9}{'explained':>11}{'median':>9}{'largest':>9}{'KL':>9}"
            f"{'top 10':>8}  file",
        ]
        lines += [
            f"{text.tokens:7,}{text.same_rank:11.2%}{_nats(text.largest_rank_gap):>9}{text.explained:11.2%}"
            f"{'-' if text.median_difference is None else _nats(text.median_difference):>9}"
            f"{_nats(text.largest_difference):>9}{_nats(text.kl):>9}{10 * text.shared_top_10:8.2f}"
            f"  {_shortened(name, 25)}"
            for name, text in texts
        ]
        if left_out := sum(text.left_out for _, text in texts):
            lines.append(f"{_counted(left_out, 'token')} beyond the model's context left out.")
    if left_out := sum(file.left_out for file in found.files):
        lines.append(f"{_counted(left_out, 'prompt')} longer than the model's context left out.")
    lines.append("")
    if len({file.grade for file in found.files}) > 1:
        lines += [
            line for file in found.files for line in _wrapped(f"{Path(file.file).name}: {file.grade}. {file.reason}")
        ]
    lines += _wrapped(f"{'Verified' if found.verified else 'Not verified'}: {found.grade}. {found.reason}")
    return "\n".join(lines)


def weight_precision(network: GPT2) -> Precision:
    """The lowest precision that holds all matrices of the layers exactly: what they once were stored in."""
    matrices = [parameter.detach() for parameter in network.h.parameters() if parameter.ndim == 2]
    if all(_unchanged(weight, torch.bfloat16) for weight in matrices):
        return "bfloat16"
    if all(_unchanged(weight, torch.float16) for weight in matrices):
        return "float16"
    return "q8_0" if all(map(_from_q8, matrices)) else "float32"


def _unchanged(weight: Tensor, dtype: torch.dtype) -> bool:
    return torch.equal(weight.to(dtype).to(weight.dtype), weight)


def _from_q8(weight: Tensor) -> bool:
    """Whether each 32 numbers in a row are whole multiples, up to 127, of a common step."""
    if weight.shape[1] % BLOCK:
        return False
    blocks = weight.reshape(-1, BLOCK)
    # The step is the largest over 127, rounded to float16, so that the largest is 127 steps.
    in_steps = blocks * (127 / blocks.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny))
    return bool((in_steps - in_steps.round()).abs().max() < 1e-3)


def _verify_file(model: LanguageModel, file: Path, kind: OracleKind, precision: Precision) -> FileVerification:
    found = _graded(model, file, kind, precision)
    if found.grade == "the same model" or found.kl > ANOTHER_NATS:
        return found
    other = _graded(_with_other_gelu(model), file, kind, precision)
    if other.grade != "the same model":
        return found
    if kind == "logits" and model.network.config.activation_function == "gelu_new":
        return replace(
            other, exact_gelu=True, reason=f"With the exact GELU, which the record was made with: {other.reason}"
        )
    wrong, right = model.network.config.activation_function, _OTHER_GELU[model.network.config.activation_function]
    return replace(
        found,
        grade="close, but not the same",
        verified=False,
        reason=f"Its weights are the recorded model's, but its activation_function should be {right}, not {wrong}.",
    )


_OTHER_GELU: dict[str, Literal["gelu", "gelu_new"]] = {"gelu_new": "gelu", "gelu": "gelu_new"}


def _with_other_gelu(model: LanguageModel) -> LanguageModel:
    """The same weights, not copied, under the other activation."""
    config = model.network.config
    with torch.device("meta"):
        network = GPT2(replace(config, activation_function=_OTHER_GELU[config.activation_function]))
    network.load_state_dict(model.network.state_dict(), assign=True)
    return LanguageModel(network, model.tokenizer)


def _graded(model: LanguageModel, file: Path, kind: OracleKind, precision: Precision) -> FileVerification:
    prompts: tuple[PromptDifference, ...] = ()
    texts: tuple[TextDifference, ...] = ()
    left_out = 0
    if kind == "logits":
        prompts, left_out = _compare_prompts(model, file)
        largest = max(prompt.largest_unshifted for prompt in prompts)
        kl = float(np.mean([prompt.kl for prompt in prompts]))
    else:
        texts = (_compare_text(model, read_ranks(file, model.tokenizer)),)
        largest = max(texts[0].largest_difference, texts[0].largest_rank_gap)
        kl = texts[0].kl
    grade, reason = _grade(largest, kl, precision)
    verified = grade in VERIFIED
    return FileVerification(str(file), kind, grade, verified, reason, largest, kl, False, prompts, texts, left_out)


def _grade(largest: float, kl: float, precision: Precision) -> tuple[Grade, str]:
    """The grade, and the sentence that says why."""
    if largest <= SAME_NATS:
        return "the same model", (
            f"The largest difference, beyond the record's own rounding, is {_nats(largest)} nats; float32 arithmetic"
            f" explains up to {SAME_NATS:g}."
        )
    measured = f"It differs by up to {_nats(largest)} nats, a mean KL divergence of {_nats(kl)}"
    if kl > ANOTHER_NATS:
        return "another model", f"{measured}; even q8_0 weights make no more than {ANOTHER_NATS:g}."
    if precision == "float32":
        return "close, but not the same", (
            f"{measured}, and its weights are full float32 numbers: the record was made in lower precision, or the"
            " model has a small fault (positions, epsilon, a few weights) or was trained a little further."
        )
    limit = LOWER_PRECISION_NATS[precision]
    if kl > limit:
        return "close, but not the same", f"{measured}, more than its {precision} weights explain ({limit:g})."
    return "the same model in lower precision", f"{measured}, which its {precision} weights explain (up to {limit:g})."


def _compare_prompts(model: LanguageModel, file: Path) -> tuple[tuple[PromptDifference, ...], int]:
    """The prompts of a file that fit the context, and how many do not."""
    context_length = model.network.config.context_length
    prompts: list[PromptDifference] = []
    left_out = 0
    for records in _batches(read_logits(file, model.tokenizer), PROMPTS_A_BATCH):
        fitting = [record for record in records if len(record.token_ids) <= context_length]
        left_out += len(records) - len(fitting)
        if fitting:
            prompts += map(_compare_prompt, fitting, _last_logits(model, fitting))
    if not prompts:
        raise BadInput(f"{file}: no prompt in it fits the model's context of {context_length:,} tokens.")
    return tuple(prompts), left_out


def _batches(records: Iterable[RecordedLogits], size: int) -> Iterator[list[RecordedLogits]]:
    records = iter(records)
    while batch := list(islice(records, size)):
        yield batch


@torch.inference_mode()
def _last_logits(model: LanguageModel, records: list[RecordedLogits]) -> np.ndarray:
    """The logits after each prompt, float64 [B, V]. Padding stands at the end, where causal attention can't see it."""
    network = model.network
    longest = max(len(record.token_ids) for record in records)
    rows = [record.token_ids + [0] * (longest - len(record.token_ids)) for record in records]
    hidden_BTD = network.hidden(torch.tensor(rows, device=network.wte.weight.device))
    last_B = torch.tensor([len(record.token_ids) - 1 for record in records], device=hidden_BTD.device)
    hidden_BD = hidden_BTD[torch.arange(len(records), device=hidden_BTD.device), last_B]
    return _logits(model, hidden_BD).numpy()


def _logits(model: LanguageModel, hidden_ND: Tensor) -> Tensor:
    """Logits of the tokenizer's ids, float64 [N, V]; a vocabulary padded beyond them has logits of no token."""
    logits_NV = model.network.head(hidden_ND)[:, : model.tokenizer.vocab_size].double().cpu()
    if not logits_NV.sum().isfinite():
        raise BadInput("the model gives logits that are not numbers: its weights are broken.")
    return logits_NV


def _compare_prompt(record: RecordedLogits, ours_V: np.ndarray) -> PromptDifference:
    difference_V = ours_V - record.logits
    shift = float(difference_V.mean())
    recorded_log_V, our_log_V = _log_softmax(record.logits), _log_softmax(ours_V)
    recorded_order, our_order = (np.argsort(-logits_V, kind="stable") for logits_V in (record.logits, ours_V))
    size = len(ours_V)
    recorded_rank, our_rank = np.empty(size), np.empty(size)
    recorded_rank[recorded_order] = our_rank[our_order] = np.arange(size)
    squares = float(((recorded_rank - our_rank) ** 2).sum())
    return PromptDifference(
        record.prompt,
        len(record.token_ids),
        float(np.abs(difference_V).max()),
        float(np.abs(difference_V).mean()),
        shift,
        float(np.abs(difference_V - shift).max()),
        max(0.0, float((np.exp(recorded_log_V) * (recorded_log_V - our_log_V)).sum())),
        bool(recorded_order[0] == our_order[0]),
        len(set(recorded_order[:_SHOWN_TOP].tolist()) & set(our_order[:_SHOWN_TOP].tolist())),
        1.0 - 6.0 * squares / (size * (size**2 - 1)),  # Spearman's, ties in the order of ids
    )


def _log_softmax(logits_V: np.ndarray) -> np.ndarray:
    shifted: np.ndarray = logits_V - logits_V.max()
    return shifted - math.log(np.exp(shifted).sum())


@torch.inference_mode()
def _compare_text(model: LanguageModel, record: RecordedRanks) -> TextDifference:
    context_length = model.network.config.context_length
    fed = record.token_ids[:-1][:context_length]
    count = len(fed)
    hidden_ND = model.network.hidden(torch.tensor([fed], device=model.network.wte.weight.device))[0]
    targets_N = torch.tensor(record.token_ids[1 : count + 1])
    ranks_N = torch.from_numpy(record.ranks[:count])
    top_ids_NK = torch.from_numpy(record.top_ids[:count])
    shown = min(_SHOWN_TOP, top_ids_NK.shape[1])
    our_log_N, our_log_NK = torch.empty(count, dtype=torch.float64), torch.empty(top_ids_NK.shape, dtype=torch.float64)
    gaps_N, shared = torch.zeros(count, dtype=torch.float64), 0
    same_rank = 0
    for start in range(0, count, _POSITIONS_AT_A_TIME):
        part = slice(start, min(start + _POSITIONS_AT_A_TIME, count))
        logits_NV = _logits(model, hidden_ND[part])
        normalizer_N1 = logits_NV.logsumexp(1, keepdim=True)
        target_N1 = logits_NV.gather(1, targets_N[part, None])
        our_log_N[part] = (target_N1 - normalizer_N1)[:, 0]
        our_log_NK[part] = logits_NV.gather(1, top_ids_NK[part]) - normalizer_N1
        our_ranks_N = (logits_NV > target_N1).sum(1)
        for row in (our_ranks_N != ranks_N[part]).nonzero()[:, 0].tolist():
            at_rank = logits_NV[row].kthvalue(logits_NV.shape[1] - int(ranks_N[start + row])).values
            gaps_N[start + row] = (at_rank - target_N1[row, 0]).abs()
        same_rank += int((our_ranks_N == ranks_N[part]).sum())
        our_top_NK = logits_NV.topk(shown).indices
        shared += int((our_top_NK[:, :, None] == top_ids_NK[part, None, :shown]).sum())
    recorded_N, recorded_NK = record.probabilities[:count], record.top_probabilities[:count]
    recorded = np.concatenate([recorded_N, recorded_NK.ravel()])
    ours = np.concatenate([our_log_N.numpy(), our_log_NK.numpy().ravel()])
    beyond = _beyond_rounding(recorded, ours)
    measurable = recorded >= _MEASURABLE
    return TextDifference(
        record.text,
        count,
        len(record.token_ids) - 1 - count,
        same_rank / count,
        float(gaps_N.max()),
        float((beyond <= SAME_NATS).mean()),
        float(np.median(np.abs(np.log(recorded[measurable]) - ours[measurable]))) if measurable.any() else None,
        float(beyond.max()),
        _divergence(recorded_NK, our_log_NK.numpy()),
        shared / (count * shown) if shown else 1.0,
    )


def _beyond_rounding(recorded: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """How far our log-probabilities lie outside of what rounds to the recorded probabilities, in nats; 0 inside."""
    with np.errstate(divide="ignore"):
        lowest = np.log(np.maximum(recorded - _ROUNDING, 0.0))
    highest = np.log(recorded + _ROUNDING)
    outside: np.ndarray = np.maximum(np.maximum(lowest - ours, ours - highest), 0.0)
    return outside


def _divergence(recorded_NK: np.ndarray, our_log_NK: np.ndarray) -> float:
    """Mean KL divergence in nats, all tokens but the K recorded ones taken as one."""
    rest_N = np.maximum(1.0 - recorded_NK.sum(1), _ROUNDING)
    our_rest_N = np.maximum(1.0 - np.exp(our_log_NK).sum(1), _ROUNDING)
    logs_NK = np.log(np.where(recorded_NK > 0, recorded_NK, 1.0))
    terms_N = np.where(recorded_NK > 0, recorded_NK * (logs_NK - our_log_NK), 0.0).sum(1)
    return max(0.0, float((terms_N + rest_N * np.log(rest_N / our_rest_N)).mean()))


def _nats(value: float) -> str:
    """Two digits, or all there are before the point."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2g}" if value >= 1e-3 or value == 0 else f"{value:.0e}"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _shortened(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
