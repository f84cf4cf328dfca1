import gzip
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest
from tests.webtext.prose import prose

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.documents import read_documents
from gpt2lab.webtext import extract_stage
from gpt2lab.webtext.build import BuildOptions, build
from gpt2lab.webtext.page_stage import document_id, row_of


@pytest.fixture
def pages(tmp_path) -> Path:
    folder = tmp_path / "pages"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text(prose(1))
    (folder / "b.html").write_text(f"<title>404 Not Found</title><p>{'Sorry. ' * 30}")
    (folder / "c.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "url": f"http://c/{n}"}) for n, text in enumerate([prose(2), prose(3), ""]))
        + '\n{"broken'
    )
    (folder / "d.md").write_text(prose(1).replace(" ", "  ") + " ")  # the same but for white space, and longer
    (folder / "e.txt").write_text(prose(2) + "\nAnd that was that.")  # a near duplicate of c.jsonl's first, longer
    (folder / "f.png").write_bytes(b"\x89PNG")
    (folder / "sub" / "g.txt").write_text("short")
    return folder


def table(path: Path) -> list[dict]:
    return pyarrow.parquet.read_table(path).to_pylist()


def tree(out: Path) -> dict[str, bytes]:
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for folder in ("documents", "removed")
        for file in (out / folder).iterdir()
    }


ALONE = BuildOptions(workers=1)


def lines_of(path: Path) -> list[int]:
    """Where each line begins, in bytes: what tells the records of a .jsonl apart."""
    starts = [0]
    for line in path.read_bytes().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def test_every_record_is_kept_or_removed_with_a_reason(pages, tmp_path):
    report = build([pages], tmp_path / "out", ALONE)
    line = lines_of(pages / "c.jsonl")
    documents = table(tmp_path / "out" / "documents" / "documents-00000.parquet")
    assert [(row["source_file"], row["offset"], row["extractor"], row["language"]) for row in documents] == [
        ("c.jsonl", line[1], "plain text", "en"),
        ("d.md", 0, "plain text", "en"),
        ("e.txt", 0, "plain text", "en"),
    ]
    assert documents[0]["id"] == document_id("c.jsonl", line[1])
    assert documents[0]["url"] == "http://c/1"
    assert documents[0]["scores"]["word_count"] == len(prose(3).split())
    removed = table(tmp_path / "out" / "removed" / "removed-00000.parquet")
    assert [(row["source_file"], row["offset"], row["reason"]) for row in removed] == [
        ("a.txt", 0, "exact duplicate"),
        ("b.html", 0, "error_page"),
        ("c.jsonl", line[0], "near duplicate"),
        ("c.jsonl", line[2], "empty"),
        ("c.jsonl", line[3], "line: not valid JSON"),
        ("f.png", 0, "file: type .png is not read"),
        ("sub/g.txt", 0, "too_short"),
    ]
    assert removed[0]["duplicate_of"] == document_id("d.md", 0)
    assert removed[2]["duplicate_of"] == document_id("e.txt", 0)
    assert 0.8 <= removed[2]["value"] < 1
    assert removed[2]["text"] == prose(2)
    assert removed[4]["text"] == '{"broken'
    assert report.pages == 10
    assert report.kept == 3
    assert sum(report.removed.values()) == 7
    assert report.funnel == {
        "found": 10,
        "read": 8,
        "wanted": 8,
        "worth extracting": 8,
        "passed the filters": 5,
        "without url duplicates": 5,
        "without exact duplicates": 4,
        "without near duplicates": 3,
    }
    assert report.characters == sum(len(row["text"]) for row in documents)
    assert report.examples["near duplicate"][0].url == "http://c/0"
    assert report.languages == {"en": 3}
    assert report.clusters == {2: 2}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["kept"] == 3
    assert [document.id for document in read_documents(tmp_path / "out")] == [row["id"] for row in documents]


def test_filters_none_keeps_everything_that_has_text(pages, tmp_path):
    report = build([pages], tmp_path / "out", BuildOptions(filters=("none",), workers=1))
    assert report.removed == {"empty": 1, "file: type .png is not read": 1, "line: not valid JSON": 1}
    kept = [document.source_file for document in read_documents(tmp_path / "out")]
    assert kept == ["a.txt", "b.html", "c.jsonl", "c.jsonl", "d.md", "e.txt", "sub/g.txt"]


def test_workers_and_the_order_of_the_input_change_no_byte(pages, many_pages, tmp_path):
    build([pages, many_pages], tmp_path / "one", ALONE)
    build([many_pages, pages], tmp_path / "two", BuildOptions(workers=2))
    assert len(list((tmp_path / "one" / "stages" / "extracted").iterdir())) > 3
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_finished_build_is_not_done_again_unless_input_or_options_change(pages, tmp_path):
    out = tmp_path / "out"
    first = build([pages], out, ALONE)
    stamp = (out / "documents" / "documents-00000.parquet").stat().st_mtime_ns
    again = build([pages], out, BuildOptions(workers=2))
    assert again.already_finished
    assert (again.kept, again.removed, again.examples) == (first.kept, first.removed, first.examples)
    assert (out / "documents" / "documents-00000.parquet").stat().st_mtime_ns == stamp

    (pages / "new.txt").write_text(prose(9))
    assert build([pages], out, ALONE).kept == 4
    strict = build([pages], out, BuildOptions(minimum_characters=10**6, workers=1))
    assert (strict.kept, strict.already_finished) == (0, False)
    assert strict.removed["too_short"] == 7


def test_documents_made_in_the_input_folder_are_not_read_as_input(pages):
    assert build([pages], pages / "out", ALONE).kept == 3
    assert build([pages], pages / "out", BuildOptions(workers=1, filters=("paper",))).kept == 3


def test_stage_files_left_by_a_killed_run_are_not_made_again(many_pages, tmp_path):
    build([many_pages], tmp_path / "whole", ALONE)
    build([many_pages], tmp_path / "out", ALONE)
    stage = tmp_path / "out" / "stages" / "extracted"
    kept, *lost = sorted(stage.glob("*.parquet"))
    assert lost
    stamp = kept.stat().st_mtime_ns
    for file in lost:
        file.unlink()
    (stage / f".{kept.name}.99.partial").write_bytes(b"half")
    (stage / "ofanotherbuild.parquet").write_bytes(b"old")
    (tmp_path / "out" / "report.json").unlink()
    build([many_pages], tmp_path / "out", ALONE)
    assert kept.stat().st_mtime_ns == stamp
    assert sorted(stage.iterdir()) == sorted([kept, *lost])
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


KILLED_BUILD = """
import sys
from pathlib import Path
from gpt2lab.webtext.build import BuildOptions, build
if __name__ == "__main__":
    build([Path(sys.argv[1])], Path(sys.argv[2]), BuildOptions(filters=("paper",), workers=2))
"""


def test_a_build_killed_at_any_moment_and_run_again_gives_the_same_bytes(many_pages, tmp_path):
    pages, out, script = many_pages, tmp_path / "out", tmp_path / "run.py"
    script.write_text(KILLED_BUILD)
    build([pages], tmp_path / "whole", BuildOptions(filters=("paper",), workers=2))
    tasks = len(list((tmp_path / "whole" / "stages" / "extracted").iterdir()))
    for moment in (0, 1, tasks // 2, tasks):  # stage files there when the kill comes
        run = subprocess.Popen([sys.executable, script, pages, out])
        stage = out / "stages" / "extracted"
        while run.poll() is None and len(list(stage.glob("*.parquet"))) < moment:
            time.sleep(0.002)
        children = psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []
        run.kill()
        run.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive, "workers outlive the process that started them"
    report = build([pages], out, BuildOptions(filters=("paper",), workers=2))
    assert report.removed == {"exact duplicate": 10}
    assert tree(out) == tree(tmp_path / "whole")


def test_a_worker_that_is_killed_costs_no_page(many_pages, tmp_path):
    build([many_pages], tmp_path / "whole", BuildOptions(filters=("paper",), workers=2))
    script = tmp_path / "run.py"
    script.write_text(KILLED_BUILD)
    run = subprocess.Popen([sys.executable, script, many_pages, tmp_path / "out"])
    workers = []
    while run.poll() is None and not workers:
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            children = psutil.Process(run.pid).children(recursive=True)
            workers = [child for child in children if child.num_threads() > 1]  # one of them watches the parent
        time.sleep(0.002)
    if workers:
        with suppress(psutil.NoSuchProcess):
            workers[-1].kill()
    assert run.wait() == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def deadly(item, settings):
    """What a segmentation fault in somebody's parser does."""
    if "07" in item.source_file:
        os._exit(9)
    return row_of(item, settings)


def test_a_page_that_kills_its_reader_is_removed_and_all_others_are_kept(many_pages, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2lab.webtext.extract_stage._extract", deadly_extract)
    report = build([many_pages], tmp_path / "out", BuildOptions(filters=("paper",), workers=2))
    assert report.removed["file: reading it killed the reader"] == 1
    assert report.pages == 60


def deadly_extract(task, options, advance):
    extract_stage.row_of = deadly
    REAL_EXTRACT(task, options, advance)


REAL_EXTRACT = extract_stage._extract


def test_a_page_that_breaks_the_extractor_is_removed_and_the_run_goes_on(pages, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("gpt2lab.webtext.page_stage.Look", broken)
    report = build([pages], tmp_path / "out", ALONE)
    assert report.removed["extractor failed: RecursionError"] == 1
    assert report.kept == 3


def test_real_crawls_with_damage_are_built_with_what_is_left(shared_warcs, tmp_path):
    data = (shared_warcs / "dolma" / "sample-0000.warc.gz").read_bytes()
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "cut.warc.gz").write_bytes(data[:100_000])
    (tmp_path / "pages" / "lines.jsonl.gz").write_bytes(gzip.compress(b'{"text": "\\ud800 ' + b"x" * 200 + b'"}\n'))
    report = build([tmp_path / "pages"], tmp_path / "out", BuildOptions(filters=("paper",), workers=1))
    assert report.removed["file: cut short"] == 1
    assert report.kept > 5
    *_, last = read_documents(tmp_path / "out")
    assert last.text.startswith("\ufffd x")


def test_mojibake_is_repaired_and_the_language_told(tmp_path):
    (tmp_path / "a.txt").write_text(prose(1).replace("bread.", "mother\u00e2\x80\x99s bread."))
    (tmp_path / "b.html").write_text(f"<body><p>{prose(2).replace('bread.', 'mother&acirc;€™s bread.')}</p>")
    (tmp_path / "c.txt").write_text("Le petit chat dort sur le canapé pendant que la pluie tombe sur la ville. " * 9)
    report = build([tmp_path], tmp_path / "out", BuildOptions(filters=("paper",), languages=("en",), workers=1))
    assert [document.text.count("mother’s bread") for document in read_documents(tmp_path / "out")] == [6, 6]
    assert report.removed == {"language": 1}
    assert [row["language"] for row in table(tmp_path / "out" / "removed")] == ["fr"]


def test_evaluation_sets_are_kept_out_and_the_story_says_so(tmp_path):
    (tmp_path / "set.txt").write_text(prose(3))
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "copy.txt").write_text(prose(40, 30) + "\n" + prose(3) + "\n" + prose(41, 30))
    (tmp_path / "pages" / "other.txt").write_text(prose(5))
    options = BuildOptions(filters=("paper",), decontaminate=(f"mine={tmp_path / 'set.txt'}",), workers=1)
    report = build([tmp_path / "pages"], tmp_path / "out", options)
    assert report.removed == {"contaminated: mine": 1}
    assert report.funnel["not contaminated"] == 1


def test_urls_that_no_library_can_read_are_still_urls(tmp_path):
    urls = [
        "https://xn--a-.com/page",
        "http://][:@",
        "http://[::1]a b-@",
        "http://xn--x/",
        "",
        "javascript:void(0)",
        "x" * 9999,
    ]
    lines = [json.dumps({"text": prose(n), "url": url}) for n, url in enumerate(urls, 1)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    report = build([tmp_path / "a.jsonl"], tmp_path / "out", BuildOptions(filters=("paper",), workers=1))
    assert report.kept == len(urls)


def test_a_folder_whose_name_is_no_utf_8_is_an_input_like_others(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "a.txt").write_text(prose(1))
    assert build([folder], tmp_path / "out", BuildOptions(filters=("paper",), workers=1)).kept == 1


def test_dropped_domains_and_takedowns_are_counted_apart_and_known_in_any_spelling(tmp_path):
    urls = [
        "https://en.wikipedia.org./wiki/A",
        "http://X.example.org/",
        "https://b\u00fccher.example/",
        "https://kept.example/",
    ]
    lines = [json.dumps({"text": prose(n), "url": url}) for n, url in enumerate(urls, 1)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    domains = ("Wikipedia.org", "example.org", "xn--bcher-kva.example")
    options = BuildOptions(filters=("paper",), drop_domains=domains, workers=1)
    report = build([tmp_path / "a.jsonl"], tmp_path / "out", options)
    assert report.removed == {"dropped domain": 3}
    assert [report.funnel[step] for step in ("found", "read", "wanted")] == [4, 4, 1]


def test_one_file_more_leaves_most_stage_files_as_they_are(tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    for n in range(300):
        (pages / f"{n:03d}.txt").write_text(prose(n % 100 + 1) + " x" * 40_000)
    options = BuildOptions(filters=("none",), workers=2)
    build([pages], tmp_path / "out", options)
    stage = tmp_path / "out" / "stages" / "extracted"
    before = {file.name for file in stage.iterdir()}
    (pages / "000-first.txt").write_text(prose(120))
    build([pages], tmp_path / "out", options)
    after = {file.name for file in stage.iterdir()}
    assert len(after - before) <= 3
    assert len(before - after) <= 3
    assert len(before) > 20


def test_no_input_is_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="nothing to read here"):
        build([tmp_path / "empty"], tmp_path / "out")
    (tmp_path / "empty" / "a.txt").write_bytes(b"\x00\x01")
    with pytest.raises(BadInput, match=r"nothing could be read \(a\.txt: binary, not text\)"):
        build([tmp_path / "empty"], tmp_path / "out", ALONE)
    (tmp_path / "no-pages.warc").write_bytes(b"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: 0\r\n\r\n\r\n\r\n")
    with pytest.raises(BadInput, match="there are no pages in it"):
        build([tmp_path / "no-pages.warc"], tmp_path / "out", ALONE)
    with pytest.raises(BadInput, match=r"gone: no such file or folder\."):
        build([tmp_path / "gone"], tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {"extractor": "magic"},
        {"filters": ("all",)},
        {"near_duplicates": 1.5},
        {"minimum_characters": -1},
        {"workers": -1},
        {"skip_elements": ("div[",)},
        {"languages": ("xx",)},
        {"language_confidence": 2.0},
        {"drop_domains": ("https://x.org",)},
        {"drop_domains": ("*.y.org",)},
        {"decontaminate": ("a=x.txt", "a=y.txt")},
        {"decontaminate_share": -0.1},
        {"without_rules": ("stopwords",)},
    ],
)
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(BadOption, match=next(iter(options)).replace("_", ".")):
        BuildOptions(**options)
