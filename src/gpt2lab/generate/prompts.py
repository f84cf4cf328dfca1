"""What stands before a continuation: the paper's tasks, samples of a style, cut to fit the context. No torch here.

The tasks are asked in the words of Radford et al. 2019, sections 3.5 to 3.8: `TL;DR:` after an article, pairs of
`english sentence = french sentence`, questions and answers that end in `A:`. Where the paper is silent (line breaks,
how an answer ends), the choice is ours, and so are all examples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from gpt2lab.base.errors import BadInput
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.tokens.bpe import ByteLevelBPE

Task = Literal["summarize", "translate", "answer"]
TASKS: tuple[Task, ...] = get_args(Task)
Pair = tuple[str, str]

TASK_OPTIONS: Mapping[Task, SamplingOptions] = {
    "summarize": SamplingOptions(max_tokens=100, top_k=2),
    "translate": SamplingOptions(max_tokens=100, temperature=0.0, stop=("\n",)),
    "answer": SamplingOptions(max_tokens=50, temperature=0.0, stop=("\n",)),
}
"""How the paper decodes: summaries with top-k 2, the others greedily, to the end of a line (the ends are ours)."""

SENTENCES_KEPT: Mapping[Task, int | None] = {"summarize": 3, "translate": 1, "answer": None}

TRANSLATIONS: tuple[Pair, ...] = (
    ("The train leaves at eight in the morning.", "Le train part à huit heures du matin."),
    ("Where did you put the keys?", "Où as-tu mis les clés ?"),
    ("My sister has lived in this town for ten years.", "Ma sœur habite dans cette ville depuis dix ans."),
    ("It rained all night, so the garden is wet.", "Il a plu toute la nuit, donc le jardin est mouillé."),
    ("I would like a cup of tea, please.", "Je voudrais une tasse de thé, s'il vous plaît."),
)
ANSWERS: tuple[Pair, ...] = (
    ("How many days are there in a week?", "seven"),
    ("What is the capital of Portugal?", "Lisbon"),
    ("Which planet is closest to the Sun?", "Mercury"),
    ("Who wrote the play Hamlet?", "William Shakespeare"),
    ("In what year did the First World War begin?", "1914"),
)


@dataclass(frozen=True)
class Conditioning:
    """The text that a model continues: `body + tail`, where the body may be cut to fit, keeping its start or end."""

    tail: str
    body: str = ""
    keep: Literal["start", "end"] = "start"


def task_conditioning(task: Task, text: str, examples: Sequence[Pair] = (), document: str = "") -> Conditioning:
    """The prompt of a task for `text`: an article, a sentence, or a question (about `document`, where there is one).

    `examples` replace our own pairs; about a document they are the conversation so far, empty unless given.
    """
    text = text.strip()
    if not text:
        raise BadInput(
            f"--task {task}: nothing to work on; give a text as the prompt, with --file or on standard input."
        )
    if task == "summarize":
        return Conditioning("\nTL;DR:", text)
    if task == "translate":
        lines = [f"{english} = {french}\n" for english, french in examples or TRANSLATIONS]
        return Conditioning("".join(lines) + f"{' '.join(text.split())} =")
    document = document.strip()
    pairs = examples or (() if document else ANSWERS)
    asked = "".join(f"Q: {question}\nA: {answer}\n\n" for question, answer in pairs) + f"Q: {text}\nA:"
    return Conditioning(f"\n\n{asked}", document) if document else Conditioning(asked)


def style_conditioning(sample: str, prompt: str) -> Conditioning:
    """A prompt (or none) as the next paragraph of a text in the style that is wanted."""
    if not sample.strip():
        raise BadInput("--like: the file holds no text; give a sample of the style.")
    return Conditioning("\n\n" + prompt, sample.strip(), keep="end")


def fitted(
    conditioning: Conditioning, tokenizer: ByteLevelBPE, context_length: int, max_tokens: int
) -> tuple[str, int]:
    """The text to continue, its body cut at a border so that all of it and `max_tokens` more fit the context.

    Gives also how many characters of the body were left out. At most half the context is kept free for new tokens.
    """
    if not conditioning.body:
        return conditioning.tail, 0
    most = context_length - min(max_tokens, context_length // 2)
    room = most - len(tokenizer.encode(conditioning.tail))
    while True:
        body = shortened(conditioning.body, tokenizer, max(0, room), conditioning.keep)
        # Cut as far as nothing, its separator is not wanted either.
        text = body + conditioning.tail if body else conditioning.tail.lstrip("\n")
        over = len(tokenizer.encode(text)) - most
        if over <= 0 or not body:
            return text, len(conditioning.body) - len(body)
        room -= over  # where a text is cut, and joined again, its tokens may be others


def shortened(text: str, tokenizer: ByteLevelBPE, tokens: int, keep: Literal["start", "end"]) -> str:
    """As much of the start or end of `text` as fits into that many tokens, cut between paragraphs, lines or words.

    A border is taken in this order as long as it costs no more than half of what would fit.
    """
    # No token is longer than the longest one: what is beyond can't fit, however long the text.
    most = tokens * max(map(len, tokenizer.token_bytes))
    text = text[:most] if keep == "start" else text[-most:] if most else ""
    ids = tokenizer.encode(text)
    if len(ids) <= tokens:
        return text
    if not tokens:
        return ""
    kept = tokenizer.decode(ids[:tokens] if keep == "start" else ids[-tokens:]).strip("\N{REPLACEMENT CHARACTER}")
    for border in ("\n\n", "\n", " "):
        if keep == "start":
            cut = kept[:found] if (found := kept.rfind(border)) >= 0 else ""
        else:
            cut = kept[found + len(border) :] if (found := kept.find(border)) >= 0 else ""
        if 2 * len(cut) >= len(kept):
            return cut.strip("\n")
    return kept


# A period after a title or a single letter ends no sentence; a line break ends one without a period.
_SENTENCE = re.compile(
    r"""\S.*?(?:(?<!\b[A-Z])(?<!\bMr)(?<!\bDr)(?<!\bMs)(?<!\bSt)(?<!\bvs)(?<!\bMrs)[.!?…]+["'”’»)\]]*(?=\s)|(?=\n)|\Z)""",
    re.DOTALL,
)


def first_sentences(text: str, count: int) -> tuple[str, bool]:
    """The first sentences of a text, without the space around them, and whether more follows the last of them."""
    ends = [found.end() for found, _ in zip(_SENTENCE.finditer(text), range(count), strict=False)]
    if len(ends) < count:
        return text.strip(), False
    return text[: ends[-1]].strip(), ends[-1] < len(text)


def read_text(data: bytes, name: str) -> str:
    """A text from a file's bytes. Raises BadInput for what is no UTF-8 text."""
    if (place := data.find(b"\0")) >= 0:
        raise BadInput(f"{name}: a zero byte at {place:,}: binary, not text.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: not UTF-8 near byte {error.start:,}; convert it (iconv -t utf-8).") from None


def read_file(path: Path) -> bytes:
    """The bytes of a file that a user named; raises BadInput where it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {(error.strerror or str(error)).lower()}.") from None


def read_examples(path: Path) -> tuple[Pair, ...]:
    """Pairs for a task, one a line: `english = french`, `question = answer`, or the two with a tab between."""
    pairs = []
    for number, line in enumerate(read_text(read_file(path), str(path)).splitlines(), 1):
        if not line.strip():
            continue
        first, separator, second = line.partition("\t") if "\t" in line else line.partition(" = ")
        if not separator or not first.strip() or not second.strip():
            raise BadInput(f"{path}: line {number:,} is no pair; write `one = other`, or the two with a tab between.")
        pairs.append((first.strip(), second.strip()))
    if not pairs:
        raise BadInput(f"{path}: holds no examples; write one a line, `one = other`.")
    return tuple(pairs)
