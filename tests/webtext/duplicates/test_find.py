import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.webtext.duplicates.stage_files import (
    components,
    jaccard,
    removals,
    similar_pairs,
    write_stage_file,
    write_stage_files,
)

from gpt2lab.webtext.duplicates.find import find_duplicates, find_similar_pairs
from gpt2lab.webtext.duplicates.sketch import band_recall, band_shape

VOCABULARY = [f"word{n}" for n in range(2000)]


def edited(text: str, words: int, chooser: random.Random) -> str:
    out = text.split()
    for place in chooser.sample(range(len(out)), words):
        out[place] = chooser.choice(VOCABULARY)
    return " ".join(out)


@pytest.fixture(scope="module")
def collection() -> list[dict]:
    """Texts of 200 words, edits of them with anything from none to 60 words changed, and edits of the edits."""
    chooser = random.Random(7)
    texts = [" ".join(chooser.choices(VOCABULARY, k=200)) for _ in range(80)]
    for _ in range(2):
        texts += [edited(text, chooser.choice([0, 1, 2, 3, 4, 5, 6, 8, 20, 60]), chooser) for text in texts]
    return [{"id": f"{n:024x}", "url_key": f"http://example.org/{n}", "text": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize("threshold", [0.8, 0.6])
def test_finds_what_brute_force_finds_and_nothing_else(collection, tmp_path, threshold):
    files = write_stage_files(tmp_path / "stage", collection, 50, threshold)
    found = removals(find_duplicates(files, tmp_path / "scratch", threshold), files)
    texts = {row["id"]: row["text"] for row in collection}
    expected = components(list(texts), list(similar_pairs(texts, threshold)))
    for component in expected:
        survivor = min(component, key=lambda id_: (-len(texts[id_]), id_))
        assert survivor not in found
        for id_ in component - {survivor}:
            kind, stays, similarity = found[id_]
            assert stays == survivor
            assert similarity == jaccard(texts[id_], texts[survivor])
            same = [other for other in component if texts[other] == texts[id_]]
            assert kind == ("near duplicate" if id_ == min(same) else "exact duplicate")
    assert len(found) == sum(len(component) - 1 for component in expected)
    assert not (tmp_path / "scratch").exists()


def test_similar_pairs_are_those_of_brute_force(collection, tmp_path):
    files = write_stage_files(tmp_path / "stage", collection, 100)
    truth = similar_pairs({row["id"]: row["text"] for row in collection}, 0.8)
    found = find_similar_pairs(files, tmp_path / "scratch", 0.8)
    assert set(found) <= set(truth)
    assert all(found[pair] == truth[pair] for pair in found)
    rows, bands = band_shape(0.8)
    missed = sum(1 - band_recall(similarity, rows, bands) for similarity in truth.values())
    assert len(truth) - len(found) <= missed + 3


def test_the_same_stay_whatever_the_order_of_files_and_rows(collection, tmp_path):
    collection = [dict(row, url_key=f"http://example.org/{n % 300}") for n, row in enumerate(collection)]
    expected = None
    for number, rows_a_file in enumerate((1000, 7, 60)):
        files = write_stage_files(tmp_path / str(number), collection, rows_a_file)
        random.Random(number).shuffle(files)
        found = removals(find_duplicates(files, tmp_path / "scratch", 0.8), files)
        expected = expected or found
        assert found == expected
        random.Random(number).shuffle(collection)
    assert {kind for kind, _, _ in expected.values()} == {"url duplicate", "exact duplicate", "near duplicate"}


def test_one_document_of_each_url_stays_the_longest(tmp_path):
    rows = [
        {"id": "b", "url_key": "http://a.org/", "text": "one two three four five six"},
        {"id": "a", "url_key": "http://a.org/", "text": "something else"},
        {"id": "c", "url_key": "http://a.org/", "text": "one two three four five six"},
        {"id": "d", "url_key": None, "text": "seven"},
        {"id": "e", "url_key": None, "text": "eight"},
        {"id": "f", "url_key": "http://a.org/x", "text": ""},
        {"id": "g", "url_key": "http://a.org/x", "text": ""},
    ]
    files = write_stage_files(tmp_path / "stage", rows, 2)
    decisions = find_duplicates(files, tmp_path / "scratch", 0.8)
    assert removals(decisions, files) == {
        "a": ("url duplicate", "b", 0.0),
        "c": ("url duplicate", "b", 1.0),
        "g": ("url duplicate", "f", 1.0),
    }
    assert decisions.counts() == {"url duplicate": 3}
    assert decisions.cluster_sizes() == {2: 1, 3: 1}


def test_the_survivor_named_is_one_that_stays_in_the_end(tmp_path):
    text = " ".join(VOCABULARY[:100])
    rows = [
        {"id": "a", "url_key": "http://a.org/", "text": text[:200]},
        {"id": "b", "url_key": "http://a.org/", "text": text + " more"},
        {"id": "c", "text": text + "\n more "},
        {"id": "d", "text": text + " more and"},
    ]
    files = write_stage_files(tmp_path / "stage", rows, 4)
    near = jaccard(rows[1]["text"], rows[3]["text"])
    decisions = find_duplicates(files, tmp_path / "scratch", 0.8)
    assert removals(decisions, files) == {
        "a": ("url duplicate", "d", jaccard(rows[0]["text"], rows[3]["text"])),
        "b": ("exact duplicate", "d", near),  # of c, which is longer by its white space
        "c": ("near duplicate", "d", near),
    }
    assert decisions.cluster_sizes() == {4: 1}


def test_rows_that_filters_removed_take_no_part(tmp_path):
    rows = [
        {"id": "a", "url_key": "u", "text": "one two three"},
        {"id": "b", "url_key": "u", "text": "one two three four", "reason": "too short"},
        {"id": "c", "url_key": "v", "text": None, "reason": "file: broken"},
        {"id": "d", "url_key": "w", "text": "one two three"},
    ]
    files = write_stage_files(tmp_path / "stage", rows, 3)
    assert removals(find_duplicates(files, tmp_path / "scratch", 0.8), files) == {"d": ("exact duplicate", "a", 1.0)}


def test_near_duplicates_can_be_left_alone(tmp_path):
    text = " ".join(VOCABULARY[:100])
    rows = [{"id": "a", "text": text}, {"id": "b", "text": text + " more"}, {"id": "c", "text": text}]
    files = write_stage_files(tmp_path / "stage", rows, 2, None)
    assert removals(find_duplicates(files, tmp_path / "scratch", None), files) == {"c": ("exact duplicate", "a", 1.0)}


def test_tiny_empty_and_monotonous_texts_are_no_trouble(tmp_path):
    texts = ["", "x", "y", "x y", "x y z v", " ", "x  y", "z " * 1000, "z " * 900, "z z z z z", "z z z z"]
    rows = [{"id": f"{n:02d}", "text": text} for n, text in enumerate(texts)]
    files = write_stage_files(tmp_path / "stage", rows, 4)
    found = removals(find_duplicates(files, tmp_path / "scratch", 0.8), files)
    assert found == {
        "00": ("exact duplicate", "05", 1.0),
        "03": ("exact duplicate", "06", 1.0),
        "08": ("near duplicate", "07", 1.0),  # the same set of one 5-gram
        "09": ("near duplicate", "07", 1.0),
    }


def test_no_documents_and_files_without_any(tmp_path):
    assert find_duplicates([], tmp_path / "scratch", 0.8).cluster_sizes() == {}
    files = [write_stage_file(tmp_path / "a [1] *.parquet", []), write_stage_file(tmp_path / "b.parquet", [])]
    files.append(write_stage_file(tmp_path / "c.parquet", [{"id": "a", "text": "x", "reason": "too short"}]))
    assert removals(find_duplicates(files, tmp_path / "scratch [1]*?", 0.8), files) == {}
    files.append(write_stage_file(tmp_path / "d.parquet", [{"id": n, "text": "x"} for n in "abc"]))
    decisions = find_duplicates(files, tmp_path / "scratch [1]*?", 0.8)
    assert decisions.counts() == {"exact duplicate": 2}
    assert decisions.cluster_sizes() == {3: 1}


def test_a_killed_run_leaves_nothing_that_changes_the_next(collection, tmp_path):
    files = write_stage_files(tmp_path / "stage", collection, 100)
    scratch = tmp_path / "scratch"
    expected = removals(find_duplicates(files, scratch, 0.8), files)
    code = (
        "import os, sys, threading; from pathlib import Path\n"
        "from gpt2lab.webtext.duplicates.find import find_duplicates\n"
        "threading.Timer(float(sys.argv[1]), lambda: os.kill(os.getpid(), 9)).start()\n"
        "find_duplicates([Path(name) for name in sys.argv[3:]], Path(sys.argv[2]), 0.8)"
    )
    for seconds in ("0.3", "0.9"):
        subprocess.run([sys.executable, "-c", code, seconds, str(scratch), *map(str, files)], check=False)
        assert removals(find_duplicates(files, scratch, 0.8), files) == expected


def test_ids_may_be_of_any_length_and_script(tmp_path):
    rows = [{"id": id_, "text": "the same"} for id_ in ("page 10", "page 9", "ß" * 40, "日", "a")]
    files = write_stage_files(tmp_path / "stage", rows, 2)
    found = removals(find_duplicates(files, tmp_path / "scratch", 0.8), files)
    assert found == {row["id"]: ("exact duplicate", "a", 1.0) for row in rows[:4]}
    rows = [{"id": id_, "text": "the same"} for id_ in ("日", "ß" * 40)]
    files = write_stage_files(tmp_path / "other", rows, 2)
    assert removals(find_duplicates(files, tmp_path / "scratch", 0.8), files) == {
        "日": ("exact duplicate", "ß" * 40, 1.0)
    }


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from gpt2lab.base.errors import NoSpace
from gpt2lab.webtext.duplicates import find
limit, scratch = int(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    find.find_duplicates([Path(name) for name in sys.argv[3:]], scratch, 0.8)
    print("done")
except NoSpace as error:
    print(error)
"""


def fill_the_disk(files: list[Path], scratch: Path, limit: int) -> str:
    command = [sys.executable, "-c", FILL_THE_DISK, str(limit), str(scratch), *map(str, files)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=200)
    (line,) = done.stdout.splitlines()
    assert not scratch.exists()
    return line


@pytest.mark.parametrize(("limit", "what"), [(1_500, "hashes of URLs"), (12_000, "band hashes"), (100_000, "grams")])
def test_a_disk_that_fills_up_is_one_line_that_names_the_folder(collection, tmp_path, limit, what):
    files, scratch = write_stage_files(tmp_path / "stage", collection, 100), tmp_path / "scratch"
    assert fill_the_disk(files, scratch, limit).startswith(f"{scratch}: the disk is full ("), what
    assert fill_the_disk(files, scratch, 10_000_000) == "done"


def test_a_disk_that_fills_up_with_groups_is_one_line_that_names_the_folder(tmp_path):
    """All in the same group in all bands: their hashes compress well, the groups are larger than all else."""
    rows = [{"id": f"{n:04d}", "text": "z " * n} for n in range(5, 605)]
    files, scratch = write_stage_files(tmp_path / "stage", rows, 600), tmp_path / "scratch"
    assert fill_the_disk(files, scratch, 60_000).startswith(f"{scratch}: the disk is full (")
    assert fill_the_disk(files, scratch, 10_000_000) == "done"


def test_a_hundred_thousand_equal_documents_take_seconds(tmp_path):
    rows = [{"id": f"{n:024x}", "text": "the same page again and again and again"} for n in range(100_000)]
    files = write_stage_files(tmp_path / "stage", rows, 50_000)
    start = time.monotonic()
    decisions = find_duplicates(files, tmp_path / "scratch", 0.8)
    assert time.monotonic() - start < 120
    assert decisions.counts() == {"exact duplicate": 99_999}
    assert decisions.cluster_sizes() == {100_000: 1}


def test_memory_grows_far_slower_than_documents(tmp_path):
    script = Path(__file__).with_name("find_memory.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def peak(documents: int) -> int:
        command = [sys.executable, str(script), str(tmp_path / str(documents)), str(documents)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    assert peak(20_000) < 1.6 * peak(2_000)


def test_counts_agree_with_the_decisions(collection, tmp_path):
    files = write_stage_files(tmp_path / "stage", collection, 100)
    decisions = find_duplicates(files, tmp_path / "scratch", 0.8)
    found = removals(decisions, files)
    assert decisions.counts() == dict(Counter(kind for kind, _, _ in found.values()))
    clusters = Counter(Counter(survivor for _, survivor, _ in found.values()).values())
    assert decisions.cluster_sizes() == {size + 1: count for size, count in sorted(clusters.items())}
