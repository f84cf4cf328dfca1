"""Links from real and generated Reddit dumps and from lists: what is taken, what is counted, what stops nothing."""

import bz2
import gzip
import json
import lzma
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
import zstandard
from courlan import clean_url

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.links import partitions
from gpt2lab.webtext.links.links import LinksOptions, links
from gpt2lab.webtext.links.report import write_links_report
from gpt2lab.webtext.links.url_rules import Link, read_link

ONE_PROCESS = LinksOptions(workers=1)


def long_window(data: bytes) -> bytes:
    """As `zstd --long=31` makes it: readers that do not allow such windows refuse it."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, write_content_size=0)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(data) + compressor.flush()


COMPRESS = {
    ".zst": long_window,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".gz": gzip.compress,
    ".jsonl": bytes,
    "": bytes,
}


def submission(url: str, score: int = 5, **more) -> dict:
    return {"url": url, "score": score, "created_utc": 1_300_000_000, "is_self": False, "over_18": False} | more


def dump(rows) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def generated(count: int, seed: int = 0) -> list[dict]:
    """Submissions of which many repeat a link, some as https, some with tracking."""
    chooser = random.Random(seed)
    rows = []
    for n in range(count):
        url = f"{chooser.choice(['http', 'https'])}://site{chooser.randrange(50)}.com/{chooser.randrange(count)}"
        tracked = chooser.choice(["", "?utm_source=x", "/"])
        rows.append(submission(url + tracked, chooser.randrange(-2, 20), created_utc=1_300_000_000 + n))
    return rows


def table(out: Path) -> list[dict]:
    return pyarrow.parquet.read_table(out / "links.parquet").to_pylist()


def gather(folder: Path, rows=(), options: LinksOptions = ONE_PROCESS, **files: bytes):
    """The report and the table of a dump of these rows, or of these files (a double underscore is a dot)."""
    folder.mkdir(exist_ok=True)
    named = {name.replace("__", "."): data for name, data in files.items()} or {"RS_2011-01": dump(rows)}
    for name, data in named.items():
        (folder / name).write_bytes(data)
    report = links([folder / name for name in named], folder / "out", options)
    assert report.lines == report.taken + sum(report.dropped.values())
    return report, table(folder / "out")


def test_real_dumps_give_every_link_with_enough_karma_that_is_a_page(shared_data, tmp_path):
    dumps = [shared_data(f"reddit/RS_v2_2005-0{month}.xz") for month in (6, 7)]
    rows = [json.loads(line) for path in dumps for line in lzma.decompress(path.read_bytes()).splitlines()]
    worthy = [row for row in rows if row["score"] >= 3 and not row["is_self"]]
    assert len(worthy) == 840
    report = links(dumps, tmp_path, ONE_PROCESS)
    assert report.lines == len(rows) == 1182
    assert report.dropped["score below 3"] == 340
    deleted = sum(row["selftext"] == "[deleted]" for row in worthy)
    files = report.dropped["file type: pdf"] + report.dropped["file type: image"]
    assert (deleted, files, report.taken) == (3, 3, 834)
    assert deleted + files + report.taken == 840
    assert report.malformed == 0
    assert sum(row["score"] for row in table(tmp_path)) == report.score
    assert sum(row["submissions"] for row in table(tmp_path)) == report.taken


def test_real_domains_stand_beside_the_published_list(shared_data, tmp_path):
    published = shared_data("reddit/openai_webtext_domains.txt")
    dumps = [shared_data("reddit/RS_v2_2005-07.xz")]
    assert links(dumps, tmp_path, ONE_PROCESS).comparison is None
    report = links(dumps, tmp_path, ONE_PROCESS, compare=published)
    assert report.already_finished
    compared = report.comparison
    assert len(compared.domains) == 999  # one line of the published file has no name
    google = compared.domains[0]
    assert (google.domain, google.their_rank, google.their_count) == ("google", 1, 1_542_261)
    assert compared.in_both == sum(row.our_rank is not None for row in compared.domains) > 50
    assert sum(row.our_share for row in compared.domains) == pytest.approx(1)
    assert -1 < compared.rank_correlation < 1
    write_links_report(report, tmp_path, "gpt2lab links")
    page = (tmp_path / "report.html").read_text()
    assert "Beside WebText" in page
    assert "score below 3" in page
    assert json.loads((tmp_path / "report.json").read_text())["comparison"]["in_both"] == compared.in_both


def test_every_compression_gives_the_same_links(tmp_path):
    data = dump(generated(2000))
    found = []
    for number, (ending, compress) in enumerate(COMPRESS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / f"RS_2011-01{ending}"
        path.write_bytes(compress(data))
        links([path], folder / "out", ONE_PROCESS)
        found.append([{**row, "source": ""} for row in table(folder / "out")])
    assert len(found[0]) > 500
    assert all(one == found[0] for one in found)


def test_the_long_window_is_really_long():
    data = long_window(random.Random(1).randbytes(1000))
    with pytest.raises(zstandard.ZstdError, match="too much memory"):
        zstandard.ZstdDecompressor().decompressobj().decompress(data)


def test_files_of_several_streams_are_read_to_their_end(tmp_path):
    halves = [dump(generated(300, seed)) for seed in (1, 2)]
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    for ending in (".zst", ".xz", ".bz2", ".gz"):
        first, second = (COMPRESS[ending](half) for half in halves)
        between = {".zst": skippable, ".xz": b"\0" * 8}.get(ending, b"")
        (tmp_path / f"RS_1{ending}").write_bytes(first + between + second)
        report = links([tmp_path / f"RS_1{ending}"], tmp_path / "out", ONE_PROCESS)
        assert (report.lines, report.files[0]["damage"]) == (600, None), ending


def test_scores_of_repeated_submissions_are_combined(tmp_path):
    rows = [
        submission("http://example.com/a", 4, created_utc=1_300_000_050),
        submission("https://EXAMPLE.com/a/", 3, created_utc="1300000010"),  # old dumps write dates as text
        submission("http://example.com:80/a?utm_source=b&fbclid=1#part", 10, created_utc=1_300_000_090),
        submission("http://example.com/a", 2, created_utc=1_200_000_000),
        submission("http://example.com/b", 2),
        submission("http://example.com/b", 1),
    ]
    report, found = gather(tmp_path / "after", rows)
    assert [(row["url"], row["score"], row["submissions"]) for row in found] == [("https://example.com/a/", 17, 3)]
    assert found[0]["first_seen"].timestamp() == 1_300_000_010
    assert found[0]["source"] == "RS_2011-01"
    assert report.dropped == {"score below 3": 3}
    report, found = gather(tmp_path / "before", rows, LinksOptions(combine="before", workers=1))
    assert sorted((row["url"], row["score"], row["submissions"]) for row in found) == [
        ("http://example.com/b", 3, 2),
        ("https://example.com/a/", 19, 4),
    ]
    assert report.taken == report.lines == 6
    report, found = gather(tmp_path / "high", rows, LinksOptions(combine="before", minimum_score=4, workers=1))
    assert (len(found), report.taken, report.dropped) == (1, 4, {"score below 4": 2})


def test_what_is_no_page_of_text_is_dropped_by_a_named_rule(tmp_path):
    cases = {
        "self post": [submission("http://a.com/", is_self=True), submission("http://a.com/", domain="self.pics")],
        "over 18": [submission("http://a.com/", over_18=True)],
        "removed or deleted": [
            submission("http://a.com/", removed_by_category="moderator"),
            submission("http://a.com/", banned_by="someone"),
            submission("http://a.com/", selftext="[removed]"),
            submission("http://a.com/", title="[deleted by user]"),
        ],
        "score below 3": [submission("http://a.com/", 2), submission("http://a.com/", -40)],
        "domain: Reddit itself": [submission("http://np.reddit.com/r/a"), submission("https://v.redd.it/x")],
        "domain: Wikipedia": [submission("http://en.m.wikipedia.org/wiki/X")],
        "domain: images": [submission("http://i.imgur.com/x")],
        "domain: video": [submission("https://youtu.be/x")],
        "domain: audio": [submission("https://soundcloud.com/x")],
        "domain: needs a login or scripts": [submission("https://mobile.twitter.com/x")],
        "file type: pdf": [submission("http://a.com/x.PDF?y=1")],
        "file type: image": [submission("http://a.com/x.jpeg")],
        "file type: archive": [submission("http://a.com/x.tar.gz")],
        "file type: office": [submission("http://a.com/x.docx")],
        "url: not http or https": [submission("ftp://a.com/"), submission("/r/pics"), submission("javascript:x()")],
        "url: malformed": [
            submission("http://"),
            submission("http://[::1"),
            submission("http://a.com:99999/"),
            submission("http://a.com/\0"),
            submission("http://\ud800.com/"),
        ],
        "url: host without a public suffix": [submission("http://localhost/"), submission("http://a.notatld/")],
        "url: longer than 2,000 characters": [submission("http://a.com/" + "x" * 2000)],
    }
    kept = [
        submission("http://a.com/page.html"),
        submission("http://a.com/x.jpg/about"),
        submission("http://8.8.8.8/x"),
    ]
    report, found = gather(tmp_path, [*(row for rows in cases.values() for row in rows), *kept])
    assert report.dropped == {reason: len(rows) for reason, rows in cases.items()}
    assert {row["url"] for row in found} == {row["url"] for row in kept}
    assert report.malformed == 0
    adult, _ = gather(tmp_path / "adult", cases["over 18"], LinksOptions(over_18=True, workers=1))
    assert adult.links == 1


def test_domains_of_the_users_list_are_dropped(tmp_path):
    (tmp_path / "domains.txt").write_text("# mine\nwww.Example.com\nblog.other.org\n")
    rows = [submission(f"http://{host}/") for host in ("a.example.com", "blog.other.org", "www.other.org")]
    report, found = gather(tmp_path, rows, LinksOptions(drop_domains=tmp_path / "domains.txt", workers=1))
    assert [row["url"] for row in found] == ["http://www.other.org/"]
    assert report.dropped == {"domain: your list": 2}


def test_malformed_lines_are_counted_and_stop_nothing(tmp_path):
    good = submission("http://a.com/good")
    cases = {
        "line: not valid JSON": [
            b'{"url": "http://a.com/',
            b"\0" * 50,
            b"[" * 100_000,
            b"{}{}",
            b'{"score": ' + b"9" * 9999,
        ],
        "line: not UTF-8": [b'{"url": "http://a.com/\xff", "score": 5}'],
        "line: not a JSON object": [b"[]", b"null", b"3"],
        "line: no url": [{"score": 5}, submission("x") | {"url": None}],
        "line: url is no text": [submission("x") | {"url": 7}],
        "line: no score": [{"url": "http://a.com/"}],
        "line: score is no whole number": [
            submission("http://a.com/") | {"score": score} for score in ("many", 1.5, True, [3], 10**30, float("nan"))
        ],
        "line: is_self or over_18 is neither true nor false": [submission("http://a.com/", is_self="no")],
        "line: longer than 16 MiB": [b'{"title": "' + b"x" * (17 << 20) + b'"}'],
    }
    rows = [row for rows in cases.values() for row in (*rows, good)]
    report, found = gather(tmp_path, rows, RS_1__gz=gzip.compress(dump([*rows, b"", b"  "]), 1))
    assert report.dropped == {reason: len(rows) for reason, rows in cases.items()}
    assert report.malformed == sum(report.dropped.values())
    assert [(row["url"], row["submissions"]) for row in found] == [("http://a.com/good", len(cases))]
    assert report.files[0]["damage"] is None
    assert all(len(example) <= 200 for some in report.examples.values() for example in some)


def test_a_line_without_dates_or_flags_is_taken(tmp_path):
    _, found = gather(tmp_path, [{"url": "http://a.com/", "score": "7"}, {"url": "http://b.com/", "score": 3.0}])
    assert sorted((row["url"], row["score"], row["first_seen"]) for row in found) == [
        ("http://a.com/", 7, None),
        ("http://b.com/", 3, None),
    ]


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_dump_cut_anywhere_gives_what_came_before_and_is_reported(ending, tmp_path):
    rows = [submission(f"http://a.com/{n}/{random.Random(n).randbytes(60).hex()}") for n in range(1500)]
    whole = COMPRESS[ending](dump(rows))
    chooser = random.Random(5)
    most = 0
    for cut in (3, *(chooser.randrange(1, len(whole) - 1) for _ in range(5)), len(whole) - 1):
        path = tmp_path / f"RS_{cut}{ending}"
        path.write_bytes(whole[:cut])
        (tmp_path / "beside.txt").write_text("http://b.com/")
        report = links([path, tmp_path / "beside.txt"], tmp_path / "out", ONE_PROCESS)
        urls = {row["url"] for row in table(tmp_path / "out")} - {"http://b.com/"}
        assert urls == {row["url"] for row in rows[: len(urls)]}, cut
        ends_with_a_line = ending in ("", ".jsonl") and (whole[cut - 1 : cut + 1].count(b"\n") > 0)
        assert bool(report.files[0]["damage"]) is not ends_with_a_line, cut
        assert report.malformed == (1 if ending in ("", ".jsonl") and not ends_with_a_line else 0)
        most = max(most, len(urls))
    assert most > 100


@pytest.mark.parametrize("ending", [".zst", ".xz", ".bz2", ".gz"])
def test_damaged_bytes_are_reported_and_stop_nothing(ending, tmp_path):
    whole = bytearray(COMPRESS[ending](dump(generated(1000))))
    chooser = random.Random(9)
    for number in range(10):
        damaged = bytearray(whole)
        start = chooser.randrange(len(damaged))
        damaged[start : start + 20] = chooser.randbytes(20)
        (tmp_path / f"RS_{number}{ending}").write_bytes(damaged)
    (tmp_path / f"RS_followed{ending}").write_bytes(whole + b"something else")
    report = links([tmp_path], tmp_path / "out", ONE_PROCESS)
    damages = {file["source"]: file["damage"] for file in report.files}
    assert sum(damage is not None for damage in damages.values()) >= 8
    assert damages[f"RS_followed{ending}"]
    assert report.files[-1]["lines"] == 1000


def test_a_decompression_bomb_is_given_up_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2lab.webtext.pages.compressed.FREE_EXPANSION_BYTES", 1 << 25)
    bomb = bytes(1 << 27)
    for ending in (".zst", ".xz", ".bz2", ".gz"):
        (tmp_path / f"RS_1{ending}").write_bytes(COMPRESS[ending](bomb))
    (tmp_path / "list.txt").write_text("http://a.com/")
    report = links([tmp_path], tmp_path / "out", ONE_PROCESS)
    assert report.links == 1
    for file in report.files[:-1]:
        # gzip can't expand more than 1,032 times: its bomb is read as one long line
        assert file["damage"] or file["source"].endswith(".gz")
        assert file["malformed"] == 1


def test_lists_are_taken_without_a_score_and_join_what_reddit_says(tmp_path):
    listed = b"\xef\xbb\xbfhttp://a.com/1\n# a remark\n\nhttps://a.com/1/\nwww.nothing.com\nhttp://a.com/2\n\xff\xfe\n"
    earlier = tmp_path / "earlier.parquet"
    rows = {"url": ["http://a.com/3", None, "http://a.com/4"], "score": [9, 9, 1], "submissions": [2, 2, 1]}
    pyarrow.parquet.write_table(pyarrow.table(rows), earlier)
    report, found = gather(
        tmp_path,
        RS_2011_01__bz2__deduped__txt__xz=lzma.compress(listed),
        RS_2011_02=dump(
            [submission("http://a.com/1", 8), submission("http://a.com/2", 1), submission("http://a.com/3", 4)]
        ),
        earlier__parquet=earlier.read_bytes(),
    )
    assert sorted((row["url"], row["score"], row["submissions"]) for row in found) == [
        ("http://a.com/2", None, 0),
        ("http://a.com/3", 13, 3),
        ("https://a.com/1/", 8, 1),
    ]
    assert report.dropped == {
        "score below 3": 2,
        "line: not UTF-8": 1,
        "line: url is no text": 1,
        "url: not http or https": 1,
    }


def test_our_own_table_goes_through_unchanged(tmp_path):
    _, found = gather(tmp_path / "a", generated(500))
    links([tmp_path / "a" / "out" / "links.parquet"], tmp_path / "b", ONE_PROCESS)
    assert table(tmp_path / "b") == found
    assert (tmp_path / "b" / "links.parquet").read_bytes() == (tmp_path / "a" / "out" / "links.parquet").read_bytes()


def test_the_order_of_inputs_and_the_number_of_workers_change_no_byte(tmp_path):
    files = []
    for seed in range(4):
        files.append(tmp_path / f"RS_2011-0{seed}.gz")
        files[-1].write_bytes(gzip.compress(dump(generated(1500, seed))))
    chooser = random.Random(3)
    made = set()
    for number, workers in enumerate((1, 1, 2)):
        chooser.shuffle(files)
        links(files, tmp_path / str(number), LinksOptions(workers=workers))
        folder = tmp_path / str(number)
        made.add((folder / "links.parquet").read_bytes() + (folder / "domains.parquet").read_bytes())
    links([tmp_path / "RS_2011-00.gz", *reversed(files)], tmp_path / "again", ONE_PROCESS)  # one of them named twice
    made.add(
        (tmp_path / "again" / "links.parquet").read_bytes() + (tmp_path / "again" / "domains.parquet").read_bytes()
    )
    assert len(made) == 1


def test_a_partition_too_large_for_memory_is_read_in_parts(tmp_path, monkeypatch):
    rows = generated(600)
    _, whole = gather(tmp_path / "whole", rows)
    monkeypatch.setattr(partitions, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(partitions, "ROWS_BUFFERED", 100)
    _, parts = gather(tmp_path / "parts", rows)
    assert parts == whole


def test_a_killed_run_goes_on_and_makes_the_same_bytes(tmp_path):
    for seed in range(6):
        (tmp_path / f"RS_2011-0{seed}.jsonl").write_bytes(dump(generated(6000, seed)))
    links([tmp_path], tmp_path / "whole", LinksOptions(workers=1))
    wanted = [(tmp_path / "whole" / name).read_bytes() for name in ("links.parquet", "domains.parquet")]
    out = tmp_path / "out"
    inputs = sorted(map(str, tmp_path.glob("RS_*")))
    command = [sys.executable, "-m", "gpt2lab", "links", *inputs, "--out", str(out), "--workers", "1"]
    chooser = random.Random(4)
    kept: set[tuple[str, int]] = set()
    killed = 0
    while killed < 3:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        finished = len(list((out / "stages").glob("*.json")))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:  # let it do at least one more file
            if len(list((out / "stages").glob("*.json"))) > finished:
                break
            time.sleep(0.005)
        time.sleep(chooser.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:  # it ended first: once more from the beginning
            shutil.rmtree(out)
            kept.clear()
            continue
        killed += 1
        now = {(path.name, path.stat().st_mtime_ns) for path in (out / "stages").glob("*.json")}
        assert kept <= now  # what was done is not done again
        kept = now
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert [(out / name).read_bytes() for name in ("links.parquet", "domains.parquet")] == wanted
    assert not list(tmp_path.glob("out/**/.*partial"))


def test_a_finished_run_is_not_done_again_and_other_options_or_inputs_are(tmp_path):
    path = tmp_path / "RS_2011-01"
    path.write_bytes(dump(generated(300)))
    first = links([path], tmp_path / "out", ONE_PROCESS)
    made = (tmp_path / "out" / "links.parquet").stat().st_mtime_ns
    again = links([path], tmp_path / "out", LinksOptions(workers=2))
    assert again.already_finished
    assert (again.links, again.dropped) == (first.links, first.dropped)
    assert (tmp_path / "out" / "links.parquet").stat().st_mtime_ns == made
    assert links([path], tmp_path / "out", LinksOptions(minimum_score=9, workers=1)).links < first.links
    path.write_bytes(dump(generated(301)))
    changed = links([path], tmp_path / "out", ONE_PROCESS)
    assert (changed.lines, changed.already_finished) == (301, False)


MEASURE = """
import sys
from pathlib import Path
from tests.peak_memory import peak_memory_bytes
from gpt2lab.webtext.links import partitions
from gpt2lab.webtext.links.links import LinksOptions, links
partitions.ROWS_BUFFERED, partitions.ROWS_AT_ONCE = 1 << 13, 20_000
report = links([Path(sys.argv[1])], Path(sys.argv[2]), LinksOptions(workers=1, minimum_score=1))
print(report.links, peak_memory_bytes())
"""


def test_memory_does_not_grow_with_the_dump(tmp_path):
    def peak_megabytes(count: int) -> float:
        path = tmp_path / f"RS_{count}.gz"
        with gzip.open(path, "wb", 1) as handle:
            for n in range(count):
                address = f"http://site{n % 9973}.com/{n:040d}"
                handle.write(b'{"score": 7, "created_utc": 1300000000, "url": "%s"}\n' % address.encode())
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path), str(tmp_path / str(count))],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        found, peak = map(int, done.stdout.split())
        assert found == count
        return peak / 2**20

    # Both fill the buffers, which are made small for it; as Python objects the difference would be some 80 MB.
    small, large = peak_megabytes(25_000), peak_megabytes(200_000)
    assert large < small + 40
    assert large < 400


def test_nothing_is_asked_of_the_network(monkeypatch, tmp_path):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert gather(tmp_path, [submission("http://news.bbc.co.uk/1")])[0].top_domains == [("bbc", 1, 5)]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("RS_1", b"", "empty"),
        ("RS_1.zst", b"not zstd at all", "damaged"),
        ("RS_1.xz", lzma.compress(b"x" * 1000)[:30], "cut short"),
        ("RS_1.jsonl", b"\0\0\0\n", "not valid JSON"),
        ("links.parquet", b"PAR1 nonsense", "can't be read"),
        ("links.csv", b"a,b", "can't tell what it holds"),
        ("links.parquet.gz", b"", "can't tell what it holds"),
        ("list.txt", b"\n# nothing\n", "there are no lines"),
        (None, b"", "no such file"),
    ],
)
def test_when_nothing_can_be_read_one_line_says_so(name, data, words, tmp_path):
    path = tmp_path / (name or "absent")
    if name:
        path.write_bytes(data)
    with pytest.raises(BadInput, match=words) as raised:
        links([path], tmp_path / "out", ONE_PROCESS)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unreadable_file_is_reported_and_the_others_are_read(tmp_path):
    (tmp_path / "RS_1").write_bytes(dump([submission("http://a.com/")]))
    (tmp_path / "RS_2").write_bytes(dump([submission("http://b.com/")]))
    (tmp_path / "RS_2").chmod(0)
    if os.access(tmp_path / "RS_2", os.R_OK):
        pytest.skip("this user may read everything")
    report = links([tmp_path], tmp_path / "out", ONE_PROCESS)
    assert report.links == 1
    assert "Permission denied" in report.files[1]["damage"]


def test_links_that_are_different_pages_stay_apart_where_courlan_would_merge_them():
    apart = [
        ("http://last.fm/music/Foo+Bar", "http://last.fm/music/Foo%2BBar"),
        ("http://forum.com/thread.php?1-a", "http://forum.com/thread.php?2-b"),
        ("http://a.com/?gallery=1", "http://a.com/?gallery=2"),
        ("http://a.com/?cid=1", "http://a.com/?cid=2"),
        ("http://a.com/r/http://b.com/1", "http://a.com/r/http://b.com/2"),
    ]
    for first, second in apart:
        assert clean_url(first) == clean_url(second)
        assert read_link(first).key != read_link(second).key


def test_a_canonical_url_is_its_own_canonical_url(shared_data):
    odd = ["HTTP://u:p@Bücher.DE:80/ü x/../%7Ea?b=c&amp;d&utm_medium=x&&e=ü#f", "http://a.com.?", "https://a.com:443"]
    lines = lzma.decompress(shared_data("reddit/RS_v2_2005-07.xz").read_bytes()).splitlines()
    real = [json.loads(line)["url"] for line in lines]
    for text in [*odd, *real]:
        link = read_link(text)
        if isinstance(link, Link):
            assert read_link(link.url) == link
    assert read_link(odd[0]).url == "http://xn--bcher-kva.de/~a?b=c&d&&e=%C3%BC"
    assert {read_link(text).url for text in odd[1:]} == {"http://a.com/", "https://a.com/"}
    assert len({read_link(text).key for text in odd[1:]}) == 1
