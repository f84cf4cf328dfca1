"""gpt2lab: GPT-2, whole. The Python API reads like the command line.

    import gpt2lab
    from gpt2lab.train.recipes import modern

    gpt2lab.train(modern("nano", vocab_size=4096), tokens="tokens/", out="runs/mine")
    model = gpt2lab.load("runs/mine/model")
    print(model.generate("Once upon a time", temperature=0.8))
    print(gpt2lab.evaluate(model, "data/"))

Nothing heavy is imported before it is used.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2lab.base import errors as errors

if TYPE_CHECKING:
    from gpt2lab.evaluate.results import ProtocolName, Suite, SuiteResult
    from gpt2lab.generate.engine import Engine
    from gpt2lab.generate.language_model import LanguageModel
    from gpt2lab.generate.opening import BackendName, WeightsName
    from gpt2lab.pipelines.finetune import Finetuned

__version__ = "0.1.0"


def load(path: str | Path) -> "LanguageModel":
    """Open a model folder, another tool's file or a name on the hub: it has `generate`, `network`, `tokenizer`."""
    from gpt2lab.generate.language_model import LanguageModel

    return LanguageModel.load(path)


def open_engine(
    model: str | Path,
    backend: "BackendName" = "auto",
    weights: "WeightsName | None" = None,
    *,
    threads: int | None = None,
    activation_bits: int = 16,
    max_batch: int | None = None,
    cache_bytes: int | None = None,
) -> "Engine":
    """Open a model to generate with, many texts at once, at its best speed and, on the processor, without torch.

    `engine.submit(prompt, SamplingOptions(...))` gives a text to iterate over, or its `completions()`.
    """
    from gpt2lab.generate.opening import open_engine

    return open_engine(
        model,
        backend,
        weights,
        threads=threads,
        activation_bits=activation_bits,
        max_batch=max_batch,
        cache_bytes=cache_bytes,
    )


def finetune(
    model: str | Path,
    texts: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    allow_change: bool = False,
    **options: Any,
) -> "Finetuned":
    """Go on training a model with texts; `options` are those of `gpt2lab.pipelines.finetune.FinetuneOptions`."""
    from gpt2lab.pipelines.finetune import FinetuneOptions, finetune
    from gpt2lab.pipelines.finetune_report import write_finetune_report

    places = [Path(place) for place in ([texts] if isinstance(texts, str | Path) else texts)]
    found = finetune(model, places, Path(out), FinetuneOptions(**options), allow_change=allow_change)
    write_finetune_report(Path(out), found, str(model), "gpt2lab.finetune(...)")
    return found


def evaluate_suite(
    model: str | Path,
    data: str | Path | None = None,
    suite: "Suite" = "table3",
    protocol: "ProtocolName" = "paper",
    *,
    tasks: Sequence[str] = (),
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    training: Sequence[str | Path] = (),
    limit: int | None = None,
    fetch: bool = False,
    allow_changed_data: bool = False,
) -> "SuiteResult":
    """Evaluate a model by the paper's tasks; the arguments are the options of `gpt2lab evaluate`."""
    from gpt2lab.datasets.evaluation_sets import DataSource
    from gpt2lab.evaluate.tasks.registry import chosen_tasks, tasks_of, with_options
    from gpt2lab.pipelines.evaluation import evaluate_suite, prepare

    chosen = with_options(chosen_tasks(tasks_of(suite, protocol), tasks), settings)
    source = DataSource(Path(data) if data is not None else None, allow_changed_data, fetch)
    evaluated = prepare(str(model), chosen, source, limit=limit, all_needed=bool(tasks))
    where = Path(out) if out is not None else None
    command, documents = "gpt2lab.evaluate_suite(...)", [Path(place) for place in training]
    return evaluate_suite(evaluated, where, suite=suite, protocol=protocol, command=command, training=documents)


def __getattr__(name: str) -> Any:
    if name in ("train", "evaluate"):
        return importlib.import_module(f"gpt2lab.{name}")
    raise AttributeError(f"module 'gpt2lab' has no attribute {name!r}")
