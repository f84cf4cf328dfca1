"""A model with smaller weights, and what that costs: how it predicts texts, beside the model that it was made of."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import write_json
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.base.text_table import text_table
from gpt2lab.checkpoints.quantizing import Quantized, TensorError, WeightType, quantize_model
from gpt2lab.checkpoints.weights import TRANSPOSED
from gpt2lab.datasets.evaluation_sets import DataSource

if TYPE_CHECKING:  # torch, which only measuring needs
    from gpt2lab.evaluate.side_by_side import TextComparison
    from gpt2lab.evaluate.statistics import Metric

QUALITY = "quality.json"
_WIKITEXT2 = "wikitext2"
_MATRICES = (*TRANSPOSED, "wte.weight", "wpe.weight", "lm_head.weight")


@dataclass(frozen=True)
class QuantizedWithQuality:
    """What was made, and how it predicts each text."""

    made: Quantized
    texts: tuple["TextComparison", ...] = ()


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
    if not texts and wikitext2 is None:
        found = QuantizedWithQuality(quantize_model(source, out, weights, revision=revision))
    else:
        found = _measured(source, out, weights, revision, texts, wikitext2, limit)
    write_json(
        out / QUALITY,
        asdict(found) | {"command": command, "versions": describe_versions(), "machine": describe_machine()},
    )
    return found


def _measured(
    source: str | Path,
    out: Path,
    weights: WeightType,
    revision: str | None,
    texts: Sequence[Path],
    wikitext2: DataSource | None,
    limit: int | None,
) -> QuantizedWithQuality:
    from gpt2lab.evaluate.side_by_side import compared, predict_texts, read_texts
    from gpt2lab.evaluate.tasks.registry import own_tasks
    from gpt2lab.evaluate.tasks.stream import FAST_STRIDE
    from gpt2lab.evaluate.tasks.wikitext import WikiText2

    tasks = own_tasks(texts, (), ())
    if wikitext2 is not None:
        tasks |= {_WIKITEXT2: WikiText2(stride=FAST_STRIDE)}
    windowed = read_texts(source, revision, tasks, wikitext2 or DataSource(), limit)
    made = quantize_model(source, out, weights, revision=revision)
    before = predict_texts(source, revision, windowed, "before")
    after = predict_texts(out, None, windowed, "after")
    return QuantizedWithQuality(made, tuple(map(compared, windowed, before, after)))


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
    lines.append(text_table([["tensor", "type", "largest error", "RMS error / RMS"], *errors], left=(0, 1)))
    return "\n".join(lines)


def _sentence(weights: str, text: "TextComparison") -> str:
    return (
        f"{text.text}: with {weights} the perplexity a token is {text.perplexity_after.value:,.2f} instead of"
        f" {text.perplexity_before.value:,.2f} ({_per_cent(text.change)}), and in {text.same_top_token.value:.1%} of"
        f" {text.tokens:,} places the same token comes first."
    )


def _per_cent(change: "Metric") -> str:
    error = "" if change.standard_error is None else f" ± {change.standard_error * 100:.3f}"
    return f"{change.value * 100:+.3f}{error} %"


def _kind(name: str) -> str:
    """A tensor's name without the number of its layer."""
    return "h.*." + name.split(".", 2)[2] if name.startswith("h.") else name
