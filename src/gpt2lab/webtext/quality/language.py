"""The language of a text, by py3langid's naive Bayes over byte n-grams (Lui & Baldwin 2012), offline."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.quality.filters import Removal

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MINIMUM_CONFIDENCE = 0.65
"""As in FineWeb (Penedo et al. 2024, section 3.3), though of another classifier: of 6,006 single lines of news in
English and French none was told wrongly with as much confidence, and 97 % had it; documents of ten lines all had."""

SAMPLES = 3  # from the beginning, the middle and the end
SAMPLE_CHARACTERS = 400  # each; four of 1000 found the same languages at half the speed
FEWEST_LETTERS = 10  # in fewer any language may be seen

_NO_LANGUAGE = "zxx"  # ISO 639's "no linguistic content", which the model learned of code and the like


@dataclass(frozen=True)
class Language:
    """ISO 639-1 code (639-3 where there is none; "" when unknown), and its probability among the languages known."""

    code: str
    confidence: float


UNKNOWN = Language("", 0.0)


def identify(text: str) -> Language:
    """The language of a text, from up to 1,200 characters of it; unknown when those hold fewer than 10 letters."""
    sample = _sample(text)
    if sum(map(str.isalpha, sample)) < FEWEST_LETTERS:
        return UNKNOWN
    code, confidence = _identifier().classify(sample)
    return UNKNOWN if code == _NO_LANGUAGE else Language(code, min(1.0, confidence))


def wrong_language(
    language: Language, wanted: tuple[str, ...], minimum_confidence: float = MINIMUM_CONFIDENCE
) -> Removal | None:
    """Why a text in this language is removed when only those of `wanted` are kept, or None; value: the confidence."""
    if language.code in wanted and language.confidence >= minimum_confidence:
        return None
    return Removal("language", language.confidence)


def check_languages(codes: tuple[str, ...]) -> None:
    """Raise BadOption when a code isn't among the languages that can be told."""
    known = set(_identifier().labels) - {_NO_LANGUAGE} if codes else set()
    for code in codes:
        if code not in known:
            raise BadOption(f"languages: {code!r} is no language known here; choose of {', '.join(sorted(known))}.")


def _sample(text: str) -> str:
    """The text, or pieces from all over a long one: the first lines of a page may be a menu in another language."""
    if len(text) <= SAMPLES * SAMPLE_CHARACTERS:
        return text
    step = (len(text) - SAMPLE_CHARACTERS) // (SAMPLES - 1)
    return "\n".join(text[n * step : n * step + SAMPLE_CHARACTERS] for n in range(SAMPLES))


@functools.cache
def _identifier() -> "LanguageIdentifier":
    """A classifier of our own (the package's module holds one that others may restrict); its calls share no state."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second that only builds should cost

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
