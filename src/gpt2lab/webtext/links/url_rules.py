"""Which links are one link, and which hold no text worth fetching: canonical URLs, domains, and short lists of our own.

A canonical URL must still bring the same page, for it is what gets fetched. courlan's `clean_url` does not promise
that: of 840 links in two real Reddit dumps it turned `Foo+Bar` in a path into `Foo%2BBar`, dropped all of `?2-1316` and
`?gallery=...`, and it takes any parameter that begins with `ga` or `ref`, and `cid`, for tracking. yarl, which writes
URLs in the form in which aiohttp requests them, changes none of these.
"""

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

import tldextract
import yarl

LONGEST_URL = 2_000
_WEB = re.compile(r"https?://", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Parameters that tell a site where a reader came from and change nothing on the page.
_TRACKER = re.compile(
    r"(?:utm_\w+|mtm_\w+|pk_(?:campaign|kwd|source|medium|content)|hsa_\w+|_?hs(?:enc|mi)|__hs\w+|"
    r"(?:fb|g|dc|tw|yc|ys|msclk|tt)clid|yclid|msclkid|gclsrc|[gw]braid|igsh(?:id)?|mc_[ce]id|mkt_tok|_ga|_gl|"
    r"oly_(?:anon|enc)_id|vero_(?:id|conv)|ref_(?:src|url)|at_(?:medium|campaign|custom\d)|xtor|wt\.mc_id|s_cid|"
    r"fb_(?:ref|source|action_\w+)|action_(?:object|type|ref)_map|__twitter_impression|guccounter|guce_\w+)",
    re.IGNORECASE,
)

DROPPED_DOMAINS = {
    "Reddit itself": "reddit.com redd.it redditmedia.com redditstatic.com reddituploads.com",
    # Left out of WebText "since it is a common data source for other datasets" (Radford et al. 2019, section 2.1).
    "Wikipedia": "wikipedia.org wikiwand.com",
    "images": "imgur.com flickr.com flic.kr staticflickr.com photobucket.com tinypic.com imageshack.us imageshack.com"
    " gfycat.com giphy.com redgifs.com minus.com min.us qkme.me quickmeme.com livememe.com imgflip.com makeameme.org"
    " postimg.org postimg.cc postimages.org ibb.co imgbb.com puu.sh gyazo.com prntscr.com prnt.sc twitpic.com yfrog.com"
    " slimg.com sli.mg 500px.com pinterest.com pinimg.com twimg.com ggpht.com",
    "video": "youtube.com youtu.be youtube-nocookie.com vimeo.com dailymotion.com dai.ly twitch.tv liveleak.com"
    " streamable.com vid.me metacafe.com vine.co tiktok.com rutube.ru bitchute.com rumble.com coub.com livestream.com"
    " ustream.tv worldstarhiphop.com oddshot.tv pomf.se webmshare.com",
    "audio": "soundcloud.com spotify.com mixcloud.com audiomack.com grooveshark.com deezer.com tidal.com vocaroo.com"
    " clyp.it hypem.com",
    "needs a login or scripts": "twitter.com x.com facebook.com fb.com fbcdn.net instagram.com snapchat.com vk.com t.me"
    " telegram.me discord.gg discord.com discordapp.com whatsapp.com threads.net linkedin.com",
    "file sharing": "mega.nz mega.co.nz mediafire.com dropbox.com dropboxusercontent.com rapidshare.com megaupload.com"
    " sendspace.com 4shared.com zippyshare.com wetransfer.com we.tl",
    "adult": "pornhub.com xvideos.com xhamster.com xnxx.com redtube.com youporn.com spankbang.com onlyfans.com"
    " chaturbate.com motherless.com eporner.com",
}
DROPPED_FILES = {
    "image": "jpg jpeg jpe jfif png gif gifv bmp webp svg ico tif tiff heic avif psd",
    "video": "mp4 m4v avi mov wmv mpg mpeg mkv webm flv swf ogv 3gp asf",
    "audio": "mp3 wav ogg oga m4a flac wma aac mid midi m3u m3u8 pls opus",
    "archive": "zip rar 7z gz tgz bz2 xz zst tar dmg iso jar torrent",
    "program": "exe msi apk deb rpm ipa crx xpi bin",
    "office": "doc docx xls xlsx ppt pptx pps ppsx odt ods odp rtf epub mobi",
    "pdf": "pdf ps eps djvu",
}
SHORTENERS = frozenset(
    "bit.ly tinyurl.com goo.gl t.co ow.ly is.gd tr.im j.mp su.pr cli.gs buff.ly wp.me dlvr.it trib.al nyti.ms wapo.st"
    " bbc.in cnn.it reut.rs amzn.to lnkd.in adf.ly snipurl.com tiny.cc x.co v.gd rebrand.ly ift.tt fb.me dld.bz".split()
)

_REASON_OF_DOMAIN = {domain: f"domain: {name}" for name, many in DROPPED_DOMAINS.items() for domain in many.split()}
_REASON_OF_FILE = {ending: f"file type: {name}" for name, many in DROPPED_FILES.items() for ending in many.split()}


class Domain(NamedTuple):
    """What a host belongs to. `label` is how WebText's published list names it: bbc for news.bbc.co.uk."""

    registered: str
    label: str


class Link(NamedTuple):
    """A link in its canonical form. Links with the same `key` are one link: http and https, with and without `/`."""

    url: str
    key: str
    domain: Domain


def read_link(text: str, dropped_domains: frozenset[str] = frozenset()) -> Link | str:
    """The canonical form of a link, or the reason why it is not taken."""
    text = text.strip()
    if len(text) > LONGEST_URL:
        return f"url: longer than {LONGEST_URL:,} characters"
    if not _WEB.match(text):
        return "url: not http or https"
    url = canonical_url(text)
    if url is None:
        return "url: malformed"
    host = _host(url)
    domain = _domain_of(host)
    if domain is None:
        return "url: host without a public suffix"
    reason = _REASON_OF_DOMAIN.get(domain.registered) or _reason_of_path(url.raw_path)
    if not reason and (domain.registered in dropped_domains or host in dropped_domains):
        reason = "domain: your list"
    if reason:
        return reason
    canonical = str(url)
    if canonical.count("/") == 2:
        canonical += "/"
    return Link(canonical, _key(canonical), domain)


def url_key(text: str) -> str | None:
    """What all spellings of one web address have in common; None where it is none."""
    url = canonical_url(text.strip()) if _WEB.match(text.strip()) else None
    return _key(str(url)) if url else None


def _key(canonical: str) -> str:
    key = canonical.partition("://")[2]
    return key if "?" in key else key.removesuffix("/")


def site_of(text: str) -> str | None:
    """The registered domain of a web address, as example.co.uk for https://www.example.co.uk/a; None: it has none."""
    url = canonical_url(text.strip()) if _WEB.match(text.strip()) else None
    domain = _domain_of(_host(url)) if url else None
    return domain.registered if domain else None


def _host(url: yarl.URL) -> str:
    """In Unicode, unless it is made up: what begins with xn-- may be no punycode."""
    try:
        return url.host or ""
    except ValueError:
        return url.raw_host or ""


def canonical_url(text: str) -> yarl.URL | None:
    """A web address as it would be requested, without fragment, user and tracking parameters; None: it is none.

    Old dumps hold `&amp;` for `&`. The order of parameters is kept: some sites mind it.
    """
    if _CONTROL.search(text):
        return None
    place, _, query = text.partition("#")[0].replace("&amp;", "&").partition("?")
    kept = "&".join(part for part in query.split("&") if not _TRACKER.fullmatch(part.partition("=")[0]))
    try:
        url = yarl.URL(f"{place}?{kept}" if kept else place)
        if url.raw_user or url.raw_password:
            url = url.with_user(None)
        if url.raw_host and url.raw_host.endswith("."):
            url = url.with_host(url.raw_host.rstrip("."))
        if not url.raw_host or not 0 < (url.port or 0) < 65_536:
            return None
        return url
    except (ValueError, IndexError):  # yarl raises the latter for http://][:@
        return None


def _reason_of_path(path: str) -> str | None:
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return _REASON_OF_FILE.get(ending.lower()) if dot else None


@lru_cache(maxsize=1 << 16)
def _domain_of(host: str) -> Domain | None:
    """None for names that no registry has given out. Addresses stand for themselves: `fetch` refuses private ones."""
    try:
        return Domain(host, str(ipaddress.ip_address(host)))
    except ValueError:
        found = _suffixes()(host)
    if not (found.domain and found.suffix):
        return None
    return Domain(f"{found.domain}.{found.suffix}".lower(), found.domain.lower())


@lru_cache(maxsize=1)
def _suffixes() -> tldextract.TLDExtract:
    """The public suffix list that came with tldextract: no network, no cache outside."""
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
