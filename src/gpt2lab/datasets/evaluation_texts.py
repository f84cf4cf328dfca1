"""The texts of published evaluation sets: what a model is shown or has to predict, an item each.

| set | form that is recognised | text of an item |
|---|---|---|
| LAMBADA (Paperno et al. 2016) | JSON lines with `text`; `lambada*.txt`, one a line | the passage with its last word |
| WikiText (Merity et al. 2017) | ` = Title = ` as the first line | an article |
| Children's Book Test (Hill et al. 2016) | lines 1 to 21; `_BOOK_TITLE_ :` | context and answered question; book |
| CoQA (Reddy et al. 2019) | JSON `data`, or lines, with `story` | the story |
| Winograd schemas (Levesque et al. 2012) | WSCollection.xml; `[MASK]` blocks | the sentence, its mask answered |
| HellaSwag (Zellers et al. 2019) | `ctx`, `endings`, `label` | context and the right ending |
| PIQA (Bisk et al. 2020) | `goal`, `sol1`, `sol2` (labels are in another file) | goal and both solutions |
| NQ-open (Kwiatkowski et al. 2019) and others | `question` | the question |
| multiple choice as llm-foundry keeps it | `query`, `choices`, `gold` | query and the right choice |
| with two contexts | `context_options`, `continuation`, `gold` | the right context and the continuation |
| with a continuation | `context`, `continuation` or `answer` | both |
| One Billion Words (Chelba et al. 2013) | `news.en*` | a line (they are shuffled) |
| PTB, enwik8, text8 and any other text | | the whole file |
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.texts import (
    Record,
    open_bytes,
    read_json_lines,
    read_parquet_records,
    read_plain_pieces,
    suffix_of,
)

LARGEST_CHARACTERS = 1 << 30
_WIKITEXT_TITLE = re.compile(r"(?:\A\s*?|(?<=\n \n)) = (?!=)[^\n]* = (?=\n \n)")
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_CBT_QUESTION = re.compile(r"^21 ([^\t]*)\t+([^\t]*)\t.*$")
_ONE_A_LINE = ("lambada", "news.en")
_MASK = "[MASK]"


def read_evaluation_texts(path: Path) -> Iterator[str]:
    """The texts of an evaluation set's file, in its order; the table above says which.

    Raises BadInput, naming the file and the place, for what is absent, binary, damaged or has no text we know of.
    """
    match suffix_of(path):
        case ".parquet":
            return (_text_of(record, f"{path}: row {row:,}") for row, record in read_parquet_records(path))
        case ".jsonl":
            return (_text_of(record, f"{path}: line {line:,}") for line, record in read_json_lines(path))
        case ".json":
            return _read_json(path)
        case _:
            return _read_plain(path)


def _text_of(record: Record, place: str) -> str:
    match record:
        case {"text": str(text)} | {"story": str(text)} | {"article": str(text)}:
            return text
        case {"ctx": str(context), "endings": [*endings]}:
            return f"{context} {_gold(endings, record.get('label'), place)}".rstrip()
        case {"goal": str(goal), "sol1": str(first), "sol2": str(second)}:
            return f"{goal}\n{first}\n{second}"
        case {"query": str(query), "choices": [*choices], "gold": gold}:
            return f"{query} {_gold(choices, gold, place)}"
        case {"context_options": [*contexts], "continuation": str(continuation), "gold": gold}:
            return f"{_gold(contexts, gold, place)} {continuation}"
        case {"context": str(context), "continuation": str(end)} | {"context": str(context), "answer": str(end)}:
            return f"{context} {end}"
        case {"question": str(question)}:
            return question
    known = "text, story, article, question, ctx, goal, query, context"
    raise BadInput(f"{place} has no text we know of ({', '.join(record)}); name its column text (or one of {known}).")


def _gold(options: list[Any], label: Any, place: str) -> str:
    """The right one of the options; none where the label is kept secret, as in HellaSwag's test set."""
    if label in ("", None):
        return ""
    try:
        return str(options[int(label)])
    except (ValueError, TypeError, IndexError):
        raise BadInput(f"{place}: label {label!r} is none of its {len(options)} options; mend the line.") from None


def _read_json(path: Path) -> Iterator[str]:
    """A list of objects, maybe under `data` as in CoQA's own file; or JSON lines under another name."""
    with open_bytes(path) as handle:
        try:
            content = json.load(handle)
        except (ValueError, RecursionError):
            content = None
    if isinstance(content, dict):
        content = content.get("data", [content])
    if not isinstance(content, list):
        yield from (_text_of(record, f"{path}: line {line:,}") for line, record in read_json_lines(path))
        return
    for number, record in enumerate(content, 1):
        if not isinstance(record, dict):
            raise BadInput(f"{path}: item {number:,} is not an object; give a list of objects, each with its text.")
        yield _text_of(record, f"{path}: item {number:,}")


def _read_plain(path: Path) -> Iterator[str]:
    if suffix_of(path) == ".xml" and (items := _schema_sentences(path)):
        yield from items
        return
    text = "".join(_no_larger(path, read_plain_pieces(path))).replace("\r\n", "\n")
    lines = _BLANK_LINES.sub("", text, count=1).split("\n", 2)
    if path.name.lower().startswith(_ONE_A_LINE):
        yield from filter(str.strip, text.split("\n"))
    elif _WIKITEXT_TITLE.match(text):
        starts = [title.start() for title in _WIKITEXT_TITLE.finditer(text)]
        yield from (text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True))
    elif lines[0].startswith("_BOOK_TITLE_ :"):
        yield from filter(str.strip, text.split("_BOOK_TITLE_ :"))
    elif lines[0].startswith("1 ") and len(lines) > 1 and lines[1].startswith("2 "):
        yield from filter(None, map(_cbt_text, text.split("\n\n")))
    elif len(lines) > 1 and _MASK in lines[0] and lines[1].strip() == _MASK:
        yield from (_unmasked(block, f"{path}: schema {n:,}") for n, block in enumerate(_blocks(text), 1))
    elif text.strip():
        yield text


def _no_larger(path: Path, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces, as long as they are no more than a text that is held in memory may be."""
    characters = 0
    for piece in pieces:
        characters += len(piece)
        if characters > LARGEST_CHARACTERS:
            raise BadInput(f"{path}: more than {LARGEST_CHARACTERS >> 20} Mi characters; give its items as JSON lines.")
        yield piece


def _schema_sentences(path: Path) -> list[str]:
    """The sentences of a collection of Winograd schemas; none for other XML, such as Wikipedia's, which is text."""
    with open_bytes(path) as handle:
        if b"<schema>" not in handle.read(4096):
            return []
    with open_bytes(path) as handle:
        content = handle.read()
    encoding = "iso-8859-1" if b'encoding="ISO-8859-1"' in content[:100] else "utf-8"
    # Not an XML parser: the file is flat, and no entities of its own can then be expanded.
    schemas = re.findall(r"<schema>\s*<text>(.*?)</text>", content.decode(encoding, "replace"), re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", schema).split()) for schema in schemas]


def _blocks(text: str) -> list[str]:
    return [block for block in re.split(r"\n\s*\n", text) if block.strip()]


def _unmasked(block: str, place: str) -> str:
    lines = block.strip().split("\n")
    if len(lines) != 4:
        raise BadInput(f"{place} has {len(lines)} lines, not four (sentence, {_MASK}, candidates, answer); mend it.")
    return lines[0].replace(_MASK, lines[3].strip())


def _cbt_text(item: str) -> str:
    lines = []
    for line in item.strip().split("\n"):
        question = _CBT_QUESTION.match(line)
        lines.append(question[1].replace("XXXXX", question[2]) if question else line.partition(" ")[2])
    return "\n".join(lines)


def named_set(given: str) -> tuple[str, Path]:
    """NAME=PATH; of a PATH alone the name is its folder's and its own."""
    name, equals, path = given.partition("=")
    if equals and name and not Path(given).exists():
        return name, Path(path)
    return "/".join(Path(given).parts[-2:]), Path(given)
