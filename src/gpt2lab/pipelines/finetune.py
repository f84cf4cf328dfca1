"""A model goes on training with a text of one's own: what it says and how well it predicts, before and after.

run/
  what a run leaves (train/loop.py), and
  adapter/          with --lora: what peft loads upon the model it began with
  finetune.json     perplexity and samples before and after, and what is copied from the text
  report.html       the same to read
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import read_json, write_json
from gpt2lab.base.progress import progress_bar, say
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.weights import without_padding
from gpt2lab.datasets.own_texts import read_own_texts
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.tokens.sequences import IGNORED
from gpt2lab.train.loop import train_on
from gpt2lab.train.lora import ADAPTER, LoraOptions, LoraWeights
from gpt2lab.train.recipe import Recipe, with_steps
from gpt2lab.train.recipes import finetune as finetune_recipe
from gpt2lab.train.start import ModelWeights
from gpt2lab.train.text_data import TextData, Texts, example_prompts, prepare_texts
from gpt2lab.webtext.overlap.overlap import overlap

MEMORIZED_MARGIN = 0.2
"""A warning is due when the samples' share of copied 8-grams is this far above that of the held-out text.

Of what a model has learned without copying, about as much occurs in the text as of the held-out text, which is by the
same hands. One in five 8-grams more is whole sentences word for word; less could be chance, for 8-grams are copied in
runs and the samples are short.
"""
FEWEST_GRAMS = 50
SAMPLE_TOP_K = 40  # as the samples of the paper


@dataclass(frozen=True)
class FinetuneOptions:
    """How to go on training."""

    lora: bool = False
    """train a small adapter instead of all weights (needs peft); it is merged into the model at the end, and kept"""
    lora_rank: int = 16
    """width of the adapter's matrices"""
    lora_alpha: float = 32.0
    """what the adapter adds is scaled by alpha / rank"""
    epochs: float = 3.0
    """times through the text"""
    steps: int | None = None
    """optimizer steps, instead of epochs"""
    minutes: float | None = None
    """as many steps as fit into this time, instead of epochs"""
    learning_rate: float | None = None
    """peak; 5e-5, with --lora 5e-4, unless given"""
    batch: int = 4
    """sequences in one step"""
    sequence_length: int | None = None
    """tokens in a sequence; the model's context, or fewer for a short text, unless given"""
    patience: int = 3
    """stop after this many validations without a better loss, and keep the best weights; 0: go to the end"""
    held_out_share: float = 0.1
    """of the text, never trained on; what the perplexity is measured on"""
    column: str | None = None
    """what holds the text in CSV, JSON lines and Parquet"""
    prompt: tuple[str, ...] = ()
    """what to continue in the samples, before and after; from the held-out text unless given"""
    max_tokens: int = 100
    """most tokens of a sample"""
    seed: int = 0
    """decides the order of the text, dropout and the samples"""

    def __post_init__(self) -> None:
        if not 0 < self.epochs < math.inf:
            raise BadOption(f"--epochs {self.epochs}: must be above 0 and finite.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise BadOption(f"--minutes {self.minutes}: must be above 0 and finite.")
        if self.minutes is not None and self.steps is not None:
            raise BadOption("--steps and --minutes: give one of them.")
        for name, number in (("steps", self.steps), ("batch", self.batch)):
            if number is not None and number < 1:
                raise BadOption(f"--{name} {number}: must be at least 1.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise BadOption(f"--learning-rate {self.learning_rate}: must be above 0 and finite.")
        if self.max_tokens < 1:
            raise BadOption(f"--max-tokens {self.max_tokens}: must be at least 1.")


@dataclass(frozen=True)
class Sample:
    """What follows a prompt, by the model that training began with and by the one that it made."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Copied:
    """Shares (0 to 1) of 8-grams of words that occur in the training text: of the samples, and of held-out text.

    `memorized` is None where the samples have too few 8-grams to say.
    """

    sampled_grams: int
    before: float
    after: float
    held_out: float
    memorized: bool | None


@dataclass(frozen=True)
class Finetuned:
    """What came of it. Perplexity is exp of the loss a token on `held_out_tokens` of the held-out text."""

    model: str
    adapter: str | None
    steps: int
    model_step: int
    epochs: float
    train_tokens: int
    held_out_tokens: int
    sequence_length: int
    perplexity_before: float
    perplexity_after: float
    copied: Copied
    samples: tuple[Sample, ...]
    training_seconds: float


def finetune(
    model: str | Path,
    places: Sequence[Path],
    out: Path,
    options: FinetuneOptions = FinetuneOptions(),
    *,
    allow_change: bool = False,
) -> Finetuned:
    """Train `model` (anything that `open_model` opens) on texts, into the run folder `out`; goes on where it stopped.

    Raises BadInput for a model without a tokenizer and for texts that can't be used, BadOption for options that can't,
    and when `out` holds another run.
    """
    checkpoint = without_padding(open_model(model))
    tokenizer = checkpoint.required_tokenizer()
    own = read_own_texts(places, options.column)
    texts = prepare_texts(
        own, tokenizer, checkpoint.config.context_length, options.held_out_share, options.sequence_length
    )
    recipe = _recipe(options, finetune_recipe(checkpoint.config, options.lora), texts)
    data = TextData(recipe, own, texts, tokenizer)
    for note in texts.notes:
        say(note)
    base = ModelWeights(str(model), checkpoint)
    adapter = LoraOptions(options.lora_rank, options.lora_alpha)
    start = LoraWeights(base, adapter, options.seed) if options.lora else base
    summary = train_on(data, recipe, out, start, allow_change=allow_change)
    prompts = list(options.prompt) or ["", *example_prompts(texts.held_out)]
    if not options.prompt and own.are_completions:
        prompts.remove("")
    sampling = SamplingOptions(max_tokens=options.max_tokens, top_k=SAMPLE_TOP_K, seed=options.seed)
    asked = {"prompts": prompts, "sampling": asdict(sampling), "training_seconds": summary.training_seconds}
    as_read = json.loads(json.dumps(asked))  # lists for tuples
    if (out / "finetune.json").exists() and (kept := read_json(out / "finetune.json"))["asked"] == as_read:
        return _from_json(kept["result"])
    before = LanguageModel(base.network(), tokenizer)
    samples = _samples(before, LanguageModel.load(summary.model), prompts, sampling)
    result = Finetuned(
        model=summary.model,
        adapter=str(out / ADAPTER) if options.lora else None,
        steps=summary.steps,
        model_step=summary.steps if summary.model_step is None else summary.model_step,
        epochs=summary.steps * data.sequences_a_step / texts.train.sequences,
        train_tokens=len(texts.train.targets),
        held_out_tokens=sum(int((batch[1] != IGNORED).sum()) for batch in data.held_out()),
        sequence_length=texts.sequence_length,
        perplexity_before=_perplexity(summary.val_loss_first),
        perplexity_after=_perplexity(summary.model_loss),
        copied=copied_grams(samples, texts),
        samples=samples,
        training_seconds=summary.training_seconds,
    )
    write_json(out / "finetune.json", {"asked": asked, "result": asdict(result)})
    return result


def _recipe(options: FinetuneOptions, recipe: Recipe, texts: Texts) -> Recipe:
    """The recipe with what was asked for; its length follows from the text, how often it validates from the length."""
    steps = options.steps or math.ceil(options.epochs * texts.train.sequences / options.batch)
    if options.minutes is None:
        every = max(1, min(100, steps // 10))
        recipe = replace(with_steps(recipe, steps), watch=replace(recipe.watch, validate_every=every))
    return replace(
        recipe,
        optimizer=replace(recipe.optimizer, learning_rate=options.learning_rate or recipe.optimizer.learning_rate),
        batch=replace(recipe.batch, sequences=options.batch),
        watch=replace(recipe.watch, patience=options.patience),
        steps=steps,
        minutes=options.minutes or 0.0,
        seed=options.seed,
    )


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # of weights that training has ruined; more is too large for a float


def _samples(
    before: LanguageModel, after: LanguageModel, prompts: Sequence[str], sampling: SamplingOptions
) -> tuple[Sample, ...]:
    samples = []
    with progress_bar("sample", total=2 * len(prompts), unit="texts") as bar:
        for number, prompt in enumerate(prompts):
            options = replace(sampling, seed=sampling.seed + number)
            samples.append(Sample(prompt, *(model.generate(prompt, options).text for model in (before, after))))
            bar.advance(2)
    return tuple(samples)


def copied_grams(samples: Sequence[Sample], texts: Texts) -> Copied:
    """How much of the samples is copied from the training text, beside how much the held-out text shares with it."""
    train = [
        prompt + text
        for prompt, text in zip(texts.train.prompts or [""] * len(texts.train.texts), texts.train.texts, strict=True)
    ]
    before = overlap((sample.before for sample in samples), train)
    after = overlap((sample.after for sample in samples), train)
    held_out = overlap(texts.held_out.texts, train)
    memorized = after.share > held_out.share + MEMORIZED_MARGIN if after.grams >= FEWEST_GRAMS else None
    return Copied(after.grams, before.share, after.share, held_out.share, memorized)


def _from_json(values: dict[str, Any]) -> Finetuned:
    samples = tuple(Sample(**sample) for sample in values["samples"])
    return Finetuned(**values | {"copied": Copied(**values["copied"]), "samples": samples})


def warning_of(copied: Copied) -> str | None:
    """The sentence that warns of memorization, where it is due."""
    if not copied.memorized:
        return None
    return (
        f"warning: it memorizes: {copied.after:.0%} of its samples' 8-grams of words stand in the training text, of the"
        f" held-out text {copied.held_out:.0%}. Train for fewer epochs, or on more text."
    )
