import shutil
from contextlib import suppress

import fastwarc
from warcio.archiveiterator import ArchiveIterator

from gpt2lab.webtext.crawl.crawl_folder import CrawlFolder, cut_to_last_whole_page
from gpt2lab.webtext.crawl.warc_out import FetchedPage, LogLine, whole_members

AGENT = "gpt2lab/test"


def page(number):
    return FetchedPage(
        link=f"http://example.org/{number}",
        url=f"http://example.org/{number}?final=ü",
        status=200,
        reason="OK",
        path=f"/{number}",
        request_headers=[("Host", "example.org")],
        response_headers=[("Content-Type", "text/html"), ("Transfer-Encoding", "chunked")],
        body=f"page {number}".encode() * 20,
        seconds=0.25,
        date="2026-11-22T03:00:00.000000Z",
    )


class KilledError(Exception):
    """Leaves the folder as a kill would: no final names."""


def killed_crawl(path, pages):
    with suppress(KilledError), CrawlFolder(path, 10**9, AGENT) as folder:
        for number in range(pages):
            folder.add([page(number)])
        raise KilledError
    return path / "pages-00000.warc.gz.part"


def log_of(path):
    return (path / "fetch.jsonl").read_text().splitlines()


def test_every_possible_cut_leaves_the_whole_pages_before_it(tmp_path):
    part = killed_crawl(tmp_path / "whole", 3)
    data = part.read_bytes()
    ends = [member.end for member in whole_members(part) if member.head["warc-type"] == "response"]
    assert ends[-1] == len(data)
    cut = tmp_path / part.name
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        pages = cut_to_last_whole_page(cut)
        assert len(pages) == sum(end <= length for end in ends)
        assert cut.stat().st_size == max((end for end in ends if end <= length), default=0)


def test_a_damaged_record_and_what_follows_it_is_cut_off(tmp_path):
    part = killed_crawl(tmp_path, 3)
    first_end = next(member.end for member in whole_members(part) if member.head["warc-type"] == "response")
    data = part.read_bytes()
    part.write_bytes(data[: first_end + 30] + bytes(len(data) - first_end - 30))
    assert [line.url for line in cut_to_last_whole_page(part)] == ["http://example.org/0"]
    assert part.stat().st_size == first_end


def test_a_page_whose_log_line_was_lost_gets_it_back_word_for_word(tmp_path):
    killed_crawl(tmp_path, 3)
    lines = log_of(tmp_path)
    (tmp_path / "fetch.jsonl").write_text(lines[0] + "\n" + lines[1][:20])
    with CrawlFolder(tmp_path, 10**9, AGENT) as folder:
        assert set(folder.take_up()) == {page(number).link for number in range(3)}
    assert log_of(tmp_path) == lines


def test_a_log_line_whose_page_was_lost_is_taken_back(tmp_path):
    part = killed_crawl(tmp_path, 3)
    part.write_bytes(part.read_bytes()[:-1])
    with CrawlFolder(tmp_path, 10**9, AGENT) as folder:
        assert page(2).link not in set(folder.take_up())
        folder.add([page(2)])
    assert len(log_of(tmp_path)) == 3


def test_a_mended_file_is_read_alike_by_warcio_and_fastwarc(tmp_path):
    part = killed_crawl(tmp_path, 3)
    part.write_bytes(part.read_bytes()[:-1])
    with CrawlFolder(tmp_path, 10**9, AGENT) as folder:
        folder.add([page(2)])
        folder.add([LogLine("http://example.org/gone", None, 404, 0, 0.1, "http_404")])
    warc = tmp_path / "pages-00000.warc.gz"
    kinds = ["warcinfo", *["request", "metadata", "response"] * 3]
    with warc.open("rb") as handle:
        assert [record.rec_type for record in ArchiveIterator(handle, check_digests="raise")] == kinds
    with warc.open("rb") as handle:
        records = fastwarc.ArchiveIterator(handle, parse_http=False, verify_digests=True)
        assert [record.headers["WARC-Type"] for record in records] == kinds
    with warc.open("rb") as handle:
        bodies = [r.reader.read() for r in fastwarc.ArchiveIterator(handle, fastwarc.WarcRecordType.response)]
    assert bodies == [page(number).body for number in range(3)]


def test_a_part_killed_before_its_first_page_is_thrown_away(tmp_path):
    part = killed_crawl(tmp_path, 1)
    part.write_bytes(part.read_bytes()[:100])
    (tmp_path / "fetch.jsonl").unlink()
    with CrawlFolder(tmp_path, 10**9, AGENT) as folder:
        assert set(folder.take_up()) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["fetch.jsonl"]


def test_a_finished_folder_is_not_touched_by_opening_it(tmp_path):
    killed_crawl(tmp_path / "a", 2)
    with CrawlFolder(tmp_path / "a", 10**9, AGENT):
        pass
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with CrawlFolder(tmp_path / "b", 10**9, AGENT) as folder:
        assert len(set(folder.take_up())) == 2
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
