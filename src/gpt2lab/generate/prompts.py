"""What stands before a continuation: prompts from files, the paper's tasks, samples of a style. No torch here.

The tasks are asked in the words of Radford et al. 2019, sections 3.5 to 3.8: `TL;DR:` after an article, pairs of `english
sentence = french sentence`, questions and answers that end in `A:`. Where the paper is silent (blank lines, which
examples), the choice is ours, and so are all examples.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from gpt2lab.base.errors import BadInput, BadOption
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


@dataclass(frozen=True)
class Request:
    """One prompt as its user wrote it, with its options; `place` names it in messages (empty: there is but one)."""

    prompt: str
    options: SamplingOptions
    place: str = ""
    line: int | None = None
    id: Any = None
    document: str = ""


def task_conditioning(task: Task, text: str, examples: Sequence[Pair] = (), document: str = "") -> Conditioning:
    """The prompt of a task for `text`: an article, a sentence, or a question (about `document`, where there is one).

    `examples` replace our own pairs; about a document they are the conversation so far, and there are none unless given.
    """
    text = text.strip()
    if not text:
        raise BadInput(f"--task {task}: nothing to work on; give a text as the prompt, with --file or on standard input.")
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


def fitted(conditioning: Conditioning, tokenizer: ByteLevelBPE, context_length: int, max_tokens: int) -> tuple[str, int]:
    """The text to continue, its body cut at a border so that all of it and `max_tokens` more fit the context.

    Gives also how many characters of the body were left out. At most half the context is kept free for new tokens.
    """
    room = context_length - min(max_tokens, context_length // 2) - len(tokenizer.encode(conditioning.tail))
    body = shortened(conditioning.body, tokenizer, max(0, room), conditioning.keep)
    # Cut as far as nothing, its separator is not wanted either.
    text = body + conditioning.tail if body else conditioning.tail.lstrip("\n")
    return text, len(conditioning.body) - len(body)


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
            cut = kept[: found] if (found := kept.rfind(border)) >= 0 else ""
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


def read_requests(data: bytes, name: str, options: SamplingOptions) -> Iterator[Request | BadInput]:
    """Prompts of a file, one a line: text, or JSON objects (`.jsonl`, or a first line that is an object with a prompt).

    An object has `prompt`, optionally `id` (any value, handed through), `document` (of a question) and options of its
    own under the names of SamplingOptions. Empty lines are passed over. A line that can't be used comes out as the
    error that says so, with its number.
    """
    lines = data.split(b"\n")
    objects = name.endswith((".jsonl", ".ndjson")) or _is_prompt_object(lines[0])
    for number, line in enumerate(lines, 1):
        place = f"{name}: line {number:,}"
        try:
            text = read_text(line.removesuffix(b"\r"), place)
            if not text.strip():
                continue
            yield _request(text, place, number, options) if objects else Request(text, options, place, number)
        except BadInput as error:
            yield error


def _is_prompt_object(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "prompt" in found


def _request(line: str, place: str, number: int, options: SamplingOptions) -> Request:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadInput(f'{place} is not a JSON object; write {{"prompt": "..."}}.')
    prompt, document = record.pop("prompt", None), record.pop("document", "")
    if not isinstance(prompt, str) or not isinstance(document, str):
        raise BadInput(f"{place} has no text {'prompt' if not isinstance(prompt, str) else 'document'!r}.")
    identity = record.pop("id", None)
    try:
        check_unicode(prompt + document, place)
        return Request(prompt, with_options(options, record), place, number, identity, document)
    except BadOption as error:
        raise BadInput(f"{place}: {error}") from None


def check_unicode(text: str, place: str) -> None:
    """Raise BadInput for lone surrogates: bytes of a command line that were not UTF-8, or half a character in JSON."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{place}: character {error.start + 1:,} is broken: no valid Unicode.") from None


def with_options(options: SamplingOptions, given: Mapping[str, Any]) -> SamplingOptions:
    """`options` with the values of a JSON object in place of some. Raises BadOption for names or values that are none."""
    changes = {}
    for name, value in given.items():
        if name not in _TYPES:
            raise BadOption(f"{name!r} is no option; there are {', '.join(_TYPES)}.")
        read, wanted = _READERS[_TYPES[name]]
        try:
            changes[name] = read(value)
        except (TypeError, ValueError, OverflowError):
            raise BadOption(f"{name}: {json.dumps(value)} is not {wanted}.") from None
    return replace(options, **changes)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _whole_or_none(value: Any) -> int | None:
    return None if value is None else _whole(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError
    return tuple(texts)


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(map(_whole, _listed(value)))


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    if isinstance(value, dict):  # JSON's keys are texts
        return tuple((int(token), _number(bias)) for token, bias in value.items())
    return tuple((_whole(token), _number(bias)) for token, bias in _listed(value))


def _listed(value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


_READERS: Mapping[Any, tuple[Callable[[Any], Any], str]] = {
    int: (_whole, "a whole number"),
    int | None: (_whole_or_none, "a whole number, or null"),
    float: (_number, "a number"),
    bool: (_truth, "true or false"),
    tuple[str, ...]: (_texts, "a text, or a list of texts"),
    tuple[int, ...]: (_ids, "a list of token ids"),
    tuple[tuple[int, float], ...]: (_biases, "an object of token ids and numbers"),
}
_TYPES = {field.name: field.type for field in fields(SamplingOptions)}
