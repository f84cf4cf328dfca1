"""What a page declares about itself: title, date and linked data; never a guess."""

import json
import re
from datetime import date
from typing import Any

from lxml import etree

_DATE = re.compile(r"\s*(\d{4})-?(\d\d)-?(\d\d)(?!\d)")
_LONGEST_LINKED_DATA = 1_000_000

_PUBLISHED = (
    *("article:published_time", "og:published_time", "og:article:published_time", "datepublished", "date"),
    *(
        "pubdate",
        "publishdate",
        "publish-date",
        "publish_date",
        "published_time",
        "publication_date",
        "parsely-pub-date",
    ),
    *("sailthru.date", "dc.date", "dc.date.issued", "dc.date.created", "dcterms.date", "dcterms.issued"),
    *("dcterms.created", "citation_date", "citation_publication_date", "article.published", "displaydate"),
)
_MODIFIED = (
    "article:modified_time",
    "og:updated_time",
    "datemodified",
    "last-modified",
    "dcterms.modified",
    "dc.date.modified",
)
_RANKS = {name: rank for rank, name in enumerate(_PUBLISHED + _MODIFIED)}
_FIRST_MODIFIED = len(_PUBLISHED)


def page_title(root: etree._Element) -> str:
    """The text of the page's <title>, "" where there is none."""
    title = root.find("head/title")
    if title is None:
        title = root.find(".//title")
    return "" if title is None else " ".join("".join(title.itertext()).split())


def page_date(root: etree._Element) -> str | None:
    """The day (YYYY-MM-DD) on which the page says it was published, or else modified; None where it doesn't say.

    Sources, best first: <meta>, schema.org in JSON, <time itemprop="datePublished">.
    """
    found: dict[int, str] = {}
    for meta in root.iter("meta"):
        name = meta.get("property") or meta.get("name") or meta.get("itemprop") or ""
        rank = _RANKS.get(name[:40].lower())
        if rank is not None and rank not in found and (day := _day(meta.get("content"))):
            found[rank] = day
    if found and min(found) < _FIRST_MODIFIED:
        return found[min(found)]
    linked = linked_data(root)
    for wanted in ("datePublished", "dateModified"):
        for item in linked:
            if day := _day(item.get(wanted)):
                return day
    for time in root.iter("time"):
        declared = (time.get("itemprop") or "").lower() == "datepublished" or time.get("pubdate") is not None
        if declared and (day := _day(time.get("datetime"))):
            return day
    return found[min(found)] if found else None


def linked_data(root: etree._Element) -> list[dict[str, Any]]:
    """The objects of a page's JSON-LD, those of a list or @graph one by one; what is no JSON is left out."""
    items: list[dict[str, Any]] = []
    for script in root.iter("script"):
        if (script.get("type") or "").strip().lower() != "application/ld+json":
            continue
        text = script.text or ""
        if len(text) > _LONGEST_LINKED_DATA:
            continue
        try:
            data = json.loads(text.strip().removeprefix("<![CDATA[").removesuffix("]]>"), strict=False)
        except (ValueError, RecursionError):
            continue
        listed = data if isinstance(data, list) else [data]
        for item in listed:
            if isinstance(item, dict):
                graph = item.get("@graph")
                items += [item] if not isinstance(graph, list) else [one for one in graph if isinstance(one, dict)]
    return items


def _day(written: object) -> str | None:
    if not isinstance(written, str) or not (match := _DATE.match(written[:40])):
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3])).isoformat()
    except ValueError:
        return None
