import bz2
import gzip
import hashlib
import io
import tarfile
import zipfile

import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets import fetching
from gpt2lab.datasets.evaluation_sets import DataSource, FoundFile, PublishedFile

CONTENT = b"one\ntwo\n"
HASH = hashlib.sha256(CONTENT).hexdigest()
WORDS = PublishedFile(
    name="the words",
    patterns=("words/test.txt", "*words*.txt"),
    sha256=HASH,
    url="http://example.org/words.zip",
    licence="none",
    member="data/test.txt",
)
COUNTED = PublishedFile("the numbers", ("numbers.txt",), None, "http://example.org/numbers.txt", "none")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "any" / "Words").mkdir(parents=True)
    return tmp_path / "data"


def test_a_file_is_found_in_any_layout_by_its_hash(folder):
    for place in ("test.txt", "any/Words/TEST.txt", "any/words-v1.txt"):
        path = folder / place
        path.write_bytes(CONTENT)
        wanted = WORDS if "ords" in place else PublishedFile("the words", ("test.txt",), HASH, None, "none")
        assert DataSource(folder).file(wanted) == FoundFile("the words", str(path), HASH, official=True)
        path.unlink()


def test_compressed_files_are_what_is_in_them(folder):
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        path = folder / f"words.txt{suffix}"
        path.write_bytes(compress(CONTENT))
        assert DataSource(folder).file(WORDS) == FoundFile("the words", str(path), HASH, official=True)
        path.unlink()


def test_of_several_files_the_one_with_the_right_hash_wins(folder):
    (folder / "any" / "Words" / "test.txt").write_bytes(b"changed\n")
    (folder / "zz-words.txt").write_bytes(CONTENT)
    assert DataSource(folder, allow_changed=True).file(WORDS).path == str(folder / "zz-words.txt")


def test_a_damaged_file_is_named_unless_there_is_a_whole_one(folder):
    (folder / "a-words.txt.gz").write_bytes(gzip.compress(CONTENT)[:-9])
    with pytest.raises(BadInput, match=r"a-words\.txt\.gz: can't be read to its end"):
        DataSource(folder).file(WORDS)
    (folder / "b-words.txt").write_bytes(CONTENT)
    assert DataSource(folder).file(WORDS).official


def test_a_wrong_hash_is_named_and_refused_unless_allowed(folder):
    changed = folder / "any" / "Words" / "test.txt"
    changed.write_bytes(b"one\n")
    found = hashlib.sha256(b"one\n").hexdigest()
    words = (
        rf"Words/test\.txt: not the published file of the words: its SHA-256 is {found}, not {HASH}; get .*words\.zip"
    )
    with pytest.raises(BadInput, match=words + r" \(data/test\.txt in it\).* --allow-changed-data\.$"):
        DataSource(folder).file(WORDS)
    assert DataSource(folder, allow_changed=True).file(WORDS).official is False


def test_what_is_absent_is_named_with_where_to_get_it(folder):
    with pytest.raises(
        BadInput,
        match=r"the words: no test\.txt or words\.zip below .*data; get http://.*words\.zip .*--fetch do that\.$",
    ):
        DataSource(folder).file(WORDS)
    with pytest.raises(
        BadInput, match=r"the words: no test\.txt or words\.zip in the cache \(.*cache/datasets\); get "
    ):
        DataSource().file(WORDS)


@pytest.mark.parametrize(("name", "words"), [("gone", "no such folder"), ("a-file", "not a folder")])
def test_a_data_folder_that_is_none_is_named(folder, name, words):
    (folder / "a-file").write_text("x")
    with pytest.raises(BadOption, match=rf"--data .*{name}: {words}\."):
        DataSource(folder / name).file(WORDS)


def test_missing_and_extra_items_are_told_by_count_where_no_hash_is_known(folder):
    (folder / "numbers.txt").write_text("1\n2\n")
    source = DataSource(folder)
    found = source.file(COUNTED)
    assert found.official is None
    source.check_count(found, 2, 2)
    with pytest.raises(BadInput, match=r"numbers\.txt: 2 lines, where the numbers has 3: 1 are missing; get the whole"):
        source.check_count(found, 2, 3, "lines")
    with pytest.raises(BadInput, match=r"numbers\.txt: 2 items, where the numbers has 1: 1 too many; "):
        source.check_count(found, 2, 1)
    changed = DataSource(folder, allow_changed=True)
    assert changed.check_count(found, 2, 2) == found
    assert changed.check_count(found, 2, 1).official is False
    with pytest.raises(BadInput, match=r"numbers\.txt: no items in it, where the numbers has 3; get the file again"):
        changed.check_count(found, 0, 3)


def test_a_copy_that_can_be_restored_is_the_published_file(folder):
    path = folder / "words.txt"
    path.write_bytes(CONTENT.replace(b"\n", b"\r\n"))
    found = DataSource(folder).file(WORDS, restore=lambda path: path.read_bytes().replace(b"\r", b""))
    assert found == FoundFile("the words", str(path), hashlib.sha256(path.read_bytes()).hexdigest(), official=True)


def test_links_in_a_circle_end_the_search(folder):
    (folder / "any" / "again").symlink_to(folder)
    (folder / "words.txt").write_bytes(CONTENT)
    assert DataSource(folder).file(WORDS).official


def write_zip(path, content, name="words-1.0/data/test.txt"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("words-1.0/readme", "")
        archive.writestr(name, content)


def test_members_of_archives_below_the_folder_are_read(folder, tmp_path):
    write_zip(folder / "any" / "words.zip", CONTENT)
    found = DataSource(folder).file(WORDS)
    assert found.official
    assert (tmp_path / "cache") in list(tmp_path.joinpath(found.path).parents)
    write_zip(folder / "any" / "words.zip", b"changed\n")
    with pytest.raises(BadInput, match="not the published file of the words"):
        DataSource(folder).file(WORDS)


def test_a_member_of_a_tar_is_official_where_the_archives_hash_is(folder):
    path = folder / "all.tgz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("all/numbers.txt")
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    for archive_sha256, official in ((known, True), ("0" * 64, None)):
        wanted = PublishedFile(
            "numbers", ("numbers.txt",), None, "http://example.org/all.tgz", "none", "all/numbers.txt", archive_sha256
        )
        assert DataSource(folder).file(wanted).official is official
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"all\.tgz: can't be unpacked .*; fetch it again\."):
        DataSource(folder).file(wanted)


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 no archive either"])
def test_a_broken_archive_is_named(folder, content):
    (folder / "words.zip").write_bytes(content)
    with pytest.raises(BadInput, match=r"words\.zip: can't be unpacked .*; fetch it again\."):
        DataSource(folder).file(WORDS)


def test_an_archive_without_the_file_is_named(folder):
    write_zip(folder / "words.zip", CONTENT, "other.txt")
    with pytest.raises(BadInput, match=r"words\.zip: there is no data/test\.txt in it"):
        DataSource(folder).file(WORDS)


def test_a_member_that_unpacks_to_more_than_the_limit_is_refused(folder, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST_MEMBER", 1 << 20)
    write_zip(folder / "words.zip", bytes(3 << 20))
    with pytest.raises(BadInput, match=r"words\.zip: data/test\.txt in it is larger than"):
        DataSource(folder).file(WORDS)
    assert not list(fetching.cache_folder().rglob("*.txt"))


def test_a_damaged_file_in_the_cache_is_unpacked_again(folder):
    write_zip(folder / "words.zip", CONTENT)
    found = DataSource(folder).file(WORDS)
    with open(found.path, "wb") as handle:
        handle.write(b"damaged")
    assert DataSource(folder).file(WORDS) == found
