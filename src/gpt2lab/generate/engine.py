"""Many continuations at once over one backend: a queue, a KV cache of blocks, and the step that moves all of them on.

A step admits who waits (first come, first served), reads a chunk of each new prompt, and makes one token for each
sequence that has been read. Sequences join and leave at every step. Where blocks run out the youngest sequence gives
its own back and is read again later, to the same tokens. There is no thread: whoever waits for text steps.
"""

import itertools
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np
import psutil

from gpt2lab.base.errors import BadInput, BadOption, UserError
from gpt2lab.generate.backend import Backend, Float32
from gpt2lab.generate.kv_blocks import KVBlocks
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.sampling import Choice, Sampler
from gpt2lab.generate.text_stream import TextStream
from gpt2lab.tokens.bpe import ByteLevelBPE

FinishReason = Literal["stop", "length", "end_of_text", "cancelled"]

PREFILL_CHUNK = 128
"""Prompt tokens read in a step while others wait for their next token."""
QUEUE_LIMIT = 1024
LARGEST_SHARE_OF_MEMORY = 4
"""The cache takes at most one part in this many of the memory that is available."""


class QueueFull(UserError):
    """As many submissions wait as the queue holds."""


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt.

    `tokens` and `token_ids` are what was generated: without the end-of-text token, with those that spell a stop string.
    `dropped_prompt_tokens` says how many tokens at the prompt's start did not fit the context; `window_slides` how
    often the window moved while the text grew. `logprobs` has an entry for each of `token_ids`, where they were asked
    for; `mean_logprob` is in nats a token, the end-of-text token counted, where log-probabilities, best-of or beams
    were asked for.
    """

    prompt: str
    text: str
    finish_reason: FinishReason
    tokens: int
    dropped_prompt_tokens: int
    window_slides: int
    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[Choice, ...] | None = None
    mean_logprob: float | None = None

    def __str__(self) -> str:
        return self.text


@dataclass
class Statistics:
    """What an engine has done so far; seconds are of whole steps, not of those who consume the text."""

    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    shared_prompt_tokens: int = 0
    """Tokens that were not read, as a shared prefix held them."""
    put_back: int = 0
    """Times that a sequence gave up its blocks for want of room."""


class _Request:
    """A submission: its prompt, and the sequences that continue it."""

    def __init__(self, number: int, prompt: str, ids: list[int], dropped: int, options: SamplingOptions) -> None:
        self.number, self.prompt, self.ids, self.dropped, self.options = number, prompt, ids, dropped, options
        self.with_logprobs = options.logprobs is not None or options.best_of > 0 or options.beams > 0
        self.started = 0
        self.ready: list[_Sequence] = []
        """Sequences to be read, for the first time or again."""
        self.sequences: dict[int, _Sequence] = {}
        self.unfinished = options.sequences if options.max_tokens else 0
        self.events: deque[tuple[int, str]] = deque()
        self.error: BaseException | None = None
        self.abandoned = False

    @property
    def has_news(self) -> bool:
        return bool(self.events) or self.unfinished == 0


class _Sequence:
    """One continuation under way. Its window is what the network sees: the tokens from `window_start` on."""

    __slots__ = (
        "cached",
        "choices",
        "digest",
        "finish_reason",
        "ids",
        "index",
        "leader",
        "logprob_sum",
        "named",
        "pieces",
        "request",
        "running",
        "sampler",
        "slides",
        "table",
        "text",
        "window_start",
    )

    def __init__(self, request: _Request, index: int, sampler: Sampler, text: TextStream) -> None:
        self.request, self.index, self.sampler, self.text = request, index, sampler, text
        self.ids = list(request.ids)
        self.window_start = 0
        self.cached = 0
        """Tokens of the window whose keys and values are in the cache."""
        self.table: list[int] = []
        self.named, self.digest = 0, b""
        """Full blocks of the table that can be found by others, and the digest of the last one."""
        self.leader: _Sequence | None = None
        """Who reads the prompt for this one, which waits for that."""
        self.running = False
        self.slides = 0
        self.choices: list[Choice] = []
        self.logprob_sum = 0.0
        self.pieces: list[str] = []
        self.finish_reason: FinishReason | None = None

    @property
    def age(self) -> tuple[int, int]:
        return self.request.number, self.index

    @property
    def generated(self) -> int:
        return len(self.ids) - len(self.request.ids)

    @property
    def unread(self) -> int:
        """Tokens of the window that the network has still to read; the logits after the last give the next token."""
        return len(self.ids) - self.window_start - self.cached


class Generation:
    """What was submitted, and its text as it comes. Closing an iteration, or an exception inside it, cancels it."""

    def __init__(self, engine: "Engine", request: _Request) -> None:
        self._engine, self._request = engine, request

    @property
    def prompt(self) -> str:
        """The text to be continued."""
        return self._request.prompt

    @property
    def dropped_prompt_tokens(self) -> int:
        """How many tokens at the prompt's start did not fit the context."""
        return self._request.dropped

    def __iter__(self) -> Iterator[str]:
        """Pieces of the only text asked for; that of best-of or beams comes whole, at the end."""
        if self._request.options.n > 1:
            raise ValueError("several texts were asked for: iterate over events()")
        return (piece for _, piece in self.events())

    def events(self) -> Iterator[tuple[int, str]]:
        """(index, piece) of all texts asked for, as they come; best-of's and beams' come whole, at the end."""
        request = self._request
        try:
            while True:
                self._engine._step_until(lambda: request.has_news)
                while request.events:
                    yield request.events.popleft()
                if request.unfinished == 0:
                    break
        finally:
            self.cancel()
        if request.error is not None:
            raise request.error

    def completions(self) -> list[Completion]:
        """All texts asked for, run to their end: in order of index, or best first for best-of and beams."""
        request = self._request
        try:
            self._engine._step_until(lambda: request.unfinished == 0)
        finally:
            self.cancel()
        if request.error is not None:
            raise request.error
        return self._engine._completions(request)

    def cancel(self) -> None:
        """End it now; what it held is free for others, and its texts are what they are."""
        if self._request.unfinished:
            self._engine._abandon(self._request)
            self._engine._discard_abandoned()

    def __del__(self) -> None:
        # Maybe in the midst of a step, by the garbage collector: only say so, the next step acts on it.
        if self._request.unfinished:
            self._engine._abandon(self._request)


class Engine:
    """A backend, a tokenizer, and the continuations that run on them.

    `max_batch` sequences run at once (as many as the backend takes, unless given); the cache takes at most
    `cache_bytes`, by default what they need for a whole context each, but no more than a quarter of the memory that is
    available. `queue_limit` submissions may wait. Raises BadOption for a cache that holds not one block.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: ByteLevelBPE,
        *,
        max_batch: int | None = None,
        cache_bytes: int | None = None,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        if tokenizer.vocab_size > backend.config.vocab_size:
            raise BadInput(
                f"the tokenizer has {tokenizer.vocab_size:,} ids, the network {backend.config.vocab_size:,}: they"
                " do not belong together."
            )
        if max_batch is not None and max_batch < 1:
            raise BadOption(f"--max-batch {max_batch}: must be at least 1.")
        if queue_limit < 1:
            raise BadOption(f"--queue-limit {queue_limit}: must be at least 1.")
        self.backend, self.tokenizer = backend, tokenizer
        self.max_batch = max_batch or backend.max_batch
        self.queue_limit = queue_limit
        self.statistics = Statistics()
        if cache_bytes is None:
            cache_bytes = psutil.virtual_memory().available // LARGEST_SHARE_OF_MEMORY
        wanted = self.max_batch * ceil(backend.config.context_length / backend.block_tokens)
        blocks = min(wanted, cache_bytes // backend.block_bytes)
        if blocks < 1:
            raise BadOption(
                f"--cache-bytes {cache_bytes:,}: holds not one block of {backend.block_tokens} tokens, which takes"
                f" {backend.block_bytes:,} bytes."
            )
        self._blocks = KVBlocks(blocks, backend.block_tokens)
        backend.reserve(blocks)
        self._numbers = itertools.count()
        self._waiting: list[_Request] = []
        self._running: list[_Sequence] = []
        self._committing: _Sequence | None = None
        self._abandoned: deque[_Request] = deque()
        self._progress = threading.Condition()
        self._stepper: int | None = None

    # What any thread may call

    def submit(self, prompt: str | Sequence[int], options: SamplingOptions) -> Generation:
        """Take a prompt (text or token ids; an empty one starts a document) to be continued.

        Raises BadInput for token ids that are none, BadOption for what could never fit the cache or the batch,
        QueueFull when `queue_limit` submissions wait.
        """
        text, ids = self._read_prompt(prompt)
        context = self.backend.config.context_length
        dropped = max(0, len(ids) - context)
        ids = ids[dropped:]
        self._check_fits(len(ids), options)
        request = _Request(next(self._numbers), text, ids, dropped, options)
        generation = Generation(self, request)
        if request.unfinished:
            self._alone(lambda: self._enter(request))
        return generation

    def step(self) -> bool:
        """Move all sequences on by one step; False when there was nothing to do."""
        busy = []
        self._alone(lambda: busy.append(self._step()))
        return busy[0]

    @property
    def free_blocks(self) -> int:
        """Blocks of the cache that no sequence holds."""
        self._discard_abandoned()
        return self._blocks.free

    @property
    def blocks(self) -> int:
        """Blocks of the cache."""
        return self._blocks.count

    # Taking turns

    def _alone(self, do: Callable[[], object], unless: Callable[[], bool] = lambda: False) -> None:
        """Do something while no other thread steps; or nothing, once `unless` holds.

        Ctrl-C may strike anywhere: the turn is taken by a plain assignment, and one that a thread has lost to two
        interrupts it can take again.
        """
        me = threading.get_ident()
        try:
            with self._progress:
                while not unless():
                    if self._stepper is None or self._stepper == me:
                        self._stepper = me
                        break
                    self._progress.wait()
                else:
                    return
            do()
        finally:
            if self._stepper == me:
                with self._progress:
                    self._stepper = None
                    self._progress.notify_all()

    def _step_until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._alone(self._step, unless=ready)

    def _abandon(self, request: _Request) -> None:
        request.abandoned = True
        self._abandoned.append(request)

    def _discard_abandoned(self) -> None:
        if self._stepper != threading.get_ident():  # the garbage collector may call from the midst of a step
            self._alone(self._discard, unless=lambda: not self._abandoned)

    # All below runs in one thread at a time

    def _enter(self, request: _Request) -> None:
        self._discard()
        if len(self._waiting) >= self.queue_limit:
            request.unfinished = 0
            raise QueueFull(
                f"{len(self._waiting):,} submissions wait already and --queue-limit is {self.queue_limit:,}: submit it"
                " again when some have ended."
            )
        insort(self._waiting, request, key=_number)

    def _discard(self) -> None:
        while self._abandoned:
            self._end(self._abandoned.popleft())

    def _end(self, request: _Request) -> None:
        """Whatever the request still runs or waits for ends here."""
        for sequence in [one for one in self._running if one.request is request]:
            self._leave(sequence)
        if request in self._waiting:
            self._waiting.remove(request)
        request.ready.clear()
        request.unfinished = 0

    def _step(self) -> bool:
        began, prefill_seconds = time.perf_counter(), self.statistics.prefill_seconds
        try:
            self._discard()
            if self._waiting:
                self._admit()
            if not self._running:
                return False
            self._move_on()
        except BaseException as error:
            # Ctrl-C, or a backend that fails: what it left half done is read again.
            if self._committing is not None:
                self._committing.request.error = error
                self._end(self._committing.request)
            self._start_afresh()
            raise
        finally:
            self._committing = None
            prefilled = self.statistics.prefill_seconds - prefill_seconds
            self.statistics.decode_seconds += time.perf_counter() - began - prefilled
        return True

    def _start_afresh(self) -> None:
        """Put all sequences back, in case they are to be read again, and empty the cache."""
        for sequence in reversed(self._running.copy()):
            self._put_back(sequence)
        self._blocks.reset()
        self.backend.reserve(self._blocks.count)

    def _admit(self) -> None:
        """Start those who waited longest, as long as there are places and blocks."""
        while self._waiting and len(self._running) < self.max_batch:
            request = self._waiting[0]
            if not request.ready:
                request.ready.append(self._started(request))
            sequence = request.ready[0]
            if sequence.generated == 0:
                sequence.leader = next((one for one in self._running if one.request is request and _leads(one)), None)
            if sequence.leader is None and not self._give_blocks(sequence):
                return
            request.ready.pop(0)
            if not request.ready and request.started == request.options.sequences:
                self._waiting.pop(0)
            sequence.running = True
            insort(self._running, sequence, key=_age)

    def _started(self, request: _Request) -> _Sequence:
        options, tokenizer, index = request.options, self.tokenizer, request.started
        request.started += 1
        sampler = Sampler(options, tokenizer.vocab_size, request.ids, tokenizer.end_of_text, index)
        sequence = _Sequence(request, index, sampler, TextStream(tokenizer.token_bytes, options.stop))
        request.sequences[index] = sequence
        return sequence

    def _give_blocks(self, sequence: _Sequence) -> bool:
        """Blocks for the whole window, those that are known already among them; False where there is no room yet.

        Room is left for a block more for each that runs, so that none is put back at once.
        """
        window = sequence.ids[sequence.window_start :]
        size = self._blocks.block_tokens
        found, digest = self._blocks.find(window, (len(window) - 1) // size)
        missing = ceil(len(window) / size) - len(found)
        if self._blocks.free < missing + len(self._running):
            self._blocks.give_back(found)
            return False
        sequence.table = found + [block for _ in range(missing) if (block := self._blocks.take()) is not None]
        sequence.named, sequence.digest = len(found), digest
        sequence.cached = len(found) * size
        self.statistics.shared_prompt_tokens += sequence.cached
        return True

    def _move_on(self) -> None:
        """Read what is unread: a chunk of each prompt, and the newest token of each sequence that is further."""
        context = self.backend.config.context_length
        decoding: list[_Sequence] = []
        reading: list[_Sequence] = []
        for sequence in self._running:
            if sequence.leader is not None:
                continue
            (decoding if sequence.unread == 1 else reading).append(sequence)
        budget = PREFILL_CHUNK if decoding else context
        for sequence in reading:
            if budget and sequence.running:
                budget -= self._prefill(sequence, min(budget, sequence.unread))
        for start in range(0, len(decoding), self.backend.max_batch):
            self._decode(decoding[start : start + self.backend.max_batch])

    def _slide(self, sequence: _Sequence) -> None:
        """Let the window's older half go; the newer half will be read again from position 0.

        GPT-2's positions are absolute, so a window can't move without that.
        """
        sequence.slides += 1
        sequence.window_start = len(sequence.ids) - max(1, self.backend.config.context_length // 2)
        self._forget(sequence)

    def _forget(self, sequence: _Sequence) -> None:
        self._blocks.give_back(sequence.table)
        sequence.cached, sequence.named, sequence.digest = 0, 0, b""

    def _prefill(self, sequence: _Sequence, count: int) -> int:
        """Read `count` tokens of a sequence, and choose its next token once all are read; gives how many were."""
        if not self._make_room(sequence, count):
            return 0
        last = count == sequence.unread
        start = sequence.window_start + sequence.cached
        began = time.perf_counter()
        logits_V = self.backend.prefill(
            np.array(sequence.ids[start : start + count], np.int32),
            sequence.cached,
            np.array(sequence.table, np.int32),
            "last" if last else "none",
        )
        self.statistics.prefill_seconds += time.perf_counter() - began
        self.statistics.prefill_tokens += count
        self._has_read(sequence, count)
        if logits_V is not None:
            self._go_on(sequence, logits_V)
        return count

    def _decode(self, sequences: list[_Sequence]) -> None:
        """One token more for each of the sequences, oldest first."""
        for sequence in sequences:
            if sequence.running:  # room for one before may have been made of its blocks
                self._make_room(sequence, 1)
        sequences = [sequence for sequence in sequences if sequence.running]
        if not sequences:
            return
        tables_BN = np.zeros((len(sequences), max(len(sequence.table) for sequence in sequences)), np.int32)
        for row_N, sequence in zip(tables_BN, sequences, strict=True):
            row_N[: len(sequence.table)] = sequence.table
        logits_BV = self.backend.decode(
            np.array([sequence.ids[-1] for sequence in sequences], np.int32),
            np.array([sequence.cached for sequence in sequences], np.int32),
            tables_BN,
        )
        self.statistics.decode_tokens += len(sequences)
        for sequence, logits_V in zip(sequences, logits_BV, strict=True):
            if sequence.running:
                self._has_read(sequence, 1)
                self._go_on(sequence, logits_V)

    def _make_room(self, sequence: _Sequence, count: int) -> bool:
        """Blocks of its own for `count` tokens more, whoever is youngest giving way; False where that is itself."""
        size, table = self._blocks.block_tokens, sequence.table
        while sequence.running:
            place = sequence.cached // size
            if place < len(table) and self._blocks.is_shared(table[place]):
                if (block := self._blocks.take()) is not None:
                    self.backend.copy_block(table[place], block)
                    self._blocks.give_back([table[place]])
                    table[place] = block
                    continue
            elif len(table) * size >= sequence.cached + count:
                return True
            elif (block := self._blocks.take()) is not None:
                table.append(block)
                continue
            self._put_back(self._running[-1])
        return False

    def _put_back(self, sequence: _Sequence) -> None:
        """Into the queue, as one that is to be read again: the same tokens will follow."""
        request = sequence.request
        self._leave(sequence)
        sequence.leader = None
        insort(request.ready, sequence, key=_age)
        if request not in self._waiting:
            insort(self._waiting, request, key=_number)
        self.statistics.put_back += 1

    def _leave(self, sequence: _Sequence) -> None:
        sequence.running = False
        self._running.remove(sequence)
        self._forget(sequence)

    def _has_read(self, sequence: _Sequence, count: int) -> None:
        sequence.cached += count
        size = self._blocks.block_tokens
        while (sequence.named + 1) * size <= sequence.cached:
            start = sequence.window_start + sequence.named * size
            sequence.digest = self._blocks.digest(sequence.digest, sequence.ids[start : start + size])
            self._blocks.name(sequence.table[sequence.named], sequence.digest)
            sequence.named += 1

    def _go_on(self, sequence: _Sequence, logits_V: Float32) -> None:
        """Choose the next token of a sequence that has been read, and the first one of those that waited for that."""
        followers = []
        if sequence.generated == 0 and sequence.request.options.sequences > 1:
            followers = [one for one in self._running if one.leader is sequence]
        for follower in followers:
            follower.leader = None
            follower.table = self._blocks.share(sequence.table)
            follower.cached, follower.named, follower.digest = sequence.cached, sequence.named, sequence.digest
        for one in (sequence, *followers):
            if one.running:
                self._choose(one, logits_V)

    def _choose(self, sequence: _Sequence, logits_V: Float32) -> None:
        """The next token of a sequence, and all that follows from it."""
        request = sequence.request
        self._committing = sequence
        try:
            choice = sequence.sampler.choose(logits_V[: self.tokenizer.vocab_size])
        except BadInput as error:
            self._fail(request, error)
            return
        token = choice.token
        if request.with_logprobs and choice.logprob is not None:
            sequence.logprob_sum += choice.logprob
        if token == self.tokenizer.end_of_text:
            sequence.finish_reason = "end_of_text"
        else:
            sequence.ids.append(token)
            if request.options.logprobs is not None:
                sequence.choices.append(choice)
            self._say(sequence, sequence.text.push(token))
            if sequence.text.stopped:
                sequence.finish_reason = "stop"
            elif sequence.generated == request.options.max_tokens:
                sequence.finish_reason = "length"
        if sequence.finish_reason is not None:
            self._say(sequence, sequence.text.finish())
            self._leave(sequence)
            self._finished(request)
        elif sequence.cached == self.backend.config.context_length:
            self._slide(sequence)
        self._committing = None

    def _say(self, sequence: _Sequence, piece: str) -> None:
        if piece:
            sequence.pieces.append(piece)
            if not sequence.request.options.best_of:
                sequence.request.events.append((sequence.index, piece))

    def _finished(self, request: _Request) -> None:
        """One sequence of a request fewer to wait for."""
        if request.unfinished == 1 and request.options.best_of:
            request.events.extend((found.index, found.text) for found in self._completions(request) if found.text)
        request.unfinished -= 1

    def _fail(self, request: _Request, error: BadInput) -> None:
        """Broken numbers, which would spread from its blocks to those who get them next: the cache is emptied."""
        request.error = error
        self._end(request)
        self._start_afresh()
        self._committing = None

    # Prompts and completions

    def _read_prompt(self, prompt: str | Sequence[int]) -> tuple[str, list[int]]:
        """The prompt's text and its token ids, at least one: every document begins with the end-of-text token."""
        end_of_text = self.tokenizer.end_of_text
        if isinstance(prompt, str):
            return prompt, self.tokenizer.encode(prompt) or [end_of_text]
        ids = [int(token) for token in prompt]
        if ids and not 0 <= min(ids) <= max(ids) < self.tokenizer.vocab_size:
            wrong = next(token for token in ids if not 0 <= token < self.tokenizer.vocab_size)
            raise BadInput(f"the prompt's token id {wrong} is not in the vocabulary of {self.tokenizer.vocab_size:,}.")
        return self.tokenizer.decode(ids), ids or [end_of_text]

    def _check_fits(self, prompt_tokens: int, options: SamplingOptions) -> None:
        """Raise BadOption for what could not run even if it were alone."""
        most = min(self.backend.config.context_length, max(prompt_tokens, prompt_tokens + options.max_tokens - 1))
        needed = ceil(most / self._blocks.block_tokens) * max(1, options.beams)
        if needed > self._blocks.count:
            size = self.backend.block_bytes / 2**20
            raise BadOption(
                f"{prompt_tokens:,} tokens of prompt and --max-tokens {options.max_tokens:,} need"
                f" {needed * size:,.1f} MiB of cache, which holds {self._blocks.count * size:,.1f} MiB: ask for fewer, or raise --cache-bytes."
            )
        if options.beams > self.max_batch:
            raise BadOption(
                f"--beams {options.beams:,}: they run side by side, and at most {self.max_batch:,} sequences do."
            )

    def _completions(self, request: _Request) -> list[Completion]:
        found = [self._completion(request, index) for index in range(request.options.sequences)]
        if request.options.best_of:
            found.sort(key=lambda one: -np.inf if one.mean_logprob is None else one.mean_logprob, reverse=True)
            found = [replace(one, index=rank) for rank, one in enumerate(found[: request.options.n])]
        return found

    def _completion(self, request: _Request, index: int) -> Completion:
        sequence = request.sequences.get(index)
        if sequence is None:
            reason: FinishReason = "cancelled" if request.options.max_tokens else "length"
            return Completion(request.prompt, "", reason, 0, request.dropped, 0, index, ())
        chosen = sequence.generated + (sequence.finish_reason == "end_of_text")
        return Completion(
            prompt=request.prompt,
            text="".join(sequence.pieces),
            finish_reason=sequence.finish_reason or "cancelled",
            tokens=sequence.generated,
            dropped_prompt_tokens=request.dropped,
            window_slides=sequence.slides,
            index=index,
            token_ids=tuple(sequence.ids[len(request.ids) :]),
            logprobs=None if request.options.logprobs is None else tuple(sequence.choices),
            mean_logprob=sequence.logprob_sum / chosen if request.with_logprobs and chosen else None,
        )


def _age(sequence: _Sequence) -> tuple[int, int]:
    return sequence.age


def _number(request: _Request) -> int:
    return request.number


def _leads(sequence: _Sequence) -> bool:
    """Whether it is reading its prompt, so that others may wait for that."""
    return sequence.generated == 0 and sequence.leader is None
