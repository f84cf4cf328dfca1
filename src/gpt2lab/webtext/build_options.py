"""The options of `build`, checked when they are made."""

from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.extraction.extract import EXTRACTORS, Extractor, check_selectors
from gpt2lab.webtext.quality.filters import RULE_SETS, RuleSet


@dataclass(frozen=True)
class BuildOptions:
    """How documents are made. All but `workers` decide what comes out.

    With `filters="none"` everything that has text is kept: no rules and no removal of duplicates.
    """

    extractor: Extractor = "auto"
    """how the text is found in a page of HTML"""
    skip_elements: tuple[str, ...] = ()
    """CSS selectors of elements to drop before, such as a site's header"""
    filters: RuleSet = "web"
    """quality rules: web (Gopher's), paper (error pages and short texts only), none"""
    minimum_characters: int = 128
    """shorter texts are removed, unless filters is none"""
    near_duplicates: float | None = 0.8
    """Jaccard similarity of word 5-grams from which a document is a duplicate; None: only exact ones"""
    text_column: str = "text"
    """where JSON lines and Parquet files have their text"""
    takedown: Path | None = None
    """a list of domains and URLs whose pages are left out, text and all"""
    workers: int = 0
    """processes that extract, one input file each at a time; 0: one a core"""

    def __post_init__(self) -> None:
        if self.extractor not in EXTRACTORS:
            raise BadOption(f"extractor: {self.extractor!r} is unknown; choose one of {', '.join(EXTRACTORS)}.")
        if self.filters not in RULE_SETS:
            raise BadOption(f"filters: {self.filters!r} is unknown; choose one of {', '.join(RULE_SETS)}.")
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise BadOption(f"near-duplicates: {self.near_duplicates} is no similarity; give a number in (0, 1].")
        if self.minimum_characters < 0:
            raise BadOption(f"minimum-characters: {self.minimum_characters} is negative; give 0 or more.")
        if self.workers < 0:
            raise BadOption(f"workers: {self.workers} is too few; give 1 or more, or 0 for one a core.")
        check_selectors(self.skip_elements)
