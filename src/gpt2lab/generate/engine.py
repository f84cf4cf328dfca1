"""Many continuations at once over one backend: a queue, a KV cache of blocks, and the step that moves all of them on.

A step admits who waits (first come, first served), reads a chunk of each new prompt, and makes one token for each
sequence that has been read. Sequences join and leave at every step. Where blocks run out the youngest sequence gives
its own back and is read again later, to the same tokens. There is no thread: whoever waits for text steps.
"""

import itertools
import threading
import time
import weakref
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from gpt2lab.base.errors import BadInput, BadOption, UserError
from gpt2lab.generate.backend import Backend, Float32
from gpt2lab.generate.beams import BeamSearch
from gpt2lab.generate.kv_blocks import KVBlocks
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.submissions import Completion as Completion
from gpt2lab.generate.submissions import RunningSequence, Submission
from gpt2lab.tokens.bpe import ByteLevelBPE

PREFILL_CHUNK = 128
"""Prompt tokens read in a step while others wait for their next token."""
QUEUE_LIMIT = 1024
LONGEST_WAIT = 0.5  # seconds until a thread looks by itself whether it is its turn, should nobody have woken it
LARGEST_SHARE_OF_MEMORY = 4
"""The cache takes at most one part in this many of the memory that is available."""
KEPT_CONTEXTS = 2
"""Of texts that ended, what is kept for others that begin alike; more would take memory that was never touched."""


_ENGINES: "weakref.WeakValueDictionary[int, Engine]" = weakref.WeakValueDictionary()
"""The engines there are, by the `id` of the backend that each of them holds."""


class QueueFull(UserError):
    """As many submissions wait as the queue holds."""


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


class Generation:
    """What was submitted, and its text as it comes. Closing an iteration, or an exception inside it, cancels it."""

    def __init__(self, engine: "Engine", submission: Submission) -> None:
        self._engine, self._submission = engine, submission

    @property
    def prompt(self) -> str:
        """The text to be continued."""
        return self._submission.prompt

    @property
    def dropped_prompt_tokens(self) -> int:
        """How many tokens at the prompt's start did not fit the context."""
        return self._submission.dropped

    def __iter__(self) -> Iterator[str]:
        """Pieces of the only text asked for; that of best-of or beams comes whole, at the end."""
        if self._submission.options.n > 1:
            raise ValueError("several texts were asked for: iterate over events()")
        return (piece for _, piece in self.events())

    def events(self) -> Iterator[tuple[int, str]]:
        """(index, piece) of all texts asked for, as they come; best-of's and beams' come whole, at the end."""
        submission = self._submission
        try:
            while True:
                self._engine._step_until(lambda: submission.has_news)
                while submission.events:
                    yield submission.events.popleft()
                if submission.unfinished == 0:
                    break
        finally:
            self.cancel()
        if submission.error is not None:
            raise submission.error

    def completions(self) -> list[Completion]:
        """All texts asked for, run to their end: in order of index, or best first for best-of and beams."""
        submission = self._submission
        try:
            self._engine._step_until(lambda: submission.unfinished == 0)
        finally:
            self.cancel()
        if submission.error is not None:
            raise submission.error
        return submission.completions()

    def ended(self, index: int) -> Completion | None:
        """A sampled text that has ended; None where it has not. Its last pieces may still wait among the events."""
        return self._submission.ended(index)

    def so_far(self) -> list[Completion]:
        """What there is of all texts, ended or not; to be asked for after `cancel`, or an interrupt."""
        return self._submission.completions()

    def cancel(self) -> None:
        """End it now; what it held is free for others, and its texts are what they are."""
        if self._submission.unfinished:
            self._engine._cancel(self._submission)


class _Handle(weakref.ref[Generation]):
    """Tells when nobody holds a generation any more; a `__del__` could be hit by Ctrl-C, or call in mid-step."""

    submission: Submission


class Engine:
    """A backend, a tokenizer, and the continuations that run on them.

    `max_batch` sequences run at once (as many as the backend takes, unless given); the cache takes at most
    `cache_bytes`, by default what they need for a whole context each, but no more than a quarter of the memory that is
    available. `queue_limit` submissions may wait. A backend serves one engine at a time, as long as anybody holds it or
    a generation of it. Raises BadOption for a backend that serves another, and for a cache that holds not one block, or
    that the memory does not hold.
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
            import psutil

            cache_bytes = psutil.virtual_memory().available // LARGEST_SHARE_OF_MEMORY
        a_context = ceil(backend.config.context_length / backend.block_tokens)
        wanted = self.max_batch * a_context
        blocks = min(wanted, cache_bytes // backend.block_bytes)
        if blocks < 1:
            raise BadOption(
                f"--cache-bytes {cache_bytes:,}: holds not one block of {backend.block_tokens} tokens, which takes"
                f" {backend.block_bytes:,} bytes."
            )
        if id(backend) in _ENGINES:  # whose cache would be taken
            raise BadOption(
                f"the backend ({backend.name}) serves another engine: make this one a backend of its own, or let go of"
                " the other and its generations first."
            )
        self._blocks = KVBlocks(blocks, backend.block_tokens, KEPT_CONTEXTS * a_context)
        try:
            backend.reserve(blocks)
        except MemoryError:
            raise BadOption(
                f"a cache for --max-batch {self.max_batch:,} takes {blocks * backend.block_bytes / 2**20:,.1f} MiB,"
                " more memory than there is: make it smaller with --max-batch or --cache-bytes."
            ) from None
        self._numbers = itertools.count()
        self._arriving: deque[Submission] = deque()
        self._waiting: list[Submission] = []
        self._running: list[RunningSequence] = []
        self._committing: Submission | None = None
        self._open: dict[Submission, _Handle] = {}
        """All that have not ended."""
        self._dropped: deque[_Handle] = deque()
        """Whose generations were cancelled, or are held by nobody any more."""
        self._torn = False
        """Whether the last turn has not ended as it should have."""
        self._progress = threading.Condition()
        self._stepper: int | None = None
        self._steps = 0
        _ENGINES[id(backend)] = self

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
        submission = Submission(text, ids, dropped, options, self.tokenizer)
        generation = Generation(self, submission)
        handle = _Handle(generation, self._dropped.append)
        handle.submission = submission
        with self._progress:  # not in turn: who steps without a pause would let no other thread submit
            waiting = sum(self._wanted(one) for one in (*self._waiting, *self._arriving))
            if waiting >= self.queue_limit:
                submission.unfinished = 0
                raise QueueFull(
                    f"{waiting:,} submissions wait already and --queue-limit is {self.queue_limit:,}: submit it again"
                    " when some have ended."
                )
            if submission.unfinished:
                submission.number = next(self._numbers)
                self._open[submission] = handle
                self._arriving.append(submission)
        return generation

    def step(self) -> bool:
        """Move all sequences on by one step, or wait for a thread that does; False once there is nothing to do."""
        before = self._steps
        self._alone(self._step, unless=lambda: self._steps != before)
        return bool(self._running or self._waiting or self._arriving)

    @property
    def free_blocks(self) -> int:
        """Blocks of the cache that no sequence holds."""
        self._alone(self._discard, unless=lambda: not self._dropped and not self._torn)
        return self._blocks.free

    @property
    def blocks(self) -> int:
        """Blocks of the cache."""
        return self._blocks.count

    # Taking turns

    def _alone(self, do: Callable[[], None], unless: Callable[[], bool]) -> None:
        """Do something while no other thread steps, or nothing once `unless` holds.

        Ctrl-C may strike anywhere, also in here: turns are taken and ended by plain assignments, and what a turn has
        left half done is mended by the next one.
        """
        me = threading.get_ident()
        try:
            with self._progress:
                while not unless():
                    if self._stepper is None or self._stepper == me:
                        self._stepper = me
                        break
                    self._progress.wait(LONGEST_WAIT)
                else:
                    return
            if self._torn:
                self._mend()
            self._torn = True
            do()
            self._torn = False
        finally:
            if self._stepper == me:
                self._stepper = None
                with self._progress:
                    self._progress.notify_all()

    def _step_until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._alone(self._step, unless=ready)

    def _wanted(self, submission: Submission) -> bool:
        handle = self._open.get(submission)
        return handle is not None and not submission.cancelled and handle() is not None

    def _cancel(self, submission: Submission) -> None:
        submission.cancelled = True
        if (handle := self._open.get(submission)) is not None:
            self._dropped.append(handle)
        # One who steps just now will see to it; and it may be this thread, whose garbage collector ends an iteration.
        self._alone(self._discard, unless=lambda: not self._dropped or self._stepper is not None)

    # All below runs in one thread at a time

    def _discard(self) -> None:
        """Let those in who arrived, and out who are not wanted any more."""
        while self._arriving:
            self._waiting.append(self._arriving.popleft())
        while self._dropped:
            self._end(self._dropped.popleft().submission)

    def _end(self, submission: Submission) -> None:
        """Whatever the submission still runs or waits for ends here."""
        for sequence in [one for one in self._running if one.submission is submission]:
            self._leave(sequence)
        if submission in self._waiting:
            self._waiting.remove(submission)
        submission.unfinished = 0
        self._open.pop(submission, None)

    def _mend(self) -> None:
        """Empty the cache, and make all that have not ended wait to be read again; the same tokens will follow."""
        if (broken := self._committing) is not None and broken.unfinished and broken.error is None:
            if broken.cancelled:  # as by the Ctrl-C itself: its user wants what there is of it
                broken.settle()
            else:
                broken.error = UserError("the text was cut off: its next token was being chosen at an interrupt.")
        with self._progress:
            self._arriving.clear()
            everyone = list(self._open)
        for submission in everyone:
            submission.rewind()
            if submission.error is not None or not self._wanted(submission) or not submission.unfinished:
                submission.unfinished = 0
                self._open.pop(submission, None)
        self._running = []
        self._waiting = [one for one in everyone if one in self._open and (one.ready or one.unstarted)]
        self._committing = None
        self._blocks.reset()
        self.backend.reserve(self._blocks.count)

    def _step(self) -> None:
        began, prefill_seconds = time.perf_counter(), self.statistics.prefill_seconds
        self._discard()
        if self._waiting:
            self._admit()
        if self._running:
            self._move_on()
        prefilled = self.statistics.prefill_seconds - prefill_seconds
        self.statistics.decode_seconds += time.perf_counter() - began - prefilled
        self._steps += 1

    def _admit(self) -> None:
        """Start those who waited longest, as long as there are places and blocks."""
        while self._waiting:
            submission = self._waiting[0]
            if not submission.ready:
                submission.start_next()
            sequence = submission.ready[0]
            if not self._has_place(submission):
                return
            if sequence.generated == 0:
                sequence.leader = next(
                    (one for one in self._running if one.submission is submission and one.leads), None
                )
            if sequence.leader is None and not self._give_blocks(sequence):
                return
            submission.ready.pop(0)
            if not submission.ready and not submission.unstarted:
                self._waiting.pop(0)
            sequence.running = True
            insort(self._running, sequence, key=_age)

    def _has_place(self, submission: Submission) -> bool:
        """Whether one more of its sequences may run beside the others; beams take their places all at once."""
        groups = {one.submission.number: one.submission for one in self._running if one.submission.search is not None}
        if submission.number in groups:
            return True
        taken = sum(one.submission.search is None for one in self._running)
        taken += sum(group.options.beams for group in groups.values())
        return taken + max(1, submission.options.beams) <= self.max_batch

    def _give_blocks(self, sequence: RunningSequence) -> bool:
        """Blocks for the whole window, those that are known already among them; False where there is no room yet.

        Room is left for a block more for each of the others, so that none is put back at once.
        """
        window = sequence.ids[sequence.window_start :]
        size = self._blocks.block_tokens
        found, digest = self._blocks.find(window, (len(window) - 1) // size)
        missing = ceil(len(window) / size) - len(found)
        others = sum(one.submission is not sequence.submission for one in self._running)
        if self._blocks.free < missing + others:
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
        decoding: list[RunningSequence] = []
        reading: list[RunningSequence] = []
        for sequence in self._running:
            if sequence.leader is not None or sequence.logits_V is not None:
                continue
            (decoding if sequence.unread == 1 else reading).append(sequence)
        budget = PREFILL_CHUNK if decoding else context
        for sequence in reading:
            if budget and sequence.running:
                budget -= self._prefill(sequence, min(budget, sequence.unread))
        for start in range(0, len(decoding), self.backend.max_batch):
            self._decode(decoding[start : start + self.backend.max_batch])

    def _slide(self, sequence: RunningSequence) -> None:
        """Let the window's older half go; the newer half will be read again from position 0.

        GPT-2's positions are absolute, so a window can't move without that.
        """
        sequence.slides += 1
        sequence.window_start = len(sequence.ids) - max(1, self.backend.config.context_length // 2)
        self._blocks.give_back(sequence.table)
        sequence.cached, sequence.named, sequence.digest = 0, 0, b""

    def _prefill(self, sequence: RunningSequence, count: int) -> int:
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

    def _decode(self, sequences: list[RunningSequence]) -> None:
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
        logits_BV, greatest_B = self.backend.decode(
            np.array([sequence.ids[-1] for sequence in sequences], np.int32),
            np.array([sequence.cached for sequence in sequences], np.int32),
            tables_BN,
        )
        self.statistics.decode_tokens += len(sequences)
        for sequence, logits_V, greatest in zip(sequences, logits_BV, greatest_B, strict=True):
            if sequence.running:
                self._has_read(sequence, 1)
                self._go_on(sequence, logits_V, greatest)

    def _make_room(self, sequence: RunningSequence, count: int) -> bool:
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

    def _put_back(self, sequence: RunningSequence) -> None:
        """Into the queue, to be read again: the same tokens will follow. Beams go together."""
        submission = sequence.submission
        together = [one for one in self._running if one.submission is submission] if submission.search else [sequence]
        for one in together:
            self._leave(one)
            insort(submission.ready, one, key=_age)
            self.statistics.put_back += 1
        if submission not in self._waiting:
            insort(self._waiting, submission, key=_number)

    def _leave(self, sequence: RunningSequence) -> None:
        self._running.remove(sequence)
        self._blocks.give_back(sequence.table)
        sequence.leave()

    def _has_read(self, sequence: RunningSequence, count: int) -> None:
        sequence.cached += count
        size = self._blocks.block_tokens
        while (sequence.named + 1) * size <= sequence.cached:
            start = sequence.window_start + sequence.named * size
            sequence.digest = self._blocks.digest(sequence.digest, sequence.ids[start : start + size])
            self._blocks.name(sequence.table[sequence.named], sequence.digest)
            sequence.named += 1

    def _go_on(self, sequence: RunningSequence, logits_V: Float32, greatest: int | None = None) -> None:
        """The next token of a sequence that has been read, and the first one of those that waited for that."""
        submission, vocab_size = sequence.submission, self.tokenizer.vocab_size
        logits_V = logits_V[:vocab_size]
        if greatest is not None and greatest >= vocab_size:  # the network has ids that are no tokens
            greatest = None
        self._committing = submission
        try:
            if submission.search is not None:
                self._search(submission.search, sequence, logits_V)
            else:
                for one in (sequence, *self._followers(sequence)):
                    self._choose(one, logits_V, greatest)
        except BadInput as error:
            submission.error = error
            self._mend()  # broken numbers would spread from its blocks to those who get them next
        self._committing = None

    def _followers(self, sequence: RunningSequence) -> list[RunningSequence]:
        """Those that waited for the prompt to be read, and share its blocks from now on."""
        if sequence.generated or sequence.submission.options.sequences == 1:
            return []
        followers = [one for one in self._running if one.leader is sequence]
        for one in followers:
            one.leader = None
            self._share(sequence, one)
        return followers

    def _share(self, sequence: RunningSequence, other: RunningSequence) -> None:
        other.table = self._blocks.share(sequence.table)
        other.cached, other.named, other.digest = sequence.cached, sequence.named, sequence.digest

    def _choose(self, sequence: RunningSequence, logits_V: Float32, greatest: int | None) -> None:
        submission, sampler = sequence.submission, sequence.sampler
        assert sampler is not None
        choice = sampler.choose(logits_V, greatest)
        if choice.token == self.tokenizer.end_of_text:
            sequence.finish_reason = "end_of_text"
        else:
            sequence.ids.append(choice.token)
            if submission.with_logprobs:
                sequence.choices.append(choice)
            self._say(sequence, sequence.text.push(choice.token))
            if sequence.text.stopped:
                sequence.finish_reason = "stop"
            elif sequence.generated == submission.options.max_tokens:
                sequence.finish_reason = "length"
        if sequence.finish_reason is not None:
            self._say(sequence, sequence.text.finish())
            sequence.sampler = None
            self._leave(sequence)
            self._finished(submission)
        elif sequence.cached == self.backend.config.context_length:
            self._slide(sequence)

    def _search(self, search: BeamSearch, sequence: RunningSequence, logits_V: Float32) -> None:
        """Once the last of the beams has been read, decide which go on, and let these share the blocks of those."""
        submission = sequence.submission
        sequence.logits_V = logits_V.copy()
        beams = list(submission.sequences.values())
        logits = [beam.logits_V for beam in beams if beam.logits_V is not None]
        if len(logits) < len(beams):
            return
        parents = search.advance(np.stack(logits), lambda ids: submission.text_of(ids)[1])
        if search.done:
            for beam in beams:
                self._leave(beam)
            self._finished(submission)
            return
        children = {}
        for index, (parent, live) in enumerate(zip(parents, search.live, strict=True)):
            child = children[index] = RunningSequence(submission, index)
            child.ids = [*beams[parent].ids, live.last_token]
            child.window_start, child.slides = beams[parent].window_start, beams[parent].slides
            self._share(beams[parent], child)
        for beam in beams:
            self._leave(beam)
        submission.sequences = children
        for child in children.values():
            child.running = True
            insort(self._running, child, key=_age)
            if child.cached == self.backend.config.context_length:
                self._slide(child)

    def _say(self, sequence: RunningSequence, piece: str) -> None:
        if piece:
            sequence.pieces.append(piece)
            if sequence.submission.streams:
                sequence.submission.events.append((sequence.index, piece))

    def _finished(self, submission: Submission) -> None:
        """One sequence of a submission fewer to wait for."""
        if submission.unfinished == 1 and not submission.streams:
            submission.events.extend((found.index, found.text) for found in submission.completions() if found.text)
        submission.unfinished -= 1
        if submission.unfinished == 0:
            self._open.pop(submission, None)

    # Prompts

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
        if options.beams > self.max_batch:
            raise BadOption(
                f"--beams {options.beams:,}: they run side by side, and at most {self.max_batch:,} sequences do."
            )
        most = min(self.backend.config.context_length, max(prompt_tokens, prompt_tokens + options.max_tokens - 1))
        needed = ceil(most / self._blocks.block_tokens) * max(1, options.beams)
        if needed > self._blocks.count:
            size = self.backend.block_bytes / 2**20
            raise BadOption(
                f"{prompt_tokens:,} tokens of prompt and --max-tokens {options.max_tokens:,} need"
                f" {needed * size:,.1f} MiB of cache, which holds {self._blocks.count * size:,.1f} MiB: ask for fewer,"
                " or raise --cache-bytes."
            )


def _age(sequence: RunningSequence) -> tuple[int, int]:
    return sequence.age


def _number(submission: Submission) -> int:
    return submission.number
