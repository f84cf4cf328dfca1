"""Reddit submissions as Pushshift and Arctic Shift dump them: one JSON object a line, whatever year it is from."""

import json
from typing import Any, NamedTuple

_REMOVED_WORDS = frozenset({"[removed]", "[deleted]", "[deleted by user]"})
_FLAGS = (None, False, True)
_LARGEST_NUMBER = 1 << 53
_LATEST_SECOND = 1 << 33  # the year 2242


class Mention(NamedTuple):
    """A link as one place gives it."""

    url: str
    score: int | None
    """None: from a list of links that says nothing about it"""
    first_seen: int | None = None
    """seconds since 1970 in UTC"""
    submissions: int = 0
    source: str | None = None
    """where it says itself it comes from"""


def read_submission(line: bytes, over_18: bool) -> Mention | str:
    """The link that a line of a dump submits, or the reason why there is none to take.

    The rules are OpenWebText's (no self posts, nothing for adults) and ours (nothing that was removed). Scores are not
    judged here. Missing flags count as false: the first years' dumps lack some.
    """
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "line: not UTF-8"
    except (ValueError, RecursionError):
        return "line: not valid JSON"
    if not isinstance(found, dict):
        return "line: not a JSON object"
    url, score = found.get("url"), _whole_number(found.get("score"))
    domain = found.get("domain")
    if found.get("is_self") not in _FLAGS or found.get("over_18") not in _FLAGS:
        return "line: is_self or over_18 is neither true nor false"
    if found.get("is_self") or (isinstance(domain, str) and domain.startswith("self.")):
        return "self post"
    if _is_removed(found):
        return "removed or deleted"
    if not isinstance(url, str):
        return "line: no url" if url is None else "line: url is no text"
    if score is None:
        return "line: no score" if found.get("score") is None else "line: score is no whole number"
    if found.get("over_18") and not over_18:
        return "over 18"
    created = _whole_number(found.get("created_utc"))
    return Mention(url, score, created if created is not None and 0 < created < _LATEST_SECOND else None, 1)


def _whole_number(value: Any) -> int | None:
    """Old dumps hold some numbers as text, and some programs write every number with a point."""
    if isinstance(value, str) and len(value) < 20 and value.removeprefix("-").isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_NUMBER:
        return None
    return value


def _is_removed(found: dict[str, Any]) -> bool:
    """Taken down by moderators, by Reddit, or by whoever posted it. A deleted author alone removes no link."""
    if found.get("removed_by_category") or found.get("removed_by") or found.get("banned_by"):
        return True
    return any(isinstance(text := found.get(name), str) and text in _REMOVED_WORDS for name in ("selftext", "title"))
