"""Which links are web addresses, whose host they name, and which IP addresses anybody may be sent to."""

import ipaddress
import re
import socket
from typing import Any

import xxhash
from yarl import URL

from gpt2lab.webtext.crawl.answers import NoPage

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_PLAIN_LINK = re.compile(r"https?://([a-z0-9][a-z0-9.-]*)(?::\d+)?(?:[/?#]|$)")


class AddressRefusedError(OSError):
    """The host's address is not a public one."""


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody on the internet would reach; NAT64 is judged by what it leads to."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _GLOBAL_UNICAST or ip.sixtofour or ip.teredo:
            return False
    return ip.is_global and not ip.is_multicast


def open_public_socket(address: Any) -> socket.socket:
    """A socket for an address as resolved, right before it is connected; so no second look-up can change it."""
    if not is_public(address[4][0]):
        raise AddressRefusedError("not a public address")
    return open_any_socket(address)


def open_any_socket(address: Any) -> socket.socket:
    """A socket for an address, whoever may reach it."""
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


def checked_url(text: str, base: URL | None = None) -> URL:
    """A link, or a redirect seen from `base`, as an http or https URL without fragment and password.

    Raises NoPage for everything else.
    """
    if not text.isprintable() or (base is None and " " in text):
        raise NoPage("bad_url")
    try:
        url = URL(text) if base is None else base.join(URL(text))
        if url.scheme not in ("http", "https") or not url.host or url.port == 0:
            raise NoPage("bad_url")
        (url.raw_host or "").encode("idna")  # what the resolver will do; it raises for labels over 63 characters
        return url.with_user(None).with_fragment(None)
    except ValueError:
        raise NoPage("bad_url") from None


def host_name(url: URL) -> str:
    """The one name under which a host is known, however a link writes it."""
    return (url.raw_host or "").rstrip(".")


def host_of_link(link: str) -> str:
    """The host's one name, or '' for what is no web address; plain links are not parsed, for speed."""
    if plain := _PLAIN_LINK.match(link):
        return plain[1].rstrip(".")
    try:
        return host_name(checked_url(link))
    except NoPage:
        return ""


def host_number(host: str) -> int:
    """A number from 0 to 2**64 - 1 that stands for a host on every machine."""
    return xxhash.xxh3_64_intdigest(host.encode())
