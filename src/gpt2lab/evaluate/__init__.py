"""Measuring a model: scores by protocol, with their errors."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpt2lab.base.callable_package import callable_package

if TYPE_CHECKING:
    from gpt2lab.evaluate.evaluation import Evaluation
    from gpt2lab.generate.language_model import LanguageModel


def _evaluate(
    model: "LanguageModel | str | Path",
    data: str | Path,
    out: str | Path | None = None,
    *,
    held_out_share: float | None = None,
    cloze_items: int = 200,
    stride: int | None = None,
) -> "Evaluation":
    """Evaluate a model (or its folder) on documents or text; see `gpt2lab.evaluate.evaluation.evaluate`."""
    from gpt2lab.evaluate.evaluation import evaluate
    from gpt2lab.generate.language_model import LanguageModel

    if not isinstance(model, LanguageModel):
        model = LanguageModel.load(model)
    where = Path(out) if out is not None else None
    return evaluate(model, Path(data), where, held_out_share=held_out_share, cloze_items=cloze_items, stride=stride)


callable_package(__name__, _evaluate)
