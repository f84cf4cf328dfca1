"""Pages that their owners asked to have left out: a list that `build` honours before it looks at a page's text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from gpt2lab.base.errors import BadInput, BadOption


@dataclass(frozen=True)
class TakedownList:
    """Domains (each with all below it), single pages, and beginnings of addresses, all without scheme."""

    domains: frozenset[str] = frozenset()
    pages: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()

    def covers(self, url: str | None) -> bool:
        """Whether a page's address is on the list, whatever its scheme and port and the case of its host."""
        if not url:
            return False
        address = _address(_split(url.strip()) or SplitResult("", "", url, "", ""))
        host = address.partition("/")[0]
        parents = (host.split(".", n)[n] for n in range(host.count(".") + 1))
        return (
            address in self.pages
            or address.startswith(self.beginnings)
            or any(parent in self.domains for parent in parents)
        )


def read_takedown_list(path: Path) -> TakedownList:
    """Read a list: a domain, a URL, or the beginning of one with a `*` at its end on each line; `#` begins a remark.

    Raises BadInput that names the line for anything else: what can't be understood would silently not be honoured.
    """
    domains, pages, beginnings = set(), set(), []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: the takedown list can't be read ({error}).") from None
    for number, line in enumerate(lines, 1):
        entry = line.partition(" #")[0].strip()
        if not entry or entry.startswith("#"):
            continue
        parts = _split(entry.removesuffix("*")) if "://" in entry else _split(f"https://{entry.removesuffix('*')}")
        if parts is None or not parts.hostname or "." not in parts.hostname or " " in entry:
            raise BadInput(f"{path}: line {number:,} ({entry!r}) is no domain and no URL; mend it or take it out.")
        if entry.endswith("*"):
            beginnings.append(_address(parts))
        elif "://" in entry or parts.path:
            pages.add(_address(parts))
        else:
            domains.add(_ascii_host(parts.hostname))
    return TakedownList(frozenset(domains), frozenset(pages), tuple(beginnings))


def domain_list(domains: Sequence[str], option: str) -> TakedownList:
    """All pages of some domains and of what is below them; raises BadOption for what is no domain."""
    for domain in domains:
        parts = _split(f"https://{domain}")
        if parts is None or not parts.hostname or "." not in domain or set(domain) & set("/*:@ "):
            raise BadOption(f"{option}: {domain!r} is no domain; give the likes of example.org.")
    return TakedownList(domains=frozenset(map(_ascii_host, domains)))


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _address(parts: SplitResult) -> str:
    """Host in small letters, path and query: what two spellings of one address share."""
    query = f"?{parts.query}" if parts.query else ""
    return f"{_ascii_host(parts.hostname or '')}{parts.path or '/'}{query}"


def _ascii_host(host: str) -> str:
    """One spelling of a host: small letters, punycode, no dot at its end."""
    host = host.lower().rstrip(".")
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host
