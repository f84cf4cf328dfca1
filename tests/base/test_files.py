"""Files and folders appear whole or not at all, also when the disk fills up or the writer is killed."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gpt2lab.base.errors import BadInput, BadOption, NoSpace, UserError, explain_full_disk
from gpt2lab.base.files import read_json, sha256_of, whole_file, whole_folder, write_json


class Interrupted(Exception):
    """Stands for whatever may happen in the middle of writing."""


def write_half_a_file(path: Path) -> None:
    with whole_file(path) as handle:
        handle.write(b"half of the new")
        handle.flush()
        raise Interrupted


def write_half_a_folder(path: Path) -> None:
    with whole_folder(path) as fresh:
        (fresh / "weights").write_text("half of the new")
        raise Interrupted


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(script: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with whole_file(path, "w") as handle:
        handle.write("späť")
        assert not path.exists()
    assert path.read_bytes() == "späť".encode()
    assert names_in(path.parent) == ["file.txt"]


def test_a_block_that_raises_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(Interrupted):
        write_half_a_file(path)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file.bin"]


def test_a_block_that_raises_leaves_no_new_file(tmp_path):
    with pytest.raises(Interrupted):
        write_half_a_file(tmp_path / "file.bin")
    assert names_in(tmp_path) == []


def test_a_killed_writer_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    script = """
        import os, signal, sys
        from pathlib import Path
        from gpt2lab.base.files import whole_file

        with whole_file(Path(sys.argv[1])) as handle:
            handle.write(b"new" * 100_000)
            handle.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_python(script, path).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    with whole_file(path) as handle:
        handle.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "only-in-the-old").write_text("old")
    with whole_folder(path) as fresh:
        (fresh / "inner").mkdir()
        (fresh / "inner" / "weights").write_text("new")
        assert names_in(path) == ["only-in-the-old"]
    assert names_in(path) == ["inner"]
    assert (path / "inner" / "weights").read_text() == "new"
    assert names_in(tmp_path) == ["model"]


def test_a_block_that_raises_leaves_the_old_folder_as_it_was(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    with pytest.raises(Interrupted):
        write_half_a_folder(path)
    assert (path / "weights").read_text() == "old"
    assert names_in(tmp_path) == ["model"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    rename = Path.rename

    def rename_unless_new(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise PermissionError(errno.EACCES, "no", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_unless_new)
    with pytest.raises(PermissionError), whole_folder(path) as fresh:
        (fresh / "weights").write_text("new")
    assert (path / "weights").read_text() == "old"
    assert names_in(tmp_path) == ["model"]


FILL_THE_DISK = """
    import sys
    from pathlib import Path
    from gpt2lab.base.errors import NoSpace
    from gpt2lab.base.files import whole_file, whole_folder

    kind, folder = sys.argv[1], Path(sys.argv[2])
    {before}
    path = folder / "kept"
    if kind == "file":
        path.write_bytes(b"old")
    else:
        path.mkdir()
        (path / "weights").write_bytes(b"old")
    try:
        if kind == "file":
            with whole_file(path) as handle:
                handle.write(bytes(1_000_000))
        else:
            with whole_folder(path) as fresh:
                (fresh / "weights").write_bytes(bytes(1_000_000))
    except NoSpace as error:
        print(error)
    kept = path if kind == "file" else path / "weights"
    assert kept.read_bytes() == b"old", "the old one was touched"
    assert [entry.name for entry in folder.iterdir()] == ["kept"], "something half-written was left"
"""


def assert_one_clear_line(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{folder / 'kept'}: the disk is full")
    assert "run the same command again" in lines[0]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX's")
def test_past_the_largest_allowed_size_the_old_one_stays_and_one_line_says_so(tmp_path, kind):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))"
    done = run_python(FILL_THE_DISK.replace("{before}", limit), kind, tmp_path)
    assert_one_clear_line(done, tmp_path)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_on_a_full_disk_the_old_one_stays_and_one_line_says_so(tmp_path, kind):
    mount = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    tiny_disk = f"mount -t tmpfs -o size=128k none '{tmp_path}'"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*mount, tiny_disk], capture_output=True, timeout=60).returncode != 0
    ):
        pytest.skip("no file system of one's own can be mounted here")
    before = (*mount, f'{tiny_disk} && exec "$@"', "sh")
    done = run_python(FILL_THE_DISK.replace("{before}", ""), kind, tmp_path, before=before)
    assert_one_clear_line(done, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_device_is_explained_with_the_name_the_user_knows():
    with (
        pytest.raises(NoSpace, match=r"^run/metrics\.jsonl: the disk is full") as caught,
        explain_full_disk(Path("run/metrics.jsonl")),
        Path("/dev/full").open("wb", buffering=0) as handle,
    ):
        handle.write(b"x")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_other_errors_of_the_system_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path):
        (tmp_path / "absent").read_bytes()


def test_json_comes_back_as_written_and_readable_to_people(tmp_path):
    path = tmp_path / "value.json"
    value = {"name": "čaj", "sizes": [1, 2.5, None]}
    write_json(path, value)
    assert read_json(path) == value
    assert "čaj" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b'{"a": 1,\n "b": }', b"\xff\xfe", b""])
def test_broken_json_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: not valid JSON")
    assert "\n" not in str(caught.value)


def test_absent_json_is_named(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_json(tmp_path / "absent.json")


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256_of(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_cleared_by_the_next_one(tmp_path, kind):
    """A real process, killed in the middle of writing."""
    target = tmp_path / "thing"
    script = f"""
import sys, time
from pathlib import Path
from gpt2lab.base.files import whole_file, whole_folder
with whole_{kind}(Path({str(target)!r})) as inside:
    (inside / "part").write_text("x") if {kind == "folder"} else inside.write(b"x")
    print("writing", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert [path.name for path in tmp_path.iterdir()] == [f".thing.{process.pid}.partial"]
    if kind == "file":
        with whole_file(target) as handle:
            handle.write(b"new")
    else:
        with whole_folder(target) as folder:
            (folder / "part").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_folder_killed_between_its_two_renames_comes_back(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    old = tmp_path / f".thing.{process.pid}.replaced"
    old.mkdir()
    (old / "part").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "thing"):
        1 / 0  # noqa: B018
    assert (tmp_path / "thing" / "part").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadOption, match="pipe: is no ordinary file"), whole_file(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
