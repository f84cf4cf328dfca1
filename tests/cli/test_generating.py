"""`gpt2lab generate` as it is called: real processes, pipes, signals and a real pseudo-terminal."""

import fcntl
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
import tyro

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.progress import harmless
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.cli import verb_command
from gpt2lab.generate.opening import open_engine
from gpt2lab.generate.options import SamplingOptions

COMMAND = [sys.executable, "-m", "gpt2lab", "generate"]
ENDLESS = ["--max-tokens", "1000000", "--ignore-end-of-text", "--backend", "cpu"]


@pytest.fixture(scope="module")
def model_folder(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model_folder(folder, small_model.network, small_model.tokenizer, {})
    return folder


@pytest.fixture
def generate(model_folder, capsys):
    """The verb within this process: gives what it printed, as (standard output, standard error)."""

    def call(*arguments):
        words = [str(model_folder), *map(str, arguments)]
        tyro.cli(verb_command("generate", words), args=words)
        return tuple(capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def engine(model_folder):
    return open_engine(model_folder, "cpu")


def texts(engine, prompt, **options):
    return [one.text for one in engine.submit(prompt, SamplingOptions(**options)).completions()]


def start(model_folder, *arguments, **more):
    """A process that heeds Ctrl-C even where this one was started without (in the background of a shell)."""
    return subprocess.Popen(
        [*COMMAND, str(model_folder), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **more,
    )


def test_the_help_tells_everyday_options_before_rare_ones(generate, capsys):
    with pytest.raises(SystemExit):
        generate("--help")
    told = re.findall(r"^\W*--([a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    everyday = "file prompts interactive json out max-tokens temperature top-k top-p seed stop".split()
    assert [name for name in told if name in everyday] == everyday
    for first, later in [("out", "skip-broken"), ("stop", "typical-p"), ("weights", "cache-bytes")]:
        assert told.index(first) < told.index(later)


def test_several_texts_have_a_line_between_them_and_the_speed_is_told(generate, engine):
    out, err = generate("The cat", "-n", 3, "--max-tokens", 6, "--backend", "cpu")
    first, second, third = texts(engine, "The cat", n=3, max_tokens=6)
    line = "\n====================\n"
    assert out == f"The cat{first}{line}The cat{second}{line}The cat{third}\n"
    assert "prefill" in err
    assert err.count("\n") == 1
    assert err.count("tokens/s") == 2
    out, _ = generate("", "-n", 2, "--max-tokens", 6, "--no-include-prompt", "--delimiter", "~~", "--backend", "cpu")
    assert out == "\n~~\n".join(texts(engine, "", n=2, max_tokens=6)) + "\n"


def test_prompts_of_a_file_come_out_in_order_each_as_if_it_were_alone(generate, engine, tmp_path):
    rows = [
        {"prompt": f"The {word}", "id": word, "max_tokens": 3 + n} for n, word in enumerate(["cat", "dog", "otter"])
    ]
    rows.insert(1, {"prompt": "", "n": 2, "logprobs": 1, "temperature": 0.5})
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, _ = generate("--prompts", tmp_path / "p.jsonl", "--json", "--max-tokens", 4, "--backend", "cpu")
    found = [json.loads(line) for line in out.splitlines()]
    assert [(row["line"], row.get("id"), row["index"]) for row in found] == [
        (1, "cat", 0),
        (2, None, 0),
        (2, None, 1),
        (3, "dog", 0),
        (4, "otter", 0),
    ]
    assert [row["text"] for row in found if "id" in row] == [
        texts(engine, row["prompt"], max_tokens=row["max_tokens"])[0] for row in rows if "id" in row
    ]
    assert [row["text"] for row in found if "id" not in row] == texts(engine, "", n=2, max_tokens=4, temperature=0.5)
    chosen = found[1]["logprobs"]
    assert [*chosen[0]] == ["token", "id", "logprob", "alternatives"]
    assert found[1]["mean_logprob"] == pytest.approx(sum(one["logprob"] for one in chosen) / len(chosen), abs=1e-6)


def test_a_broken_line_stops_before_anything_is_made_or_is_named_and_left_out(generate, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "max_tokens": 2}\n{"prompt": "b", "top_p": 2}\n')
    with pytest.raises(BadInput, match=r"p\.jsonl: line 2: --top-p 2\.0: .* Mend it, or pass --skip-broken"):
        generate("--prompts", tmp_path / "p.jsonl")
    out, err = generate("--prompts", tmp_path / "p.jsonl", "--skip-broken", "--backend", "cpu")
    assert out.startswith("a")
    assert "left out: " in err
    assert "line 2: --top-p 2.0" in err
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(BadInput, match=r"none\.txt: no prompts in it"):
        generate("--prompts", tmp_path / "none.txt")


def test_tasks_give_their_sentences_and_a_file_gets_the_texts(generate, tmp_path):
    (tmp_path / "article.txt").write_text("The cat in the garden sleeps. " * 40)
    out, err = generate("--task", "summarize", "--file", tmp_path / "article.txt", "--max-tokens", 9)
    assert "the text is longer than fits the context: only its first" in err
    assert "TL;DR" not in out
    generate("--task", "answer", "Who?", "--file", tmp_path / "article.txt", "--out", tmp_path / "new" / "a.txt")
    assert (tmp_path / "new" / "a.txt").read_text().endswith("\n")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.txt"]
    out, err = generate("The dog", "--like", tmp_path / "article.txt", "--max-tokens", 4)
    assert out.startswith("The dog")
    assert "the sample is longer than fits the context: only its last" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("x --logprobs 1", "--logprobs: only with --json"),
        ("x --skip-broken", "--skip-broken: only with --prompts"),
        ("x --file y", "--file and the prompt: take one of them"),
        ("x --examples y", "--examples: only with --task translate or answer"),
        ("x --task answer --like y", "--like: not with --task"),
        ("--interactive --n 2", "--interactive: not with --n"),
        ("--interactive --json --out y", "--interactive: not with --json, --out"),
        ("x --out .", r"--out \.: a folder"),
        ("x --top-p 0", "--top-p 0"),
        ("x --temperature -1", r"--temperature -1\.0"),
    ],
)
def test_options_that_mean_nothing_are_named(generate, arguments, words):
    with pytest.raises(BadOption, match=words):
        generate(*arguments.split())


def test_only_an_ordinary_file_is_replaced_by_the_texts_and_a_link_leads_to_one(generate, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadOption, match="pipe: is no ordinary file"):
        generate("x", "--out", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "texts")
    (tmp_path / "texts").touch()
    generate("x", "--max-tokens", 3, "--out", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "texts").read_text().startswith("x")


def test_a_place_that_can_hold_no_file_is_named_as_it_was_given(generate, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadOption, match=r"file/texts: can't be written there \(Not a directory\); name another"):
        generate("x", "--out", tmp_path / "file" / "texts")


def test_more_than_the_memory_or_the_cache_holds_waits_or_is_refused_with_the_number(generate):
    out, _ = generate("The", "-n", 40, "--max-tokens", 20, "--cache-bytes", 200_000, "--no-include-prompt")
    assert out.count("=" * 20) == 39
    with pytest.raises(BadOption, match="raise --cache-bytes"):
        generate("The", "--max-tokens", 60, "--cache-bytes", 20_000)
    with pytest.raises(BadOption, match=r"--beams 5,000: they run side by side, and at most 32"):
        generate("The", "--beams", 5000)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_memory_that_is_not_there_is_one_line():
    limit = resource.RLIMIT_AS
    script = (
        "import resource, sys, numpy; from gpt2lab.cli import main, VERBS, Verb\n"
        "def command(): numpy.zeros(2**40)\n"
        "VERBS['links'] = Verb('', lambda: command); sys.argv[1:] = ['links']\n"
        f"resource.setrlimit({limit}, (2**33, 2**33)); main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: not enough memory (Unable to allocate 8.00 TiB")
    assert done.stderr.count("\n") == 1


def test_a_closed_standard_output_is_said(model_folder):
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, str(model_folder), "x", "--max-tokens", "2"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: standard output is closed; open it, or give --out.\n")


def test_text_from_a_pipe_is_the_prompt_and_must_be_utf8(model_folder, engine):
    run = [*COMMAND, str(model_folder), "--max-tokens", "5", "--backend", "cpu"]
    done = subprocess.run(run, input=b"The cat\n", capture_output=True, check=True)
    assert done.stdout.decode() == "The cat" + texts(engine, "The cat", max_tokens=5)[0] + "\n"
    done = subprocess.run(run, input=b"caf\xe9", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: standard input: not UTF-8 near byte 3; convert it (iconv -t utf-8).\n"


def test_each_of_several_texts_is_shown_as_it_comes(model_folder, engine):
    options = {"max_tokens": 2000, "ignore_end_of_text": True}
    arguments = ["-n", "3", "--max-batch", "1", "--max-tokens", "2000", "--ignore-end-of-text", "--backend", "cpu"]
    with start(model_folder, "The cat", *arguments) as process:
        seen = b""
        while b"====================" not in seen:
            seen += os.read(process.stdout.fileno(), 4096)
        assert process.poll() is None
        out = (seen + process.stdout.read()).decode()
    wanted = ["The cat" + text for text in texts(engine, "The cat", n=3, **options)]
    assert out == "\n====================\n".join(wanted) + "\n"


def test_ctrl_c_ends_the_stream_with_the_text_so_far(model_folder, engine):
    with start(model_folder, "The cat", *ENDLESS) as process:
        begun = process.stdout.read(200)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err == b"interrupted.\n"
    out = (begun + rest).decode()
    assert out.endswith("\n")
    whole = texts(engine, "The cat", max_tokens=len(out), ignore_end_of_text=True)[0]
    assert ("The cat" + whole).startswith(out[:-1].rstrip("\ufffd"))  # its last character may have been cut short


def test_ctrl_c_among_json_lines_gives_the_text_so_far_marked_and_says_how_many_were_done(model_folder, tmp_path):
    rows = [{"prompt": "The dog", "max_tokens": 2}, {"prompt": "The cat"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with start(model_folder, "--prompts", str(tmp_path / "p.jsonl"), "--json", *ENDLESS) as process:
        first = process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert json.loads(first)["finish_reason"] == "length"
    assert json.loads(rest)["finish_reason"] == "cancelled"
    assert err == b"interrupted: 1 of 2 prompts were done.\n"


@pytest.mark.parametrize("more", [[], ["--json", "-n", "2", "--max-tokens", "9"]])
def test_a_pipe_that_is_closed_ends_it_quietly(model_folder, more):
    with start(model_folder, "The cat", *ENDLESS, *more) as process:
        if not more:
            process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=120) == 141
        assert process.stderr.read() == b""


def test_a_conversation_at_a_terminal(model_folder, engine, tmp_path):
    """What is typed and what comes are gone on with; Ctrl-C ends a reply, Ctrl-D all of it; the history is kept."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, str(model_folder), "--interactive", "--max-tokens", "6", "--backend", "cpu"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=os.environ | {"TERM": "dumb", "XDG_STATE_HOME": str(tmp_path)},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)

    def answer(typed: str, until: str = "\n> ", at_least: int = 0) -> str:
        os.write(master, typed.encode())
        seen, end = "", time.monotonic() + 120
        while not (seen.endswith(until) and len(seen) > at_least):
            assert select.select([master], [], [], end - time.monotonic())[0], seen
            seen += os.read(master, 4096).decode().replace("\r", "")
        return seen.removeprefix(typed).removesuffix(until)

    try:
        assert "/help tells the commands" in answer("", until="> ")
        reply = texts(engine, "The cat", max_tokens=6)[0]
        assert answer("The cat\n") == harmless(reply)
        assert answer("/again\n") == harmless(texts(engine, "The cat", max_tokens=6, seed=1)[0])
        refused = answer("/nonsense 3\n")
        assert "/nonsense is no command" in refused
        assert "/max-tokens, /temperature, /top-k" in refused
        assert "/n," not in refused
        assert "logprobs" not in refused
        assert "/top-k lacks its value; now it is 0." in answer("/top-k\n")
        answer("/reset\n")
        answer("/seed 0\n")
        assert answer("The cat\n") == harmless(reply)
        following = texts(engine, f"The cat{reply}\nThe dog", max_tokens=6, seed=1)[0]
        assert answer("The dog\n") == harmless(following)
        answer("/max-tokens 1000000\n")
        answer("/ignore-end-of-text true\n")
        answer("The cow\n", until="", at_least=40)  # more than what was typed: the reply has begun
        assert "^C" in answer("\x03")
        os.write(master, b"\x04")
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert (tmp_path / "gpt2lab" / "generate_history").read_text().splitlines()[:2] == ["The cat", "/again"]


def test_the_way_to_the_first_token_imports_nothing_heavy(model_folder):
    code = (
        "import sys; sys.argv = ['gpt2lab', 'generate', *sys.argv[1:]]; from gpt2lab.cli import main; main();"
        "heavy = {'torch', 'transformers', 'daft', 'pyarrow', 'scipy.linalg', 'awkward', 'rich'};"
        "assert not heavy & {*sys.modules}, heavy & {*sys.modules}"
    )
    run = [sys.executable, "-c", code, str(model_folder), "x", "--max-tokens", "2", "--backend", "cpu"]
    subprocess.run(run, check=True, capture_output=True)
