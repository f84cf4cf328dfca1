"""What a request comes to: an answer, or the reason why there is no page."""

from dataclasses import dataclass

from yarl import URL

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host said to one request. The body is read where the status is 200, and has no encoding left.

    `address` is the IP address that was connected to.
    """

    url: URL
    status: int
    reason: str
    headers: Headers
    request_headers: Headers
    body: bytes
    address: str | None

    def header(self, name: str) -> str:
        """The first header of a name in lower case, or ''."""
        return next((value for key, value in self.headers if key.lower() == name), "")


class NoPage(Exception):
    """A link yields no page; `kind` goes to the log."""

    def __init__(self, kind: str, url: str | None = None, status: int | None = None) -> None:
        super().__init__(kind)
        self.kind, self.url, self.status = kind, url, status
