"""What happens to one page: a cheap first look, extraction, repair, language, quality rules. Pure functions of it."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from gpt2lab.datasets.evaluation_texts import named_set
from gpt2lab.webtext.build_options import BuildOptions
from gpt2lab.webtext.extraction.extract import SLOW_EXTRACTORS, Extracted, Look, PageRefused
from gpt2lab.webtext.links.url_rules import url_key
from gpt2lab.webtext.overlap.contamination import EvaluationGrams, read_evaluation_grams
from gpt2lab.webtext.pages.page import Page, Unreadable, is_panic
from gpt2lab.webtext.quality.filters import Removal, Rule, judge, rules_of
from gpt2lab.webtext.quality.language import identify, wrong_language
from gpt2lab.webtext.quality.repair import repair
from gpt2lab.webtext.tables import Row
from gpt2lab.webtext.takedown import TakedownList, domain_list, read_takedown_list

FIRST_LOOK = "first look"
"""The extractor of pages that were given up before a real one was asked"""

TAKEDOWN, DROPPED = "takedown", "dropped domain"
"""Why pages are not looked at"""

_LOWER_BOUNDS = ("empty", "error_page", "too_short", "word_count")


@dataclass
class Settings:
    """What a worker needs to know for all its pages, and the seconds it spent at each step."""

    options: BuildOptions
    rules: tuple[Rule, ...]
    lower_bounds: tuple[Rule, ...]
    """rules that a page is sure to break when all that can be seen of it is too little for them"""
    takedown: TakedownList
    dropped: TakedownList
    evaluation: EvaluationGrams | None
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, options: BuildOptions) -> "Settings":
        """Read what the options name."""
        rules = rules_of(options.filters, options.without_rules, options.minimum_characters)
        return cls(
            options,
            rules,
            tuple(rule for rule in rules if rule.name in _LOWER_BOUNDS),
            read_takedown_list(options.takedown) if options.takedown else TakedownList(),
            domain_list(options.drop_domains, "drop-domains"),
            _evaluation_grams(options.decontaminate),
        )

    @contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Count the seconds of a block for a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def _evaluation_grams(sets: tuple[str, ...]) -> EvaluationGrams | None:
    named = [(name, path, path.stat().st_mtime_ns if path.exists() else 0) for name, path in map(named_set, sets)]
    return _read_evaluation_grams(tuple(named)) if named else None


@lru_cache(maxsize=1)  # one worker has many tasks
def _read_evaluation_grams(named: tuple[tuple[str, Path, int], ...]) -> EvaluationGrams:
    return read_evaluation_grams({name: path for name, path, _ in named})


def document_id(source_file: str, offset: int) -> str:
    """The id of a record: the same in every build of the same files."""
    return hashlib.sha256(f"{source_file}\0{offset}".encode(errors="surrogateescape")).hexdigest()[:24]


def row_of(item: Page | Unreadable, settings: Settings) -> Row:
    """The row of the stage table for one record; `reason` says why it is removed, if it is."""
    row: Row = {
        "id": document_id(item.source_file, item.index),
        "url": item.url,
        "source_file": item.source_file,
        "offset": item.index,
    }
    if settings.takedown.covers(item.url):
        return row | {"reason": TAKEDOWN}
    if isinstance(item, Unreadable):
        return row | {"reason": item.reason, "text": repair(item.excerpt)}
    row |= {"date": item.date}
    if settings.dropped.covers(item.url):
        return row | {"reason": DROPPED}
    try:
        row |= _judged(item, settings)
        row["characters"] = len(row["text"])
        if row.get("reason") is None:
            _add_what_is_compared(row, settings)
    except BaseException as error:  # other people's parsers on other people's pages
        if isinstance(error, MemoryError) or not (isinstance(error, Exception) or is_panic(error)):
            raise
        why = str(error) if isinstance(error, PageRefused) else type(error).__name__
        return row | {"extractor": settings.options.extractor, "reason": f"extractor failed: {why}"}
    return row


def _add_what_is_compared(row: Row, settings: Settings) -> None:
    """Of a text that passed: what tells pages of one address, and the evaluation set it holds too much of."""
    if row["url"] and settings.options.url_duplicates:
        row["url_key"] = url_key(row["url"])
    if settings.evaluation:
        with settings.clock("contamination"):
            verdict = settings.evaluation.share(row["text"]).verdict(settings.options.decontaminate_share)
        if verdict:
            row["contaminated_by"], row["contamination"] = verdict


def _judged(page: Page, settings: Settings) -> Row:
    if page.kind == "text":
        return _judged_text(Extracted("", page.content, "plain text", None), settings)
    with settings.clock("parse"):
        look = Look(page.content, settings.options.skip_elements)
    if settings.options.extractor in SLOW_EXTRACTORS:
        with settings.clock("first look"):
            hopeless = _hopeless(look.visible_text(), settings)
        if hopeless:
            return hopeless
    with settings.clock("extract"):
        extracted = look.extract(settings.options.extractor, page.url)
    row = _judged_text(extracted, settings)
    return row if page.date else row | {"date": extracted.date}


def _hopeless(text: str, settings: Settings) -> Row | None:
    """The row of a page whose visible text is too short, or surely in another language; None when it may be good."""
    row: Row = {"text": text, "extractor": FIRST_LOOK}
    short = judge(text, "", settings.lower_bounds)
    if short.removal and _is_too_little(short.removal, settings):
        return _removed(row, short.removal, short.scores)
    if settings.options.languages:
        language = identify(text)
        confident = language.confidence >= settings.options.language_confidence
        if confident and language.code not in settings.options.languages:
            return _removed(row | {"language": language.code}, Removal("language", language.confidence), short.scores)
    return None


def _is_too_little(removal: Removal, settings: Settings) -> bool:
    return any(rule.name == removal.rule and removal.value < rule.minimum for rule in settings.lower_bounds)


def _judged_text(extracted: Extracted, settings: Settings) -> Row:
    with settings.clock("repair"):
        text = repair(extracted.text)
    with settings.clock("language"):
        language = identify(text)
    row: Row = {
        "title": extracted.title or None,
        "text": text,
        "extractor": extracted.extractor,
        "language": language.code or None,
    }
    with settings.clock("rules"):
        wanted = settings.options.languages
        if wanted and (wrong := wrong_language(language, wanted, settings.options.language_confidence)):
            short = judge(text, extracted.title, settings.lower_bounds)  # that says more of a short text
            if not short.removal:
                return _removed(row, wrong, short.scores)
        judgement = judge(text, extracted.title, settings.rules)
    if judgement.removal:
        return _removed(row, judgement.removal, judgement.scores)
    return row | {"scores": judgement.scores}


def _removed(row: Row, removal: Removal, scores: dict[str, float]) -> Row:
    return row | {"reason": removal.rule, "value": removal.value, "scores": scores}
