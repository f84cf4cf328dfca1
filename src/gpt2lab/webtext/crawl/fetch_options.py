"""How a crawl behaves: its manners, its limits, its name."""

import re
from dataclasses import dataclass

from gpt2lab.base.errors import BadOption


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch. Raises BadOption for values that can't be meant."""

    minimum_gap_seconds: float = 1.0
    """Pause between the end of one request to a host and the start of the next; a Crawl-delay may lengthen it."""
    concurrency: int = 256
    """Hosts visited at once; each has one connection."""
    shard: str = "1/1"
    """Which part of the hosts this machine takes: 3/16 is the third of sixteen; each part needs a folder of its own."""
    timeout_seconds: float = 30.0
    """Time limit of one request, from connecting to the last byte."""
    max_bytes: int = 10_000_000
    """Largest page, decompressed; a larger one is an error, not a cut page."""
    max_expansion: float = 200.0
    """Largest ratio of decompressed to compressed bytes, once a page has more than 1 MiB."""
    max_redirects: int = 5
    """Redirects followed for one link."""
    retries: int = 2
    """Further tries after a broken connection, 429 or 503."""
    backoff_seconds: float = 2.0
    """Pause before the first further try, doubled for each one after it, where the host names none."""
    user_agent: str = "gpt2lab/0.1 (+https://github.com/gpt2lab/gpt2lab)"
    """What we call ourselves; robots.txt is read for the name before the slash."""
    contact: str = ""
    """A mail address or page of whoever runs this crawl, added to the user agent."""
    allow_private: bool = False
    """Connect to private, loopback and other non-public addresses too."""
    warc_bytes: int = 100_000_000
    """Size at which a WARC file is full."""

    def __post_init__(self) -> None:
        least = {"minimum_gap_seconds": 0, "concurrency": 1, "max_bytes": 1, "max_redirects": 0, "retries": 0}
        for name, value in {**least, "backoff_seconds": 0, "warc_bytes": 1, "max_expansion": 1}.items():
            if not getattr(self, name) >= value:
                raise BadOption(f"{name}: {getattr(self, name)} is too small; give {value} or more.")
        if not self.timeout_seconds > 0:
            raise BadOption(f"timeout_seconds: {self.timeout_seconds} is too small; give more than 0.")
        if not (self.agent_line.isascii() and self.agent_line.isprintable() and self.robots_name):
            raise BadOption("user_agent, contact: give one line of plain ASCII that begins with a name.")
        part = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", self.shard)
        if not part or not 1 <= int(part[1]) <= int(part[2]):
            raise BadOption(f"shard: {self.shard!r} is no part of a crawl; give 1/16 to 16/16 for one of sixteen.")

    @property
    def agent_line(self) -> str:
        """The User-Agent header."""
        return f"{self.user_agent} {self.contact}".strip()

    @property
    def robots_name(self) -> str:
        """The product token that robots.txt files may name (RFC 9309, section 2.2.1)."""
        return self.user_agent.partition("/")[0].strip()

    def takes_host(self, number: int) -> bool:
        """Whether a host, by its number, belongs to this shard."""
        index, _, count = self.shard.partition("/")
        return number % int(count) == int(index) - 1
