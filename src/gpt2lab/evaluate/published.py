"""What others published of GPT-2's zero-shot scores: the paper's tables and figures, and re-measurements since.

Values are in the units of our metrics: accuracies are shares (0.4599 where the paper prints 45.99). What a label
(`wikitext2-none`) is measured on is its set (`wikitext2`): several labels may stand for one set.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Certainty = Literal["read", "second hand", "from memory", "read off a picture"]
"""How we know a figure: read where it was published, told by somebody who read it, remembered, measured in a plot."""


@dataclass(frozen=True)
class ModelSize:
    """A size of the paper, by the name it has there, and the parameters of the model that was released."""

    name: str
    parameters: int


SIZES = (
    ModelSize("117M", 124_439_808),
    ModelSize("345M", 354_823_168),
    ModelSize("762M", 774_030_080),
    ModelSize("1542M", 1_557_611_200),
)
S, M, L, XL = (size.name for size in SIZES)


@dataclass(frozen=True)
class PaperColumn:
    """A column of the paper's table 3, or the like: a set's metric, its value for each size, the best one before."""

    set: str
    title: str
    metric: str
    values: Mapping[str, float]
    prior: float | None = None
    where: str = "table 3"
    certainty: Mapping[str, Certainty] = field(default_factory=dict)
    """of the values that are not printed there"""

    @property
    def in_table_3(self) -> bool:
        """Whether all four sizes are printed there."""
        return self.where == "table 3"


@dataclass(frozen=True)
class PaperFigure:
    """One cell of a `PaperColumn`."""

    value: float
    where: str
    certainty: Certainty


@dataclass(frozen=True)
class Measurement:
    """A later measurement with the released weights.

    `options` are those of our task that say the same protocol, None where our options can't say it (or it isn't known
    well enough): such a value is told, but never taken for the same measurement.
    """

    set: str
    metric: str
    values: Mapping[str, float]
    protocol: str
    options: Mapping[str, Any] | None
    source: str
    certainty: Certainty = "read"


def _four(*values: float) -> dict[str, float]:
    return dict(zip((S, M, L, XL), values, strict=True))


_COLUMNS = (
    PaperColumn("lambada", "LAMBADA", "perplexity", _four(35.13, 15.60, 10.87, 8.63), 99.8),
    PaperColumn("lambada", "LAMBADA", "accuracy_filtered", _four(0.4599, 0.5548, 0.6012, 0.6324), 0.5923),
    PaperColumn("lambada", "LAMBADA", "accuracy", {XL: 0.5266}, 0.19, "section 3.3"),
    PaperColumn("cbt-cn", "CBT-CN", "accuracy", _four(0.8765, 0.9235, 0.9345, 0.9330), 0.857),
    PaperColumn("cbt-ne", "CBT-NE", "accuracy", _four(0.834, 0.871, 0.880, 0.8905), 0.823),
    PaperColumn("wikitext2", "WikiText-2", "perplexity", _four(29.41, 22.76, 19.93, 18.34), 39.14),
    PaperColumn("ptb", "Penn Treebank", "perplexity", _four(65.85, 47.33, 40.31, 35.76), 46.54),
    PaperColumn("enwik8", "enwik8", "bits_per_byte", _four(1.16, 1.01, 0.97, 0.93), 0.99),
    PaperColumn("text8", "text8", "bits_per_character", _four(1.17, 1.06, 1.02, 0.98), 1.08),
    PaperColumn("wikitext103", "WikiText-103", "perplexity", _four(37.50, 26.37, 22.05, 17.48), 18.3),
    PaperColumn("1bw", "One Billion Word", "perplexity", _four(75.20, 55.72, 44.575, 42.16), 21.8),
    PaperColumn(
        "winograd",
        "Winograd, partial scoring",
        "accuracy",
        {S: 0.58, XL: 0.7070},
        0.637,
        "section 3.4, figure 3",
        {S: "read off a picture"},
    ),
    PaperColumn(
        "winograd-full",
        "Winograd, full scoring",
        "accuracy",
        {S: 0.56, XL: 0.70},
        0.637,
        "section 3.4, figure 3",
        {S: "read off a picture", XL: "read off a picture"},
    ),
)
"""Radford et al. 2019. Without the stop-word filter LAMBADA's accuracy is given for the largest size alone."""

PAPER: Mapping[tuple[str, str], PaperColumn] = {(column.set, column.metric): column for column in _COLUMNS}

_SETS = {
    "wikitext2-none": "wikitext2",
    "wikitext": "wikitext2",
    "wikitext103-roundtrip": "wikitext103",
    "ptb-none": "ptb",
    "1bw-none": "1bw",
    "one_billion_words": "1bw",
    "one_billion_words-none": "1bw",
    "lambada_openai": "lambada",
    "wsc273": "winograd",
    "arc_easy": "arc-easy",
    "arc_challenge": "arc-challenge",
}
"""The labels that are not their set's name."""

_STREAM = {"bos": "none", "scope": "stream"}
_AS_IT_IS = _STREAM | {"text": "v1", "detokenizer": "none", "stride": 32, "unit": "words+eos"}
_HF_SCRIPT = _STREAM | {"text": "raw", "detokenizer": "none", "stride": 1024, "unit": "bpe"}
_LM_EVAL_WIKITEXT = {
    "text": "raw",
    "detokenizer": "megatron",
    "stride": 1024,
    "unit": "lm-eval-words",
    "bos": "eot",
    "scope": "article",
}
_LM_EVAL_LAMBADA = {"text": "openai", "prefix": "none", "quotes": "as is", "match": "word", "rules": "lm-eval"}
_LM_EVAL_CBT = {"split": "test", "join": "space", "detok": "lm-eval", "prompt": "Passage/Question"}
_HARNESS = "lm-evaluation-harness"

MEASUREMENTS = (
    Measurement(
        "wikitext103",
        "perplexity",
        _four(37.5, 26.3, 22.0, 20.0),
        "as it is, no de-tokenizer; one stream, window 1,024, stride 4 (32 gives the same to the digit printed)",
        _AS_IT_IS,
        "In-Context RALM, arXiv 2302.00083, table 1",
    ),
    Measurement(
        "wikitext103",
        "perplexity",
        {S: 37.50},
        "as it is, no de-tokenizer; stride 32",
        _AS_IT_IS,
        "A. Radford, by way of karpathy/llm.c#276 and #374",
        "second hand",
    ),
    Measurement(
        "wikitext2",
        "perplexity",
        {S: 34.63},
        "as it is, no de-tokenizer; stride 32",
        _AS_IT_IS,
        "A. Radford, by way of karpathy/llm.c#276 and #374",
        "second hand",
    ),
    Measurement(
        "wikitext103",
        "perplexity",
        {S: 48.4},
        "newline for <eos>, per original token, windows of 1,024 side by side",
        _AS_IT_IS | {"stride": 1024},
        "huggingface/transformers#483",
    ),
    Measurement(
        "wikitext2",
        "perplexity",
        {S: 29.17},
        "window 1,024; unit unclear, probably GPT-2's tokens",
        None,
        "huggingface/transformers#483",
    ),
    Measurement(
        "wikitext2",
        "perplexity",
        {S: 29.94, L: 19.44},
        "raw text, windows of 1,024 side by side, per GPT-2 token (per word: 53.6 and 32.3)",
        _HF_SCRIPT,
        "huggingface/transformers#13761; karpathy/llm.c#276; the perplexity page of transformers",
    ),
    Measurement(
        "wikitext2",
        "perplexity",
        {L: 16.45},
        "raw text, stride 512, per GPT-2 token",
        _HF_SCRIPT | {"stride": 512},
        "the perplexity page of transformers; karpathy/llm.c#276",
    ),
    Measurement(
        "wikitext2",
        "word_perplexity",
        {S: 37.3698},
        "the harness: raw text, Megatron's de-tokenizer, an article at a time, windows side by side, per word (of"
        " another count: in the paper's unit 35.05)",
        _LM_EVAL_WIKITEXT,
        f"workofart/ml-by-hand; huggingface/transformers#13761 ({_HARNESS}, wikitext)",
    ),
    Measurement(
        "wikitext2",
        "perplexity",
        {XL: 18.67},
        "OpenAI's own later run",
        None,
        "C. Leahy, Addendum: Evaluation of My Model, 2019",
    ),
    Measurement(
        "wikitext2",
        "perplexity",
        {S: 42.43, M: 31.80},
        "raw text, Megatron's de-tokenizer, <|endoftext|> after every line, windows side by side, per GPT-2 token",
        None,
        "SEDD, arXiv 2310.16834",
        "from memory",
    ),
    Measurement(
        "wikitext103",
        "perplexity",
        {S: 41.60, M: 31.39},
        "raw text, Megatron's de-tokenizer, <|endoftext|> after every line, windows side by side, per GPT-2 token",
        None,
        "SEDD, arXiv 2310.16834",
        "from memory",
    ),
    Measurement("wikitext2", "perplexity", {L: 37.57}, "raw text", None, "ThilinaRajapakse/simpletransformers#1217"),
    Measurement(
        "ptb",
        "perplexity",
        {XL: 36.51},
        "OpenAI's own later run",
        None,
        "C. Leahy, Addendum: Evaluation of My Model, 2019",
    ),
    Measurement(
        "ptb",
        "perplexity",
        {S: 138.43, M: 123.14},
        "SEDD's form: its own de-tokenizer, <unk> as ?, <|endoftext|> after every line, per GPT-2 token",
        None,
        "SEDD, arXiv 2310.16834",
        "from memory",
    ),
    Measurement(
        "1bw",
        "perplexity",
        {S: 45.88},
        "Hugging Face's script, per GPT-2 token",
        None,
        "huggingface/transformers#13761 (the set was read off the order of a title)",
        "second hand",
    ),
    Measurement(
        "lambada",
        "accuracy",
        {S: 0.3256, XL: 0.5121},
        "the harness: OpenAI's text as it is, all tokens of the last word right, no filter",
        _LM_EVAL_LAMBADA,
        f"EleutherAI/{_HARNESS}#2159; EleutherAI/gpt-neo, README",
    ),
    Measurement(
        "lambada",
        "perplexity",
        {S: 40.06, XL: 10.634},
        "the harness: OpenAI's text as it is, per word",
        _LM_EVAL_LAMBADA,
        f"EleutherAI/{_HARNESS}#2159 and #911; EleutherAI/gpt-neo, README",
    ),
    Measurement(
        "lambada",
        "accuracy",
        {S: 0.32, M: 0.42},
        "as the harness, rounded",
        _LM_EVAL_LAMBADA,
        "HKUNLP/DiffuLLaMA#14",
    ),
    Measurement(
        "lambada",
        "accuracy",
        {S: 0.4667},
        "OpenAI's text as it is, the last token alone",
        {"text": "openai", "prefix": "none", "quotes": "as is", "match": "last_token"},
        "cybertronai/bflm; huggingface/transformers#13761",
    ),
    Measurement(
        "lambada",
        "accuracy",
        {S: 0.4689},
        "a newline before, plain quotes, the last token alone",
        {"text": "openai", "prefix": "newline", "quotes": "ascii", "match": "last_token"},
        "cybertronai/bflm, eval_lambada.py",
    ),
    Measurement(
        "lambada",
        "accuracy_filtered",
        {S: 0.4201},
        "a beam search of a whole word, NLTK's stop words left out (the 128 likeliest tokens at each step)",
        None,
        "cybertronai/bflm, eval_lambada_slow.py",
    ),
    Measurement("lambada", "accuracy", {S: 0.26}, "the tokenised text of Zenodo", None, "cybertronai/bflm"),
    Measurement(
        "lambada",
        "accuracy_filtered",
        {S: 0.31},
        "the tokenised text of Zenodo, with the stop-word filter",
        None,
        "cybertronai/bflm",
    ),
    Measurement(
        "lambada",
        "accuracy_filtered",
        {S: 0.330},
        "the text of Zenodo, Moses' de-tokenizer, with the stop-word filter",
        None,
        "cybertronai/bflm",
    ),
    Measurement(
        "lambada",
        "accuracy_filtered",
        {S: 0.336},
        "the text of Zenodo, Moses' de-tokenizer, plain quotes, with the stop-word filter",
        None,
        "cybertronai/bflm",
    ),
    Measurement(
        "lambada",
        "perplexity",
        {S: 45.04, M: 35.66},
        "SEDD's form: the texts in one stream, every token scored",
        None,
        "SEDD, arXiv 2310.16834",
        "from memory",
    ),
    Measurement(
        "cbt-cn",
        "accuracy",
        {S: 0.8435},
        "the harness of 2021, probably its test split",
        _LM_EVAL_CBT,
        "huggingface/transformers#13761",
    ),
    Measurement(
        "cbt-ne",
        "accuracy",
        {S: 0.7365},
        "the harness of 2021, probably its test split",
        _LM_EVAL_CBT,
        "huggingface/transformers#13761",
    ),
    Measurement(
        "hellaswag",
        "accuracy",
        {S: 0.2892, XL: 0.4004},
        "the harness: activity label before the context, brackets taken out",
        {"prompt": "activity"},
        "karpathy/llm.c, dev/data/hellaswag.py; EleutherAI/gpt-neo, README (40.03)",
    ),
    Measurement(
        "hellaswag",
        "accuracy_norm",
        {S: 0.3114, XL: 0.5089},
        "the harness: activity label before the context, brackets taken out; per byte of the ending",
        {"prompt": "activity", "norm": "characters"},
        "karpathy/llm.c, dev/data/hellaswag.py",
    ),
    Measurement(
        "hellaswag",
        "accuracy",
        {S: 0.2859, XL: 0.3842},
        "the context as it is, an ending after a space",
        {"prompt": "context"},
        "karpathy/llm.c, dev/data/hellaswag.py",
    ),
    Measurement(
        "hellaswag",
        "accuracy_norm",
        {S: 0.2955, XL: 0.4893},
        "the context as it is, an ending after a space; per token of the ending",
        {"prompt": "context", "norm": "tokens"},
        "karpathy/llm.c, dev/data/hellaswag.py",
    ),
    Measurement("winogrande", "accuracy", {XL: 0.5940}, "the harness", {}, "EleutherAI/gpt-neo, README"),
    Measurement("piqa", "accuracy", {XL: 0.7078}, "the harness", {}, "EleutherAI/gpt-neo, README"),
)
"""With the weights that OpenAI released. `S` is reported as 124M, `XL` as 1.5B in most of these sources."""


PAPER_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "lambada": {"text": "openai", "prefix": "newline", "quotes": "ascii", "match": "word"},
    "cbt-cn": {"split": "valid", "score": "rest", "prompt": "none"},
    "cbt-ne": {"split": "valid", "score": "rest", "prompt": "none"},
    "wikitext2": _STREAM | {"text": "v1", "detokenizer": "roundtrip", "stride": 32, "unit": "words+eos"},
    "wikitext103": _STREAM | {"text": "v1", "stride": 32, "unit": "words+eos"},
    "ptb": {"detokenizer": "roundtrip", "stride": 32, "unit": "words+eos"},
    "enwik8": {"stride": 32},
    "text8": {"stride": 32},
    "1bw": {"detokenizer": "roundtrip", "stride": 32, "unit": "words+eos"},
    "winograd": {"score": "partial"},
    "winograd-full": {"score": "full"},
}
"""What is known, or very likely, of how the paper did it, as options of our tasks. WikiText-103's figures are those
of the text as it is for three sizes and of de-tokenized text for the largest, so its de-tokenizer is not named; those
of the other sets were not published: `roundtrip`, ours, stands for any invertible one."""


def paper_options(label: str) -> Mapping[str, Any]:
    """The options of a label's task that are known to be the paper's, none for a set that it doesn't have."""
    return PAPER_OPTIONS.get(set_of(label), {})


def set_of(label: str) -> str:
    """The set that a label of a suite is measured on."""
    return _SETS.get(label, label)


def paper_column(label: str, metric: str) -> PaperColumn | None:
    """All that the paper says of a label's metric."""
    return PAPER.get((set_of(label), metric))


def paper_figure(label: str, metric: str, size: ModelSize) -> PaperFigure | None:
    """The paper's value of a label's metric for one of its sizes, None where it gives none."""
    column = paper_column(label, metric)
    if column is None or size.name not in column.values:
        return None
    return PaperFigure(column.values[size.name], column.where, column.certainty.get(size.name, "read"))


def nearest_size(parameters: int) -> ModelSize:
    """The paper's size whose count of parameters is fewest times larger or smaller."""
    return min(SIZES, key=lambda size: abs(math.log(size.parameters / max(parameters, 1))))


def is_same_size(parameters: int, size: ModelSize) -> bool:
    """Whether a model is of a size of the paper (a padded vocabulary or a few parameters more don't make another)."""
    return abs(parameters / size.parameters - 1) < 0.02


def measurements(label: str, metric: str, size: ModelSize) -> list[Measurement]:
    """Every published re-measurement of a label's metric with the weights of a size."""
    wanted = (set_of(label), metric)
    return [one for one in MEASUREMENTS if (one.set, one.metric) == wanted and size.name in one.values]


def has_options(options: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Whether a task's options are those of a published protocol (None: unknown, so they are not).

    Options that it doesn't speak of don't matter.
    """
    return wanted is not None and all(name in options and options[name] == value for name, value in wanted.items())
