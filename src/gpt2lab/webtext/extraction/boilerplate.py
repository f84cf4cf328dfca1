"""Words by which pages name their parts and lead in what is not the article: the rules of thumb, all in one place.

Class and id names are written for style sheets, not for us, so a name alone never removes much text: see
`article.py` for how much of a page a node may hold and still be taken at its word. All patterns are searched in
strings of bounded length, so that none can be made slow.
"""

import re

LONGEST_NAME = 300
"""Characters of an element's id and classes that are looked at."""

AWAY, ASIDE, PLAIN = 2, 1, 0
"""What a name or tag says of an element: surely not the article; likely a side matter inside it; nothing."""

AWAY_TAGS = frozenset(["nav", "footer", "aside"])
AWAY_ROLES = frozenset(["navigation", "complementary", "banner", "contentinfo", "search", "dialog"])
ASIDE_TAGS = frozenset(["figure", "figcaption", "form", "address", "dialog", "fieldset"])


def _any_of(*patterns: str) -> re.Pattern[str]:
    """A pattern for any of these in lower-case names; ^ and $ at the ends stand for the bounds of a word.

    Grouped by first letter, and each bound checked behind that letter: three times as fast as the plain alternation,
    and names are what costs most on a site not seen before.
    """
    by_letter: dict[str, list[str]] = {}
    for pattern in patterns:
        start = pattern.startswith("^")
        letter, rest = pattern.removeprefix("^")[0], pattern.removeprefix("^")[1:]
        if rest.endswith("$"):
            rest = rest[:-1] + "(?![a-z])"
        by_letter.setdefault(letter, []).append((f"(?<![a-z]{letter})" if start else "") + rest)
    return re.compile("|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in sorted(by_letter.items())))


_AWAY = _any_of(
    # ways around the site
    *("^nav$", "navbar", "navigation", "navbox", "^menu", "bread-?crumb", "pagination", "^pager$", "masthead"),
    *("skip-?link", "side-?bar", "^rail$", "right-?rail", "footer", "^foot$", "colophon"),
    # what readers say
    *("comment(?!ary|ator)", "disqus", "respond$"),
    # what wants a click first
    *("cookie", "consent", "gdpr", "privacy", "^cli-", "^modal", "pop-?up", "tooltip"),
    *("newsletter", "sign-?up", "mc4wp", "mailchimp", "paywall$"),
    # what others pay for, and what follows without end
    *("outbrain", "taboola", "zergnet", "recirc", "infinite-?scroll"),
    # what is not shown
    *("hidden(?<!no-hidden)(?<!label-hidden)$", "sr-only", "screen-?reader", "visually-?hidden", "print-?only"),
    *("noprint", "display-?none", "noexcerpt"),
)

_ASIDE = _any_of(
    *("^shar(e|ing|er|es)$", "sharedaddy", "addthis", "sharethis", "share-?(bar|button|tool|link|icon)"),
    *("social", "sociable", "^follow"),
    *("related", "recommend", "trending", "popular", "read-?(more|next|also)", "see-?also", "you-?may", "suggested"),
    *("more-?(from|on|stor|news|article|post)", "promo", "teaser", "next-?(post|article|story)", "up-?next"),
    *("prev(ious)?-?(post|article|next|story)", "also-?(read|like)", "latest-"),
    *("subscri", "^cta$", "login", "donat", "mailing", "membership", "opt-?in"),
    *("by-?line", "author", "^bio$", "dateline", "timestamp", "^date$", "datetime"),
    *("pub-?date", "meta-?(data|info|bar)", "^meta$", "published", "posted-?(on|in|by)"),
    *("contributor", "reading-?time", "profile", "credit$", "copyright", "disclaimer", "disclosure"),
    *("caption", "gallery", "slideshow", "carousel", "lightbox", "^embed", "^video-?player"),
    *("^ads?$", "advert", "sponsor", "dfp", "ad-?(slot|wrapper|container|unit|block)"),
    *("commercial$", "affiliate", "banner", "widget", "overlay", "toast", "sticky"),
    *("^tags?$", "topics?$", "categor(y|ies)$", "keywords", "filed-?under"),
    *("^search$", "^btn$", "button$", "^poll$", "quiz", "^form$", "rating", "vote", "toolbar", "^tools$"),
    *("pull-?quote", "fact-?box", "^toc$", "table-?of-?contents", "edit-?section", "hatnote"),
)

_BODY = _any_of(
    *(
        f"{word}[-_ ]{{0,3}}(body|content|text|copy|detail)"
        for word in "article story entry post news blog page".split()
    ),
    *("body-?(text|copy|content)", "content-?(body|text|main)", "main-?(content|text)", "field-?(name-)?body"),
    *("wysiwyg", "rich-?text", "prose$", "single-content", "hentry"),
)

_UNSEEN = _any_of("sr-only", "screen-?reader", "visually-?hidden", "hidden(?<![a-z0-9_-]hidden)(?![a-z0-9_-])")


def weigh_name(name: str) -> tuple[int, bool]:
    """What an element's id and classes say: AWAY, ASIDE or PLAIN, and whether it calls itself the article's body."""
    name = name.lower()
    body = bool(_BODY.search(name))
    if "hentry" in name or "type-post" in name:
        return PLAIN, body  # WordPress lists a post's author, tags and categories among the classes around it
    if _AWAY.search(name):
        return AWAY, body
    return ASIDE if _ASIDE.search(name) else PLAIN, body


def is_unseen(name: str) -> bool:
    """Whether the classes of a piece of a line say that it is for screen readers only."""
    return bool(_UNSEEN.search(name.lower()))


LONGEST_HEADING = 80
_OFFERS = re.compile(
    r"\W*(you (may|might)|more (from|on|stor|news|article|like|about|in)|more:?$|related|recommended|"
    r"read (more|next|also)|see also|also (read|on|see)|trending|popular|most (read|popular|viewed)|"
    r"latest (news|stor|post)|(leave|post|add) a|(\d+ )?comments?\b|share (this|on)|about the author|join the|sign up|"
    r"subscri|newsletter|further reading|what to read next|keep reading|next article|don['’]?t miss|follow us|"
    r"sponsored|promoted|tags?:?$|categories|topics:?$|conversation|featured|editor['’]?s pick|get (the|our) |"
    # German, Spanish, Portuguese, French, Italian, Dutch, Russian, Japanese, Indonesian
    r"mehr zum|lesen sie|verwandte|ähnliche|artículos relacionados|te puede interesar|leia (mais|também)|veja também|"
    r"(à )?lire aussi|sur le même|leggi anche|potrebbe interess|lees ook|читайте также|関連記事|baca juga)",
    re.IGNORECASE,
)


def offers_other_pages(heading: str) -> bool:
    """Whether a heading stands over links to other pages, comments or an appeal, and not over a part of the article."""
    return len(heading) <= LONGEST_HEADING and bool(_OFFERS.match(heading))


LONGEST_NOISE = 60
_NOISE = re.compile(
    r"\W*(advert(isement)?s?|ad|sponsored|iklan|anzeige|werbung|publicidad|publicidade|publicité|реклама|広告|"
    r"share|tweet|pin( it)?|share this( article| story)?|print|email|comments?|read more|loading\.*|"
    r"continue reading( below)?|story continues( below( advertisement)?)?|article continues below|"
    r"advertisement - (story continues|continue reading) below|scroll to continue|image|photo|video|watch|listen|play|"
    r"close|copy link|link copied|save|follow|subscribe|sign up|menu|search|skip|back to top|top|next|previous|more|"
    r"\d+ (shares|comments)|(hide|toggle) caption|enlarge|view gallery|facebook|twitter|linkedin|whatsapp|reddit|"
    r"pinterest)\W*",
    re.IGNORECASE,
)


def is_noise(text: str) -> bool:
    """Whether a short text is nothing but the label of a button, an advertisement or the like."""
    return len(text) <= LONGEST_NOISE and bool(_NOISE.fullmatch(text))


LONGEST_TAIL = 300
_TAIL = re.compile(
    r"\W*(follow|subscribe|sign up|share|read (more|next|also)|related|see also|more on|more:|also read|advert|"
    r"sponsored|photo|image|picture|credits?\b|copyright|©|\(c\)|all rights|have a tip|get (the latest|access)|"
    r"click here|listen|citation|explore further|this document|comments?\b|leave a|tell us|join |download|watch|"
    r"source:|tags?:|filed under|posted (in|on)|published|updated|last (updated|modified)|loading|previous|next|print|"
    r"email|save|disclaimer|don['’]t forget|for more|if you (like|enjoy|found)|like this|thanks for|"
    r"you can (follow|find)|contact|reach|write to|visit|find out more|learn more|view |originally|"
    r"this (article|story|post) (was|first|originally|appeared)|topics)",
    re.IGNORECASE,
)


def is_tail(text: str) -> bool:
    """Whether a short text, if it is the last one, is an appeal, a credit or a note of the publisher's."""
    return len(text) <= LONGEST_TAIL and bool(_TAIL.match(text))
