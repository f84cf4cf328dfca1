"""text8 (Mahoney 2006): Wikipedia as nothing but the letters a to z and single spaces, digits spelled out.

It is the first 10^8 characters of what the rule below makes of enwik9, the first 10^9 bytes of English Wikipedia's dump
of 3 March 2006 (http://mattmahoney.net/dc/textdata.html, appendix A). enwik8 gives only the beginning of it, as markup
is removed: the test set, the last 5,000,000 characters, comes from pages after enwik8's end.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import sha256_of, whole_file
from gpt2lab.base.progress import progress_bar
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, FoundFile, PublishedFile
from gpt2lab.datasets.fetching import place_in_cache
from gpt2lab.datasets.texts import open_bytes

CHARACTERS = 100_000_000
TEST_SHARE = 20
"""The last twentieth is the test set, the one before it for validation, as everyone splits it."""
_LICENCE = "GFDL and CC BY-SA"
TEXT8 = PublishedFile(
    name="text8",
    patterns=("text8",),
    sha256="6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
    url="http://mattmahoney.net/dc/text8.zip",
    licence=_LICENCE,
    member="text8",
)
ENWIK9 = PublishedFile(
    name="enwik9",
    patterns=("enwik9",),
    sha256=None,
    url="http://mattmahoney.net/dc/enwik9.zip",
    licence=_LICENCE,
    member="enwik9",
)
_PIECE = 1 << 22
_LONGEST_STRETCH = 1 << 26
_DIGITS = dict(zip(b"0123456789", b"zero one two three four five six seven eight nine".split(), strict=True))
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE if ignore_case else 0), replacement)
    for pattern, replacement, ignore_case in (
        (rb"<.*>", b"", False),  # tags, at most one stretch of them on one line
        (rb"&amp;", b"&", False),
        (rb"&lt;", b"<", False),
        (rb"&gt;", b">", False),
        (rb"<ref[^<]*</ref>", b"", False),
        (rb"<[^>]*>", b"", False),
        (rb"\[http:[^] ]*", b"[", False),
        (rb"\|thumb", b"", True),
        (rb"\|left", b"", True),
        (rb"\|right", b"", True),
        (rb"\|\d+px", b"", True),
        (rb"\[\[image:[^\[\]]*\|", b"", True),
        (rb"\[\[category:([^|\]]*)[^]]*\]\]", rb"[[\1]]", True),
        (rb"\[\[[a-z\-]*:[^\]]*\]\]", b"", False),  # other languages
        (rb"\[\[[^|\]]*\|", b"[[", False),
        (rb"\{\{[^}]*\}\}", b"", False),
        (rb"\{[^}]*\}", b"", False),
        (rb"\[", b"", False),
        (rb"\]", b"", False),
        (rb"&[^;]*;", b" ", False),
    )
)
_DIGIT = re.compile(rb"[0-9]")
_OTHERS = re.compile(rb"[^a-z]+")
_REDIRECT = re.compile(rb"#redirect", re.IGNORECASE)


def read_text8(source: DataSource) -> EvaluationSet[str]:
    """One item: the last 5,000,000 characters; of a changed file its last twentieth. Made of enwik9 where that is."""
    found = source.find(TEXT8)
    if found is None and (whole := source.find(ENWIK9)) is not None:
        found = _made(source, whole)
    found = found or source.file(TEXT8)
    with open_bytes(Path(found.path)) as handle:
        text = handle.read(CHARACTERS + 1)
    found = source.check_count(found, len(text), CHARACTERS, "characters")
    if len(text) < TEST_SHARE:
        raise BadInput(f"{found.path}: {len(text)} characters are too few to test on; get {TEXT8.url}.")
    return EvaluationSet((text[-(len(text) // TEST_SHARE) :].decode("utf-8", "replace"),), (found,))


def _made(source: DataSource, whole: FoundFile) -> FoundFile:
    """text8, made of enwik9 into the cache."""
    path = place_in_cache(whole.sha256, "text8")
    if not path.is_file():
        with open_bytes(Path(whole.path)) as pages, whole_file(path) as out:
            left = CHARACTERS
            with progress_bar("text8", CHARACTERS, "characters") as bar:
                for text in letters_and_spaces(iter(lambda: pages.read(_PIECE), b"")):
                    out.write(text[:left])
                    bar.advance(len(text[:left]))
                    left -= len(text[:left])
                    if not left:
                        break
    content = sha256_of(path)
    if content != TEXT8.sha256 and not source.allow_changed:
        raise BadInput(
            f"{whole.path}: what is made of it is not text8 (SHA-256 {content}, not {TEXT8.sha256}); get {TEXT8.url},"
            " or take it as it is with --allow-changed-data."
        )
    return FoundFile(TEXT8.name, str(path), content, content == TEXT8.sha256)


def letters_and_spaces(dump: Iterable[bytes]) -> Iterator[bytes]:
    """The text of a Wikipedia dump, given in pieces, by the rule that text8 was made with.

    Each stretch up to a > is filtered by itself, as the original program reads them: that its patterns don't reach
    across is part of the rule. Raises BadInput for what has no > for 64 MiB.
    """
    inside, rest = False, b""
    for piece in dump:
        *stretches, rest = (rest + piece).split(b">")
        if len(rest) > _LONGEST_STRETCH:
            raise BadInput(f"no > in {_LONGEST_STRETCH >> 20} MiB: this is no dump of Wikipedia.")
        made = []
        for stretch in stretches:
            inside, text = _filtered(inside, stretch + b">")
            made.append(text)
        yield b"".join(made)
    yield _filtered(inside, rest)[1] if rest else b""


def _filtered(inside: bool, stretch: bytes) -> tuple[bool, bytes]:
    """Whether the text of a page goes on after a stretch, and what of the stretch is kept."""
    if b"<text " in stretch:
        inside = True
    if _REDIRECT.search(stretch):
        inside = False
    if not inside:
        return False, b""
    goes_on = b"</text>" not in stretch
    for number, (pattern, replacement) in enumerate(_RULES):
        stretch = pattern.sub(replacement, stretch, count=0 if number else 1)
    spelled = _DIGIT.sub(lambda digit: b" " + _DIGITS[digit[0][0]] + b" ", b" " + stretch.lower() + b" ")
    return goes_on, _OTHERS.sub(b" ", spelled)[:-1]
