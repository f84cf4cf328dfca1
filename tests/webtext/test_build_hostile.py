"""Input as bad as the web has it: the run goes on, says why, and nothing hangs."""

import gzip
import json
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from tests.webtext.prose import prose

from gpt2lab.datasets.documents import read_documents
from gpt2lab.webtext.build import BuildOptions, build

GOOD = prose(7, lines=12)
PARAGRAPHS = "".join(f"<p>{line}</p>" for line in GOOD.split("\n"))
ARTICLE = f"<html><head><title>A good page</title></head><body><article>{PARAGRAPHS}</article></body></html>"


def removed(out: Path) -> dict[str, str]:
    rows = pyarrow.parquet.read_table(out / "removed").to_pylist()
    return {row["source_file"]: row["reason"] for row in rows}


def kept(out: Path) -> dict[str, str]:
    return {document.source_file: document.text for document in read_documents(out)}


def hostile_pages() -> dict[str, bytes]:
    body = ARTICLE.encode()
    return {
        "deep.html": b"<div>" * 100_000 + body + b"</div>" * 100_000,
        "fifty-megabytes.html": body + b"<p>word word</p>" * 3_300_000,
        "fifteen-megabytes.html": body.replace(b"</article>", b"<p>a b c d e f</p>" * 800_000 + b"</article>"),
        "links.html": body.replace(b"<article>", b"<a href=x>y</a>" * 200_000 + b"<article>"),
        "attribute.html": body.replace(b"<article>", b'<article class="' + b"a " * 2_000_000 + b'">'),
        "unclosed.html": b"<html><p>" + b"<b><i><font>" * 20_000 + body,
        "one-word.html": b"<html><body><p>" + b"word " * 500_000,
        "one-letter.html": b"<html><body><p>" + b"a" * 5_000_000,
        "entities.html": b"<html><body><p>" + b"&amp;&lt;" * 500_000,
        "comment.html": body + b"<!--" * 500_000,
        "nul.html": body.replace(b"good", b"go\0od"),
        "surrogate.html": body + "\ud800".encode(errors="surrogatepass"),
        "numeric-surrogate.html": body.replace(b"the people", b"&#xD800; the people", 1),
        "wrong-charset.html": body.replace(b"<head>", b'<head><meta charset="utf-16">').replace(
            b"walked", b"w\xe4lked"
        ),
        "no-such-charset.html": body.replace(b"<head>", b'<head><meta charset="klingon">'),
        "long.txt": b"word and the to of " * 1_000_000,
        "empty.html": b"",
        "white.html": b" \n" * 1000,
        "bomb.html.gz": gzip.compress(b"\0" * (200 << 20)),
    }


@pytest.mark.slow
@pytest.mark.timeout(800)
def test_hostile_pages_neither_hang_nor_stop_the_build_nor_take_good_ones_along(tmp_path):
    pages, out = tmp_path / "pages", tmp_path / "out"
    pages.mkdir()
    for name, data in hostile_pages().items():
        (pages / name).write_bytes(data)
    (pages / "good.html").write_text(ARTICLE.replace("good", "very good"))
    options = BuildOptions(filters=("paper",), near_duplicates=None, workers=2)
    report = build([pages], out, options)
    assert report.pages == len(hostile_pages()) + 1
    why, texts = removed(out), kept(out)
    assert why["fifty-megabytes.html"] == "file: larger than 16 MiB"
    assert why["empty.html"] == "file: empty"
    assert why["white.html"] == "empty"
    assert why["bomb.html.gz"].startswith("file: ")
    for name in ("links.html", "no-such-charset.html", "numeric-surrogate.html"):
        assert GOOD.split("\n")[3] in texts.get(name, "") or why[name] == "exact duplicate", name
    assert not [text for text in texts.values() if "\0" in text]
    assert "good.html" in texts or why["good.html"] == "exact duplicate"


def test_a_parquet_without_a_text_column_says_which_columns_it_has(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"words": ["a"], "n": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.txt").write_text(GOOD)
    build([tmp_path / "a.parquet", tmp_path / "b.txt"], tmp_path / "out", BuildOptions(workers=1))
    assert removed(tmp_path / "out") == {"a.parquet": "file: no column 'text'"}
    excerpts = pyarrow.parquet.read_table(tmp_path / "out" / "removed")["text"].to_pylist()
    assert excerpts == ["it has words, n"]


def test_two_inputs_of_the_same_name_stay_two(tmp_path):
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(prose(number + 1))
    report = build([tmp_path / "one", tmp_path / "two"], tmp_path / "out", BuildOptions(workers=1))
    assert report.kept == 2
    assert len({document.id for document in read_documents(tmp_path / "out")}) == 2


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
from gpt2lab.cli import main
sys.argv = ["gpt2lab", "build", sys.argv[1], "--out", sys.argv[2], "--workers", "1", "--filters", "paper"]
main()
"""


def test_a_full_disk_in_the_middle_is_one_line_and_the_next_run_ends_the_build(many_pages, tmp_path):
    run = [sys.executable, "-c", FULL_DISK, many_pages, tmp_path / "out"]
    full = subprocess.run([*run, "4000"], capture_output=True, text=True, timeout=120)
    assert full.returncode == 2, full.stderr
    assert "the disk is full" in full.stderr.splitlines()[-1]
    assert not (tmp_path / "out" / "report.json").exists()
    again = subprocess.run([*run, str(resource.RLIM_INFINITY)], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text())["kept"] == 50
