"""Which files are read, and what they are called."""

import os
from itertools import permutations
from pathlib import Path

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.pages.read import input_files


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(inputs: list[Path], except_under: Path | None = None) -> list[str]:
    return [file.source_file for file in input_files(inputs, except_under)]


def test_files_of_one_name_in_two_inputs_stay_apart(tmp_path):
    first, second = write(tmp_path / "1" / "a.txt"), write(tmp_path / "2" / "a.txt")
    assert names([first.parent, second.parent]) == [first.as_posix(), second.as_posix()]
    assert names([first, first.parent]) == ["a.txt"]


def test_the_order_of_inputs_does_not_matter(tmp_path):
    for name in ("b/x.txt", "a/x.txt", "c/y.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    assert input_files(folders) == input_files(folders[::-1])


def test_names_that_clash_with_a_longer_name_stay_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/b.txt", "c/b.txt", "d/a/b.txt"):
        write(Path(name))
    for inputs in permutations([Path("a"), Path("c"), Path("d")]):
        found = {str(file.path): file.source_file for file in input_files(inputs)}
        assert found == {"a/b.txt": f"{tmp_path}/a/b.txt", "c/b.txt": "c/b.txt", "d/a/b.txt": "d/a/b.txt"}


def test_a_name_that_spells_out_the_bytes_of_another_stays_apart(tmp_path):
    folder = os.fsencode(tmp_path)
    for name in (b"g\xff.txt", b"g\\xff.txt", b"g\\\\xff.txt"):
        write(Path(os.fsdecode(folder + b"/" + name)))
    assert len(set(names([tmp_path]))) == 3


def test_a_file_is_read_once_by_whatever_way_it_is_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a/b.txt"))
    Path("d").mkdir()
    Path("link").symlink_to("a")
    Path("a/c.txt").symlink_to("b.txt")
    ways = [Path("a"), tmp_path / "a", Path("d/../a"), Path("link"), Path("link/c.txt")]
    assert names(ways) == names(ways[::-1]) == ["b.txt"]


def test_a_link_may_give_a_file_the_name_that_tells_its_format(tmp_path):
    write(tmp_path / "blobs" / "0a1b")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "a.txt").symlink_to("../blobs/0a1b")
    (file,) = input_files([tmp_path])
    assert (file.source_file, file.format, file.size) == ("snapshots/a.txt", "text", 1)


def test_broken_and_circular_links_are_told_one_by_one(tmp_path):
    for name, target in {"a.txt": "nowhere", "b.txt": "nowhere", "c.txt": "c.txt", "d": ".", "e": "."}.items():
        (tmp_path / name).symlink_to(target)
    assert names([tmp_path]) == ["a.txt", "b.txt", "c.txt", "d", "e"]


@pytest.mark.parametrize(("given", "out"), [("../pages", "out"), (".", "../pages/out"), (".", "../link/out")])
def test_a_build_never_reads_its_own_output(tmp_path, monkeypatch, given, out):
    write(tmp_path / "pages" / "a.txt")
    for name in ("documents/documents-00000.parquet", "removed/removed-00000.parquet", "report.html", "of_user.txt"):
        write(tmp_path / "pages" / "out" / name)
    (tmp_path / "link").symlink_to("pages")
    (tmp_path / "pages" / "linked.parquet").symlink_to("out/documents/documents-00000.parquet")
    monkeypatch.chdir(tmp_path / "pages")
    assert names([Path(given)], Path(out)) == ["a.txt"]


def test_input_inside_the_output_folder_is_read_but_for_what_builds_write(tmp_path):
    out = tmp_path / "data"
    write(out / "pages" / "a.txt")
    write(out / "pages" / "documents" / "b.txt")
    for name in ("documents/documents-00000.parquet", "stages/extracted/0.parquet", "report.json", "report.html"):
        write(out / name)
    assert names([out / "pages"], out) == ["a.txt", "documents/b.txt"]
    assert names([out], out) == ["pages/a.txt", "pages/documents/b.txt"]
    with pytest.raises(BadInput, match=r"nothing to read here but what is in .*data, the folder to write to"):
        input_files([out / "documents"], out)


def test_where_only_the_output_is_left_the_message_says_so(tmp_path):
    write(tmp_path / "out" / "a.txt")
    with pytest.raises(BadInput, match=r"nothing to read here but what is in .*out, the folder to write to"):
        input_files([tmp_path], tmp_path / "out")
