"""What a robots.txt says, and what it means when there is none (RFC 9309)."""

import time
from dataclasses import dataclass, field

from protego import Protego

from gpt2lab.webtext.crawl.answers import Answer

ROBOTS_BYTES = 500 * 1024
"""How much of a robots.txt is read (RFC 9309, section 2.5)."""
KEPT_SECONDS = 24 * 3600.0
"""How long one is believed (RFC 9309, section 2.4)."""
LONGEST_DELAY_SECONDS = 120.0
"""The longest Crawl-delay that is worth keeping to."""


@dataclass(frozen=True)
class Rules:
    """What an origin lets a crawler do: `refusal` is the error kind of all its pages, or None; sizes in bytes."""

    refusal: str | None
    delay: float = 0.0
    size: int = 0
    parsed: Protego | None = None
    until: float = field(default_factory=lambda: time.monotonic() + KEPT_SECONDS)

    def forbids(self, url: str, agent: str) -> str | None:
        """The error kind of a page that is not to be asked for, or None."""
        if self.refusal or self.parsed is None or self.parsed.can_fetch(url, agent):
            return self.refusal
        return "robots"


def rules_of(answer: Answer, agent: str) -> Rules:
    """The rules in an answer to a request for robots.txt.

    4xx allows everything; 5xx forbids it, as does a host that can't be reached (RFC 9309, section 2.3.1). 429 asks for
    fewer requests, so it counts with 5xx.
    """
    if answer.status >= 500 or answer.status == 429:
        return Rules("robots_unavailable")
    if not answer.body:
        return Rules(None)
    parsed = Protego.parse(answer.body.decode("utf-8", errors="replace"))
    delay = parsed.crawl_delay(agent) or 0.0
    refusal = "crawl_delay" if delay > LONGEST_DELAY_SECONDS else None
    return Rules(refusal, delay, len(answer.body), parsed)
