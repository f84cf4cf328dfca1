"""`inspect`: what a checkpoint holds, in figures, and what in it looks broken. Every tensor is read once. No torch."""

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.progress import progress_bar
from gpt2lab.checkpoints.weights import FLOAT_TYPES, QUANTIZED, Checkpoint, StoredTensor
from gpt2lab.model.config import SIZES, GPT2Config
from gpt2lab.tokens.bpe import gpt2_tokenizer

HUB_NAMES = {"117M": "gpt2", "345M": "gpt2-medium", "762M": "gpt2-large", "1542M": "gpt2-xl"}
_SHAPES = {name: (size.n_layer, size.n_head, size.n_embd) for name, size in SIZES.items()} | {
    "distilgpt2": (6, 12, 768)
}
_MATRICES = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_EMBEDDINGS = ("wte.weight", "wpe.weight", "lm_head.weight")

_BLOCK = 1 << 17  # numbers at a time: as float32 they stay in a processor's cache for the three passes over them
_Q8_0_BYTES = 34 / 32  # a number: 32 of one byte share a scale of two
_FLOAT16_LARGEST = 65_504
_FAR_OFF = 100.0  # times the median RMS of the layers' tensors of one kind
_FRESH = 0.02  # standard deviation of fresh matrices (openai/gpt-2 `src/model.py`)
_FRESH_WITHIN = 0.05  # of it; three standard errors for a matrix of 2,000 numbers
_STORIES = 8  # a model that was imported of an import, and so on
_SMOOTH = 0.7  # cosine of neighbouring rows: trained positions are near 1, tokens near 0.3


@dataclass(frozen=True)
class TensorFacts:
    """One tensor. `rms`, `smallest` and `largest` are of its finite numbers, None where it has none.

    `flags` are single words for what is suspicious about it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    rms: float | None
    smallest: float | None
    largest: float | None
    nan: int
    infinite: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suspicion:
    """Something that is seldom meant: where (no tensors: the whole model), what, and what it usually comes from."""

    flag: str
    tensors: tuple[str, ...]
    what: str
    meaning: str


@dataclass(frozen=True)
class TokenizerFacts:
    """`padding` counts the rows of wte that stand for no id of the tokenizer."""

    ids: int
    is_gpt2: bool
    padding: int


@dataclass(frozen=True)
class ModelInspection:
    """A checkpoint in figures. `size` names the published or known shape of its layers, if it is one.

    `parameters` count a tied head once. `bytes_by_dtype` are those of the weights as they are stored.
    """

    where: str
    format: str
    size: str | None
    n_layer: int
    n_head: int
    n_embd: int
    context_length: int
    vocab_size: int
    activation_function: str
    tied: bool
    parameters: int
    parameters_without_positions: int
    bytes_by_dtype: dict[str, int]
    tokenizer: TokenizerFacts | None
    notes: tuple[str, ...]
    provenance: tuple[str, ...]
    suspicions: tuple[Suspicion, ...]
    tensors: tuple[TensorFacts, ...]


def inspect_model(checkpoint: Checkpoint) -> ModelInspection:
    """Read every tensor once, in float32 blocks, with no more than one tensor in memory, and judge what was found."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    facts: dict[str, TensorFacts] = {}
    rows: dict[str, _Rows] = {}
    with progress_bar("inspect", total=checkpoint.parameters, unit="numbers") as bar:
        for name, tensor in checkpoint.tensors.items():
            array = tensor.read()
            facts[name] = _measured(name, tensor, array)
            if name in _EMBEDDINGS:
                rows[name] = _measured_rows(array)
            del array
            bar.advance(tensor.size)
    ids = tokenizer.vocab_size if tokenizer else config.vocab_size
    suspicions = tuple(_suspicions(checkpoint, facts, rows, ids))
    flags = {name: tuple(found.flag for found in suspicions if name in found.tensors) for name in facts}
    return ModelInspection(
        where=str(checkpoint.where),
        format=checkpoint.format,
        size=_size_of(config),
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        context_length=config.context_length,
        vocab_size=config.vocab_size,
        activation_function=config.activation_function,
        tied=config.tie_word_embeddings,
        parameters=checkpoint.parameters,
        parameters_without_positions=checkpoint.parameters - config.context_length * config.n_embd,
        bytes_by_dtype=_bytes_by_dtype(checkpoint),
        tokenizer=TokenizerFacts(ids, tokenizer.sha256 == gpt2_tokenizer().sha256, config.vocab_size - ids)
        if tokenizer
        else None,
        notes=checkpoint.notes,
        provenance=tuple(_story(checkpoint.provenance)),
        suspicions=suspicions,
        tensors=tuple(replace(fact, flags=flags[name]) for name, fact in facts.items()),
    )


def inspection_text(found: ModelInspection, every_tensor: bool = False) -> str:
    """The figures, to be read in a terminal: a row for each kind of tensor, or for each tensor; suspicions on top."""
    lines = [
        f"{found.where} ({found.format}): {_told_size(found)}",
        f"layers {found.n_layer}, heads {found.n_head}, width {found.n_embd:,}, context {found.context_length:,},"
        f" vocabulary {found.vocab_size:,}, {found.activation_function}, head"
        f" {'tied to wte' if found.tied else 'of its own'}",
        f"parameters {found.parameters:,}, without positions {found.parameters_without_positions:,}; stored in "
        + ", ".join(f"{count / 1e6:,.1f} MB {dtype}" for dtype, count in found.bytes_by_dtype.items()),
        f"tokenizer: {_told_tokenizer(found.tokenizer)}",
        *(line for told in found.provenance or ("none",) for line in _wrapped(f"provenance: {told}")),
        *(line for note in found.notes for line in _wrapped(f"note: {note}")),
        "",
    ]
    if found.suspicions:
        lines.append("Suspicious:")
        for suspicion in found.suspicions:
            where = _names(suspicion.tensors) if suspicion.tensors else "the whole model"
            lines += _wrapped(f"- {where}: {suspicion.what}. {suspicion.meaning}")
    else:
        lines.append(f"Nothing suspicious in {_counted(len(found.tensors), 'tensor')}.")
    lines += ["", f"{'tensor':27}{'shape':15}{'type':10}{'RMS':>18}{'smallest':>11}{'largest':>11}"]
    for group in [[fact] for fact in found.tensors] if every_tensor else _kinds(found.tensors):
        flags = sorted({flag for fact in group for flag in fact.flags})
        lines.append(
            f"{_names([fact.name for fact in group]):27}{list(group[0].shape)!s:15}"
            f"{' '.join(sorted({fact.dtype for fact in group})):10}"
            f"{_range([fact.rms for fact in group]):>18}"
            f"{_number(min(_known(fact.smallest for fact in group), default=None)):>11}"
            f"{_number(max(_known(fact.largest for fact in group), default=None)):>11}"
            + (f"  ! {', '.join(flags)}" if flags else "")
        )
    return "\n".join(map(_printable, lines))


@dataclass(frozen=True)
class _Rows:
    """Rows of an embedding: those all zero, those that occur twice or more, and the mean cosine of neighbours."""

    zero: NDArray[np.int64]
    repeated: NDArray[np.int64]
    smooth: float


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """All numbers in the order of memory, so that a matrix turned around is not copied."""
    flat = array.ravel(order="K")
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK].astype(np.float32, copy=False)


def _measured(name: str, tensor: StoredTensor, array: NDArray[Any]) -> TensorFacts:
    smallest, largest, squares = math.inf, -math.inf, 0.0
    nan = infinite = 0
    for block in _blocks(array):
        low, high = float(block.min()), float(block.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            nan += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
            block = block[np.isfinite(block)]
            if not block.size:
                continue
            low, high = float(block.min()), float(block.max())
        smallest, largest = min(smallest, low), max(largest, high)
        squares += _sum_of_squares(block)
    finite = tensor.size - nan - infinite
    shape, dtype = tuple(tensor.shape), tensor.dtype
    if not finite:
        return TensorFacts(name, shape, dtype, None, None, None, nan, infinite)
    return TensorFacts(name, shape, dtype, math.sqrt(squares / finite), smallest, largest, nan, infinite)


def _sum_of_squares(block: NDArray[np.float32]) -> float:
    with np.errstate(over="ignore"):
        squares = float(np.dot(block, block))
    return squares if math.isfinite(squares) else float(np.square(block, dtype=np.float64).sum())


def _measured_rows(array: NDArray[Any]) -> _Rows:
    count, width = array.shape
    step = max(1, _BLOCK // width)
    prints = np.empty((count, 4), np.float32)
    for start in range(0, count, step):
        block = array[start : start + step].astype(np.float32, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            prints[start : start + step, 0] = np.einsum("ij,ij->i", block, block)
        prints[start : start + step, 1:] = block[:, [0, width // 2, width - 1]]
    zero = np.flatnonzero(prints[:, 0] == 0)
    judged = np.flatnonzero((prints[:, 0] > 0) & np.isfinite(prints).all(1))
    # Rows of the same length and of three same numbers are the same row: chance does not make them.
    _, group, sizes = np.unique(prints[judged], axis=0, return_inverse=True, return_counts=True)
    first = array[: 1024 + 1].astype(np.float32)
    lengths = np.sqrt(prints[: len(first), 0])
    with np.errstate(all="ignore"):
        cosines = np.einsum("ij,ij->i", first[1:], first[:-1]) / (lengths[1:] * lengths[:-1])
    known = cosines[np.isfinite(cosines)]
    return _Rows(zero, judged[sizes[group.reshape(-1)] > 1], float(known.mean()) if known.size else 0.0)


def _suspicions(
    checkpoint: Checkpoint, facts: Mapping[str, TensorFacts], rows: Mapping[str, _Rows], ids: int
) -> Iterator[Suspicion]:
    if broken := [name for name, fact in facts.items() if fact.nan or fact.infinite]:
        nan, infinite = (sum(getattr(facts[name], kind) for name in broken) for kind in ("nan", "infinite"))
        size = sum(checkpoint.tensors[name].size for name in broken)
        yield Suspicion(
            "not finite",
            tuple(broken),
            f"{nan:,} NaN and {infinite:,} infinite of {size:,} numbers",
            "The training diverged, or the file is damaged: such a model says nothing.",
        )
    biases = [name for name in facts if name.endswith(".bias")]
    norms = [name.removesuffix(".weight") for name in facts if _is_norm(name)]
    new_norms = [
        norm for norm in norms if _is_all(facts[f"{norm}.weight"], 1.0) and _is_all(facts[f"{norm}.bias"], 0.0)
    ]
    without_biases = all(_is_all(facts[name], 0.0) for name in biases)
    if without_biases and len(new_norms) == len(norms) and _is_fresh(facts):
        yield Suspicion(
            "fresh",
            (),
            f"norms 1, biases 0, matrices of deviation {_FRESH:g}",
            "Weights as they are drawn at the start: this model has not been trained.",
        )
        new_norms, biases = [], []
    elif without_biases:
        yield Suspicion(
            "zero",
            tuple(biases),
            "every bias is zero",
            "As in a model that was trained without them (nanoGPT's bias=False).",
        )
        biases = []
    if new_norms:
        yield Suspicion(
            "as new",
            tuple(f"{norm}.{part}" for norm in new_norms for part in ("weight", "bias")),
            "weight 1 and bias 0 throughout",
            "Norms as they are at the start: not trained, or not copied.",
        )
    norm_weights = {f"{norm}.weight" for norm in norms}
    norm_parts = {f"{norm}.{part}" for norm in new_norms for part in ("weight", "bias")}
    judged = [name for name in facts if name in biases or (not name.endswith(".bias") and facts[name].shape != (1,))]
    if zero := [name for name in judged if _is_all(facts[name], 0.0) and name not in norm_parts]:
        yield Suspicion("zero", tuple(zero), "all zero", "Left out when the weights were copied, or not trained.")
    if constant := [
        name
        for name in judged
        if _is_constant(facts[name])
        and not _is_all(facts[name], 0.0)
        and not (name in norm_weights and _is_all(facts[name], 1.0))
    ]:
        yield Suspicion(
            "constant", tuple(constant), "the same number throughout", "Not trained, or overwritten by a placeholder."
        )
    yield from _row_suspicions(facts, rows, ids)
    yield from _equal_layers(checkpoint, facts)
    yield from _far_off(facts)
    large = [name for name, fact in facts.items() if _reach(fact) >= _FLOAT16_LARGEST / 2]
    if large:
        yield Suspicion(
            "large",
            tuple(large),
            f"numbers up to {max(_reach(facts[name]) for name in large):,.0f}",
            f"Weights are seldom above 100, and float16 ends at {_FLOAT16_LARGEST:,}: damaged, or out of control.",
        )
    wte, wpe = rows["wte.weight"], rows["wpe.weight"]
    if facts["wte.weight"].shape == facts["wpe.weight"].shape and wte.smooth > _SMOOTH > wpe.smooth:
        yield Suspicion(
            "exchanged",
            ("wte.weight", "wpe.weight"),
            f"neighbouring rows of wte are alike (cosine {wte.smooth:.2f}), those of wpe are not ({wpe.smooth:.2f})",
            "Trained positions are alike and tokens are not: the two stand in each other's place.",
        )


def _row_suspicions(facts: Mapping[str, TensorFacts], rows: Mapping[str, _Rows], ids: int) -> Iterator[Suspicion]:
    """Rows that are zero or repeated, but for those of a vocabulary's padding."""
    for name, found in rows.items():
        if _is_constant(facts[name]):
            continue
        limit = facts[name].shape[0] if name == "wpe.weight" else ids
        what = "positions" if name == "wpe.weight" else "tokens"
        for flag, numbers, words in (("zero rows", found.zero, "all zero"), ("equal rows", found.repeated, "the same")):
            inside = numbers[numbers < limit]
            if inside.size:
                first = ", ".join(map(str, inside[:5].tolist())) + (", ..." if inside.size > 5 else "")
                yield Suspicion(
                    flag,
                    (name,),
                    f"{inside.size:,} of {limit:,} rows are {words} ({first})",
                    f"These {what} never occurred in training, or were added or copied after it.",
                )


def _equal_layers(checkpoint: Checkpoint, facts: Mapping[str, TensorFacts]) -> Iterator[Suspicion]:
    """Matrices that are those of an earlier layer, too."""
    seen: dict[tuple[object, ...], str] = {}
    equal: dict[tuple[int, int], list[str]] = {}
    for name, fact in facts.items():
        layer, kind = _layer_and_kind(name)
        if layer is None or kind not in _MATRICES or fact.rms is None or _is_constant(fact):
            continue
        # Read again only where the figures agree to the last bit.
        earlier = seen.setdefault((kind, fact.rms, fact.smallest, fact.largest), name)
        if earlier != name and np.array_equal(checkpoint.tensors[earlier].read(), checkpoint.tensors[name].read()):
            equal.setdefault((_layer_and_kind(earlier)[0] or 0, layer), []).append(kind)
    for whole in (True, False):
        pairs = {pair: kinds for pair, kinds in equal.items() if (len(kinds) == len(_MATRICES)) == whole}
        if pairs:
            told = [f"{first} and {second}" for first, second in list(pairs)[:4]] + ["..."] * (len(pairs) > 4)
            names = {f"h.{layer}.{kind}": None for pair, kinds in pairs.items() for layer in pair for kind in kinds}
            yield Suspicion(
                "equal layers",
                tuple(names),
                f"{'all matrices are' if whole else 'it is'} the same in layers {', '.join(told)}",
                "One was copied in place of the other, or the model was deepened by repeating layers.",
            )


def _far_off(facts: Mapping[str, TensorFacts]) -> Iterator[Suspicion]:
    for group in _kinds(tuple(facts.values())):
        sizes = [fact.rms for fact in group if fact.rms]
        if len(sizes) < 3:
            continue
        middle = float(np.median(sizes))
        far = [fact for fact in group if fact.rms and not 1 / _FAR_OFF <= fact.rms / middle <= _FAR_OFF]
        if far:
            yield Suspicion(
                "size",
                tuple(fact.name for fact in far),
                f"RMS {_range([fact.rms for fact in far])}, in the median layer {middle:.4g}",
                "Another scale than its neighbours': damaged, scaled twice, or of another model.",
            )


def _is_norm(name: str) -> bool:
    return re.search(r"(^|\.)ln_[12f]\.weight$", name) is not None


def _is_all(fact: TensorFacts, value: float) -> bool:
    return _is_constant(fact) and fact.smallest == value


def _is_constant(fact: TensorFacts) -> bool:
    return fact.smallest is not None and fact.smallest == fact.largest and not (fact.nan or fact.infinite)


def _is_fresh(facts: Mapping[str, TensorFacts]) -> bool:
    drawn = [facts[name].rms for name in facts if name.endswith(("wte.weight", "c_attn.weight", "c_fc.weight"))]
    return all(rms is not None and abs(rms / _FRESH - 1) <= _FRESH_WITHIN for rms in drawn)


def _reach(fact: TensorFacts) -> float:
    return max(abs(fact.smallest or 0.0), abs(fact.largest or 0.0))


def _layer_and_kind(name: str) -> tuple[int | None, str]:
    """`h.3.ln_1.bias` is layer 3's `ln_1.bias`."""
    parts = name.split(".", 2)
    return (int(parts[1]), parts[2]) if parts[0] == "h" else (None, name)


def _kinds(facts: Sequence[TensorFacts]) -> list[list[TensorFacts]]:
    """The tensors of one kind in all layers together, in the order of the first layer's."""
    groups: dict[str, list[TensorFacts]] = {}
    for fact in facts:
        groups.setdefault(_layer_and_kind(fact.name)[1], []).append(fact)
    return list(groups.values())


def _size_of(config: GPT2Config) -> str | None:
    shape = (config.n_layer, config.n_head, config.n_embd)
    return next((name for name, known in _SHAPES.items() if known == shape), None)


def _bytes_by_dtype(checkpoint: Checkpoint) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor in checkpoint.tensors.values():
        if tensor.quantized is not None:
            count = tensor.quantized().nbytes
        else:
            each = _Q8_0_BYTES if tensor.dtype in QUANTIZED else FLOAT_TYPES[tensor.dtype].itemsize
            count = int(tensor.size * each)
        found[tensor.dtype] = found.get(tensor.dtype, 0) + count
    return found


def _story(provenance: Any) -> Iterator[str]:
    """What a source says of its making, a line each for its import and what was there before."""
    for before in range(_STORIES):
        if not isinstance(provenance, Mapping):
            return
        if line := _chapter(provenance):
            yield "before that: " * bool(before) + line
        provenance = provenance.get("source_provenance")


def _chapter(provenance: Mapping[str, Any]) -> str:
    result = provenance.get("result")
    if isinstance(result, Mapping):  # of our own training
        provenance = {
            **provenance,
            **{key: result[key] for key in ("steps", "tokens", "val_loss_last") if key in result},
        }
    plain = {key: value for key, value in provenance.items() if isinstance(value, str | int | float)}
    told = ("made_by", "date", "source", "format", "hub", "revision", "steps", "tokens", "val_loss_last")
    shown = [key for key in told if key in plain] + [
        key for key in plain if key not in told and not key.endswith("sha256")
    ]
    return ", ".join(f"{key.replace('_', ' ')} {_shortened(plain[key])}" for key in shown[:8])


def _shortened(value: str | float) -> str:
    if isinstance(value, str):
        return value if len(value) <= 60 else f"...{value[-57:]}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _told_size(found: ModelInspection) -> str:
    if found.size is None:
        return "a GPT-2 of no published size"
    name = f"{found.size} ({HUB_NAMES[found.size]})" if found.size in HUB_NAMES else found.size
    known = SIZES.get(found.size, GPT2Config())
    other = [
        words
        for words, ours, theirs in (
            ("context", found.context_length, known.context_length),
            ("vocabulary", found.vocab_size, known.vocab_size),
        )
        if ours != theirs
    ]
    return f"the shape of {name}" + (f", with another {' and '.join(other)}" if other else "")


def _told_tokenizer(found: TokenizerFacts | None) -> str:
    if found is None:
        return "none"
    padding = f", {_counted(found.padding, 'row')} of padding in wte" if found.padding else ""
    whose = "GPT-2's own" if found.is_gpt2 else "not GPT-2's"
    return f"{whose}, {found.ids:,} ids{padding}"


def _printable(line: str) -> str:
    """Without what would steer the terminal: names and provenance are a stranger's."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _names(names: Sequence[str]) -> str:
    """Tensors' names, those of one kind in several layers as one: h.0-11.ln_1.bias."""
    layers: dict[str, list[int]] = {}
    plain = []
    for name in names:
        layer, kind = _layer_and_kind(name)
        if layer is None:
            plain.append(name)
        else:
            layers.setdefault(kind, []).append(layer)
    shown = plain + [f"h.{_ranges(numbers)}.{kind}" for kind, numbers in layers.items()]
    return ", ".join(shown) if len(shown) <= 3 else f"{', '.join(shown[:2])} and {len(shown) - 2} more kinds"


def _ranges(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 is 0-2,5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _range(values: Sequence[float | None]) -> str:
    known = _known(values)
    ends = [_number(min(known, default=None)), _number(max(known, default=None))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
