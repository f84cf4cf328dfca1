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

_START, _END = r"(?<![a-z])", r"(?![a-z])"


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_AWAY = _any_of(
    # ways around the site
    *(_START + "nav" + _END, "navbar", "navigation", "navbox", _START + "menu", "bread-?crumb", "pagination"),
    *(_START + "pager" + _END, "masthead", "skip-?link", "side-?bar", _START + r"(right-?)?rail" + _END, "right-?rail"),
    *("footer", _START + "foot" + _END, "colophon"),
    # what readers say
    *("comment(?!ary|ator)", "disqus", "respond" + _END),
    # what wants a click first
    *("cookie", "consent", "gdpr", "privacy", _START + "cli-", _START + "modal", "pop-?up", "tooltip"),
    *("newsletter", "sign-?up", "mc4wp", "mailchimp", "paywall" + _END),
    # what others pay for, and what follows without end
    *("outbrain", "taboola", "zergnet", "recirc", "infinite-?scroll"),
    # what is not shown
    *(r"(?<!no-)(?<!label-)hidden" + _END, "sr-only", "screen-?reader", "visually-?hidden", "print-?only", "noprint"),
    *("display-?none", "noexcerpt"),
)

_ASIDE = _any_of(
    *(_START + "shar(e|ing|er|es)" + _END, "sharedaddy", "addthis", "sharethis", "share-?(bar|button|tool|link|icon)"),
    *("social", "sociable", _START + "follow"),
    *("related", "recommend", "trending", "popular", "read-?(more|next|also)", "see-?also", "you-?may", "suggested"),
    *("more-?(from|on|stor|news|article|post)", "promo", "teaser", "next-?(post|article|story)", "up-?next"),
    *("prev(ious)?-?(post|article|next|story)", "also-?(read|like)", "latest-"),
    *("subscri", _START + "cta" + _END, "login", "donat", "mailing", "membership", "opt-?in"),
    *("by-?line", "author", _START + "bio" + _END, "dateline", "timestamp", _START + "date" + _END, "datetime"),
    *("pub-?date", "meta-?(data|info|bar)", _START + "meta" + _END, "published", "posted-?(on|in|by)"),
    *("contributor", "reading-?time", "profile", "credit" + _END, "copyright", "disclaimer", "disclosure"),
    *("caption", "gallery", "slideshow", "carousel", "lightbox", _START + "embed", _START + "video-?player"),
    *(_START + "ads?" + _END, "advert", "sponsor", "dfp", "ad-?(slot|wrapper|container|unit|block)"),
    *("commercial" + _END, "affiliate", "banner", "widget", "overlay", "toast", "sticky"),
    *(_START + "tags?" + _END, "topics?" + _END, "categor(y|ies)" + _END, "keywords", "filed-?under"),
    *(_START + "search" + _END, _START + "btn" + _END, "button" + _END, _START + "poll" + _END, "quiz"),
    *(_START + "form" + _END, "rating", "vote", "toolbar", _START + "tools" + _END),
    *("pull-?quote", "fact-?box", _START + "toc" + _END, "table-?of-?contents", "edit-?section", "hatnote"),
)

_BODY = _any_of(
    "(article|story|entry|post|news|blog|page)[-_ ]*(body|content|text|copy|detail)",
    *("body-?(text|copy|content)", "content-?(body|text|main)", "main-?(content|text)", "field-?(name-)?body"),
    *("wysiwyg", "rich-?text", "prose" + _END, "single-content", "hentry"),
)

_POST_OF_A_BLOG = re.compile(r"(?<![a-z-])(hentry|type-post)(?![a-z])", re.IGNORECASE)
"""WordPress lists a post's author, tags and categories among the classes of its outermost element."""

_UNSEEN = re.compile(r"sr-only|screen-?reader|visually-?hidden|(?<![\w-])hidden(?![\w-])", re.IGNORECASE)


def weigh_name(name: str) -> tuple[int, bool]:
    """What an element's id and classes say: AWAY, ASIDE or PLAIN, and whether it calls itself the article's body."""
    body = bool(_BODY.search(name))
    if _POST_OF_A_BLOG.search(name):
        return PLAIN, body
    if _AWAY.search(name):
        return AWAY, body
    return ASIDE if _ASIDE.search(name) else PLAIN, body


def is_unseen(name: str) -> bool:
    """Whether the classes of a piece of a line say that it is for screen readers only."""
    return bool(_UNSEEN.search(name))


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
