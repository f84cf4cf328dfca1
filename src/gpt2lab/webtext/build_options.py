"""The options of `build`, checked when they are made."""

from dataclasses import dataclass, replace
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.datasets.evaluation_texts import named_set
from gpt2lab.webtext.extraction.extract import EXTRACTORS, Extractor, check_selectors
from gpt2lab.webtext.quality.filters import rules_of
from gpt2lab.webtext.quality.language import MINIMUM_CONFIDENCE, check_languages
from gpt2lab.webtext.takedown import domain_list


@dataclass(frozen=True)
class BuildOptions:
    """How documents are made. All but `workers` and `ray` decide what comes out.

    With `filters=("none",)` everything that has text is kept: no rules and no removal of duplicates.
    """

    extractor: Extractor = "auto"
    """how the text is found in a page of HTML"""
    skip_elements: tuple[str, ...] = ()
    """CSS selectors of elements to drop before, such as a site's header"""
    filters: tuple[str, ...] = ("web",)
    """sets of quality rules (web, paper, gopher, c4, fineweb, none) and single rules; docs/filters.md lists all"""
    without_rules: tuple[str, ...] = ()
    """rules or sets of rules to leave out of them"""
    minimum_characters: int = 128
    """the bound of the rule too_short (in web and paper): shorter texts are removed"""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes (en fr ...) of the languages to keep; none given: all"""
    language_confidence: float = MINIMUM_CONFIDENCE
    """probability from which a text counts as of its language"""
    drop_domains: tuple[str, ...] = ("wikipedia.org", "wikiwand.com")
    """sites to leave out, each with all below it; WebText has no Wikipedia"""
    url_duplicates: bool = True
    """of all pages of one address only the longest stays"""
    near_duplicates: float | None = 0.8
    """Jaccard similarity of word 5-grams from which a document is a duplicate; None: only exact ones"""
    decontaminate: tuple[str, ...] = ()
    """evaluation sets, NAME=PATH or PATH each; documents that hold too much of them are removed"""
    decontaminate_share: float = 0.5
    """share of a document's 8-grams, or of those of one item of a set, above which it is removed"""
    text_column: str = "text"
    """where JSON lines and Parquet files have their text"""
    takedown: Path | None = None
    """a list of domains and URLs whose pages are left out, text and all"""
    workers: int = 0
    """processes that extract; 0: one a core"""
    ray: str | None = None
    """HOST:PORT of a Ray cluster to run on instead; it must see the same files under the same names"""

    def __post_init__(self) -> None:
        if self.extractor not in EXTRACTORS:
            raise BadOption(f"extractor: {self.extractor!r} is unknown; choose one of {', '.join(EXTRACTORS)}.")
        rules_of(self.filters, self.without_rules, self.minimum_characters)
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise BadOption(f"near-duplicates: {self.near_duplicates} is no similarity; give a number in (0, 1].")
        for name in ("language_confidence", "decontaminate_share"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("_", "-")
                raise BadOption(f"{option}: {getattr(self, name)} is no share; give a number between 0 and 1.")
        check_languages(self.languages)
        domain_list(self.drop_domains, "drop-domains")
        names = [named_set(given)[0] for given in self.decontaminate]
        for name in names:
            if names.count(name) > 1:
                raise BadOption(f"decontaminate: two sets are called {name!r}; give NAME=PATH.")
        if self.minimum_characters < 0:
            raise BadOption(f"minimum-characters: {self.minimum_characters} is negative; give 0 or more.")
        if self.workers < 0:
            raise BadOption(f"workers: {self.workers} is too few; give 1 or more, or 0 for one a core.")
        check_selectors(self.skip_elements)


def with_absolute_paths(options: BuildOptions) -> BuildOptions:
    """The same options for processes that work in another folder."""
    named = map(named_set, options.decontaminate)
    sets = tuple(f"{name}={path.absolute()}" for name, path in named)
    return replace(options, decontaminate=sets, takedown=options.takedown and options.takedown.absolute())
