"""The verb that gets text out of a model: streamed, by the file, as JSON lines, for a task, or in conversation."""

import gc
import io
import json
import os
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from gpt2lab.base.errors import BadInput, BadOption, explain_full_disk
from gpt2lab.base.progress import harmless, say

if TYPE_CHECKING:
    from gpt2lab.generate.engine import Engine, Generation
    from gpt2lab.generate.options import SamplingOptions
    from gpt2lab.generate.prompts import Conditioning, Task
    from gpt2lab.generate.requests import Request
    from gpt2lab.generate.submissions import Completion

DELIMITER = "=" * 20
WAIT_BEFORE_HINT_SECONDS = 1.0


@dataclass(frozen=True)
class EngineOptions:
    """How the model is held and run."""

    backend: Literal["auto", "cpu", "torch"] = "auto"
    """torch, or cpu (numba); auto takes torch where there is an accelerator"""
    weights: Literal["float32", "bfloat16", "int8", "int4"] | None = None
    """type to hold the weights in; as they are stored unless given"""
    threads: int | None = None
    """threads of the cpu backend; one a processor unless given"""
    activation_bits: Literal[16, 8] = 16
    """of the inputs and the KV cache of int8 weights; 8 is faster for many texts or long ones"""
    max_batch: int | None = None
    """most texts that run side by side; the others wait"""
    cache_bytes: int | None = None
    """most bytes for what the texts under way remember; a quarter of the free memory unless given"""


def generate_verb(task: "Task | None" = None) -> Callable[..., None]:
    """The verb; the defaults of its options are those of the task that the command line names."""
    import tyro

    from gpt2lab.generate.options import SamplingOptions
    from gpt2lab.generate.prompts import TASK_OPTIONS
    from gpt2lab.generate.prompts import Task as TaskName

    @dataclass(frozen=True)
    class Options(SamplingOptions):
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
        """How many continuations; the i-th one's random numbers depend on the seed and i alone."""

    of_task = SamplingOptions() if task is None else TASK_OPTIONS[task]
    defaults = Options(**{field.name: getattr(of_task, field.name) for field in fields(of_task)})

    def command(
        model: tyro.conf.Positional[str],
        prompt: tyro.conf.Positional[str | None] = None,
        file: Path | None = None,
        prompts: Path | None = None,
        interactive: bool = False,
        json: bool = False,
        out: Path | None = None,
        include_prompt: bool = task is None,
        task: TaskName | None = None,
        examples: Path | None = None,
        like: Path | None = None,
        delimiter: str = DELIMITER,
        skip_broken: bool = False,
        sampling: Options = defaults,
        engine: EngineOptions = EngineOptions(),
    ) -> None:
        """Continue a prompt, streaming to the terminal. Without one, or with an empty one, a document is begun.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            prompt: the text to continue; - or a pipe reads it from standard input (so may one that begins with a dash)
            file: a file that holds the prompt, or what a task works on; with --task answer, what the question is about
            prompts: a file of prompts, one a line: text, or JSON objects (.jsonl) of a prompt and options of its own; -
                is standard input. They run side by side and come out in order
            interactive: a conversation: what you type and what comes back is gone on with; /help tells its commands
            json: print a JSON object for each text, one a line
            out: file for the texts; OUT.part until all of it is there
            include_prompt: print the prompt before each continuation
            task: ask for a summary of the text, its translation into French, or an answer, as GPT-2's paper did
            examples: pairs for translate and answer instead of our own, one a line: english = french
            like: a sample of the style: as much of its end as fits stands before the prompt
            delimiter: the line between texts, where there are several
            skip_broken: go on without lines of --prompts that can't be used; each is named
        """
        given = {
            "the prompt": prompt,
            "--file": file,
            "--prompts": prompts,
            "--skip-broken": skip_broken,
            "--like": like,
            "--task": task,
            "--examples": examples,
            "--interactive": interactive,
            "--out": out,
            "--json": json,
            "--n": sampling.n > 1,
            "--logprobs": sampling.logprobs is not None,
        }
        _check_together({name for name, value in given.items() if value not in (None, False, 0)}, task)
        conditioning_of = _conditioning(task, like, examples)

        def opened() -> "Engine":
            from gpt2lab.generate.numba_start import start_numba_without_extensions
            from gpt2lab.generate.opening import open_engine

            if engine.backend != "torch":
                start_numba_without_extensions()
            ready = open_engine(model, **vars(engine))
            gc.freeze()
            gc.enable()
            return ready

        if interactive:
            from gpt2lab.cli.conversing import converse

            _check_text(prompt or "")
            ready = opened()
            converse(ready, sampling, prompt, conditioning_of)
            return _tell_speed(ready)
        if out is not None:
            from gpt2lab.base.files import explain_unwritable, refuse_no_ordinary_file

            with explain_unwritable(out):
                if out.is_dir():
                    raise BadOption(f"--out {out}: a folder; name a file.")
                refuse_no_ordinary_file(out)
            out = out.resolve() if out.is_symlink() else out  # /dev/stdout, too, may be a link to a file
        asked = _requests(prompt, file, prompts, sampling, task)
        requests = list(_usable(asked, conditioning_of, skip_broken))
        if not requests:
            raise BadInput(f"{prompts}: no prompts in it.")
        ready = opened()
        job = _Job(ready, requests, conditioning_of, skip_broken)
        with _output(out) as handle:
            try:
                if json:
                    job.write_json(handle, task)
                else:
                    job.write_texts(handle, task, include_prompt, delimiter)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(job.words_of_interrupt()) from None
        job.tell()
        return _tell_speed(ready)

    return tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.UseAppendAction)(command)


def _check_together(given: set[str], task: "Task | None") -> None:
    """Raise BadOption for options that would be ignored, or contradict each other."""
    if "--interactive" in given:
        alone = given - {"--interactive", "the prompt", "--like"}
        if alone:
            raise BadOption(f"--interactive: not with {', '.join(sorted(alone))}; it is one text that goes on.")
    sources = given & {"the prompt", "--file", "--prompts"}
    if len(sources - ({"--file"} if task == "answer" else set())) > 1:
        raise BadOption(f"{' and '.join(sorted(sources))}: take one of them.")
    if "--like" in given and task is not None:
        raise BadOption("--like: not with --task, whose prompt is the paper's.")
    for name, needed, there in (
        ("--examples", "--task translate or answer", task in ("translate", "answer")),
        ("--skip-broken", "--prompts", "--prompts" in given),
        ("--logprobs", "--json", "--json" in given),
    ):
        if name in given and not there:
            raise BadOption(f"{name}: only with {needed}.")


def _conditioning(task: "Task | None", like: Path | None, examples: Path | None) -> "Callable[[Request], Conditioning]":
    """What stands before the continuation of a request."""
    from gpt2lab.generate.prompts import (
        Conditioning,
        read_examples,
        read_file,
        read_text,
        style_conditioning,
        task_conditioning,
    )

    def plain(request: "Request") -> Conditioning:
        if request.document:
            raise BadInput("a document is of use only with --task answer.")
        return Conditioning(request.prompt)

    if task is not None:
        pairs = read_examples(examples) if examples else ()
        return lambda request: task_conditioning(task, request.prompt, pairs, request.document)
    if like is not None:
        sample = read_text(read_file(like), str(like))
        return lambda request: style_conditioning(sample, request.prompt)
    return plain


def _requests(
    prompt: str | None, file: Path | None, prompts: Path | None, options: "SamplingOptions", task: "Task | None"
) -> "Iterable[Request | BadInput]":
    """All that is asked for, from the command line, files and standard input."""
    from gpt2lab.generate.prompts import read_file, read_text
    from gpt2lab.generate.requests import Request, read_requests

    from_file = read_text(read_file(file), str(file)).removesuffix("\n") if file is not None else ""
    document = from_file if task == "answer" else ""
    if prompts is not None:
        from_stdin = str(prompts) == "-"
        data = sys.stdin.buffer.read() if from_stdin else read_file(prompts)
        read = read_requests(data, "standard input" if from_stdin else str(prompts), options)
        return (
            replace(one, document=document) if isinstance(one, Request) and not one.document else one for one in read
        )
    if file is not None and task != "answer":
        prompt = from_file
    elif prompt == "-" or (prompt is None and _is_piped()):
        # Of a line that echo or an editor ended, the end is not meant.
        prompt = read_text(sys.stdin.buffer.read(), "standard input").removesuffix("\n")
    _check_text(prompt or "")
    return [Request(prompt or "", options, document=document)]


def _check_text(prompt: str) -> None:
    from gpt2lab.generate.requests import check_unicode

    check_unicode(prompt, "the prompt")


def _is_piped() -> bool:
    """Whether standard input is a pipe or a file; a pipe that stays empty for a while is asked for in words."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or a test's
        return False
    if stat.S_ISFIFO(mode) and not select.select([sys.stdin], [], [], WAIT_BEFORE_HINT_SECONDS)[0]:
        say('waiting for a prompt from the pipe on standard input; give "" as the prompt where there is none.')
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _usable(
    requests: "Iterable[Request | BadInput]", conditioning_of: "Callable[[Request], Conditioning]", skip_broken: bool
) -> "Iterator[Request]":
    """The requests that can be made; the first other one is raised, or all others are named and left out."""
    for request in requests:
        if isinstance(request, BadInput):
            _leave_out(request, skip_broken)
            continue
        try:
            conditioning_of(request)
        except BadInput as error:
            if not request.place:
                raise
            _leave_out(BadInput(f"{request.place}: {error}"), skip_broken)
        else:
            yield request


def _leave_out(problem: BadInput, skip_broken: bool) -> None:
    if not skip_broken:
        raise BadInput(f"{problem} Mend it, or pass --skip-broken to go on without it.") from None
    say(f"left out: {problem}")


class _Job:
    """Requests on their way through an engine, and what there is to tell about them in the end."""

    def __init__(
        self,
        engine: "Engine",
        requests: "list[Request]",
        conditioning_of: "Callable[[Request], Conditioning]",
        skip_broken: bool,
    ) -> None:
        self._engine, self._requests, self._conditioning_of = engine, requests, conditioning_of
        self._skip_broken = skip_broken
        self._cut = self._too_long = self._slid = self._done = 0

    def write_texts(self, handle: IO[str], task: "Task | None", include_prompt: bool, delimiter: str) -> None:
        """Stream all texts in order, a line with the delimiter between two."""
        shown = harmless if handle.isatty() else str
        for number, (request, generation) in enumerate(self._running()):
            if number:
                handle.write(f"{delimiter}\n")
            before = request.prompt if include_prompt else ""
            pieces = _pieces(generation, request.options, task, before, f"\n{delimiter}\n")
            try:
                for piece in pieces:
                    handle.write(shown(piece))
                    handle.flush()
            finally:  # on Ctrl-C, too
                handle.write("\n")
                handle.flush()
            self._count(generation.completions())

    def write_json(self, handle: IO[str], task: "Task | None") -> None:
        """Write a JSON object a text, one a line, in order; on Ctrl-C also what there is of the text under way."""
        for request, generation in self._running():
            try:
                completions = generation.completions()
            except KeyboardInterrupt:
                self._write_objects(handle, request, [one for one in generation.so_far() if one.tokens], task)
                raise
            self._write_objects(handle, request, completions, task)
            self._count(completions)

    def _write_objects(
        self, handle: IO[str], request: "Request", completions: "list[Completion]", task: "Task | None"
    ) -> None:
        for completion in completions:
            record = _record(request, _of_task(completion, task), self._engine.tokenizer.decode)
            handle.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        handle.flush()

    def _running(self) -> "Iterator[tuple[Request, Generation]]":
        from gpt2lab.generate.requests import in_order

        return in_order(self._requests, self._submitted)

    def _submitted(self, request: "Request") -> "Generation | None":
        from gpt2lab.generate.prompts import fitted

        conditioning = self._conditioning_of(request)
        context_length = self._engine.backend.config.context_length
        text, cut = fitted(conditioning, self._engine.tokenizer, context_length, request.options.max_tokens)
        try:
            generation = self._engine.submit(text, request.options)
        except (BadInput, BadOption) as error:
            if not request.place:
                raise
            _leave_out(BadInput(f"{request.place}: {error}"), self._skip_broken)
            return None
        self._cut += cut > 0
        self._too_long += generation.dropped_prompt_tokens > 0
        if not request.place and cut:
            what, part = ("sample", "last") if conditioning.keep == "end" else ("text", "first")
            kept = len(conditioning.body) - cut
            say(f"the {what} is longer than fits the context: only its {part} {kept:,} characters are seen.")
        if not request.place and generation.dropped_prompt_tokens:
            dropped = generation.dropped_prompt_tokens
            say(f"the prompt is longer than the context: its first {dropped:,} tokens are not seen.")
        return generation

    def _count(self, completions: "list[Completion]") -> None:
        self._done += 1
        self._slid += any(completion.window_slides for completion in completions)

    def words_of_interrupt(self) -> str:
        """What to say on Ctrl-C; nothing special where there is but one prompt."""
        of = len(self._requests)
        return f"interrupted: {self._done:,} of {of:,} prompts were done." if of > 1 else ""

    def tell(self) -> None:
        """Say which prompts and texts were longer than the context."""
        if self._requests[0].place:
            if self._cut:
                say(f"{self._cut:,} texts are longer than fits the context: only a part of each was seen.")
            if self._too_long:
                say(f"{self._too_long:,} prompts are longer than the context: their beginnings were not seen.")
        if self._slid:
            whose = f"{self._slid:,} texts" if self._requests[0].place else "the text"
            say(f"{whose} outgrew the context: each time the older half of what the model sees was let go.")


def _pieces(
    generation: "Generation", options: "SamplingOptions", task: "Task | None", before: str, between: str
) -> Iterator[str]:
    """All texts of a generation as they are to be read: each as it comes, once those before it have ended."""
    number, shown, raw = 0, "", [""] * options.n
    yield before
    if not options.best_of and not options.beams:
        for index, piece in generation.events():
            raw[index] += piece
            while number < options.n - 1 and (ended := generation.ended(number)) is not None:
                yield _of_task(ended, task).text[len(shown) :] + between + before
                number, shown = number + 1, ""
            text, enough = _sentences(raw[number], task)
            yield text[len(shown) :]
            shown = text
            if enough and options.n == 1:
                break
        generation.cancel()
    first, *others = (_of_task(completion, task).text for completion in generation.completions()[number:])
    yield first[len(shown) :]
    for text in others:
        yield between + before + text


def _sentences(text: str, task: "Task | None") -> tuple[str, bool]:
    """What a task keeps of a continuation, and whether nothing more can come."""
    from gpt2lab.generate.prompts import SENTENCES_KEPT, first_sentences

    if task is None:
        return text, False
    kept = SENTENCES_KEPT[task]
    return (text.strip(), False) if kept is None else first_sentences(text, kept)


def _of_task(completion: "Completion", task: "Task | None") -> "Completion":
    text, enough = _sentences(completion.text, task)
    return replace(completion, text=text, finish_reason="stop" if enough else completion.finish_reason)


def _record(request: "Request", completion: "Completion", text_of: Callable[[list[int]], str]) -> dict[str, Any]:
    """A completion for a program to read: whose it is, its text, and what else was asked for."""
    record: dict[str, Any] = {} if request.line is None else {"line": request.line}
    if request.id is not None:
        record["id"] = request.id
    record |= {
        "prompt": request.prompt,
        "index": completion.index,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "tokens": completion.tokens,
        "dropped_prompt_tokens": completion.dropped_prompt_tokens,
        "window_slides": completion.window_slides,
    }
    if completion.mean_logprob is not None:
        record["mean_logprob"] = completion.mean_logprob
    if completion.logprobs is not None:
        record["logprobs"] = [
            {
                "token": text_of([choice.token]),
                "id": choice.token,
                "logprob": choice.logprob,
                "alternatives": [
                    {"token": text_of([token]), "id": token, "logprob": logprob}
                    for token, logprob in choice.alternatives
                ],
            }
            for choice in completion.logprobs
        ]
    return record


def _tell_speed(engine: "Engine") -> None:
    did = engine.statistics
    parts = [
        f"{name} {tokens:,} tokens in {seconds:.2f} s ({tokens / seconds:,.1f} tokens/s)"
        for name, tokens, seconds in (
            ("prefill", did.prefill_tokens, did.prefill_seconds),
            ("decode", did.decode_tokens, did.decode_seconds),
        )
        if tokens
    ]
    say(f"{', '.join(parts) or 'nothing to do'}; {engine.backend.name}")


@contextmanager
def _output(out: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is called `out` once all is there; what there is till then stays in OUT.part."""
    if out is None:
        if sys.stdout is None:
            raise BadOption("standard output is closed; open it, or give --out.")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that knows no UTF-8 is no reason to end
        yield sys.stdout
        return
    from gpt2lab.base.files import explain_unwritable, sync_file

    part = out.with_name(f"{out.name}.part")
    with explain_full_disk(out):
        with explain_unwritable(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            opened = part.open("w", encoding="utf-8", errors="replace")
        try:
            with opened as handle:
                yield handle
        except BaseException:
            if part.exists() and part.stat().st_size:
                say(f"{part}: what there was until now.")
            else:
                part.unlink(missing_ok=True)
            raise
        sync_file(part)
        part.replace(out)
        sync_file(out.parent)
