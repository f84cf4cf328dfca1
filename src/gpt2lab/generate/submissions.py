"""What the engine keeps of a submission and of the sequences that continue it, and what its user gets in the end."""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from gpt2lab.base.errors import UserError
from gpt2lab.generate.backend import Float32
from gpt2lab.generate.beams import BeamSearch
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.sampling import Choice, Sampler
from gpt2lab.generate.text_stream import TextStream
from gpt2lab.tokens.bpe import ByteLevelBPE

FinishReason = Literal["stop", "length", "end_of_text", "cancelled"]


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt.

    `tokens` and `token_ids` are what was generated: without the end-of-text token, with those that spell a stop string.
    `dropped_prompt_tokens` says how many tokens at the prompt's start did not fit the context; `window_slides` how
    often the window moved while the text grew. `logprobs` has an entry for each of `token_ids`, where they were asked
    for; `mean_logprob`, in nats, is the mean of the same, for best-of and beams too (None where there are no tokens).
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


class Submission:
    """A prompt and its options, and the sequences that continue it."""

    def __init__(
        self, prompt: str, ids: list[int], dropped: int, options: SamplingOptions, tokenizer: ByteLevelBPE
    ) -> None:
        self.prompt, self.ids, self.dropped = prompt, ids, dropped
        self.options, self.tokenizer = options, tokenizer
        self.with_logprobs = options.logprobs is not None or options.best_of > 0 or options.beams > 0
        self.search: BeamSearch | None = None
        if options.beams:
            self.search = BeamSearch(options, tokenizer.vocab_size, ids, tokenizer.end_of_text)
        self.number = -1
        """Its place among all submissions, once it has one."""
        self.ready: list[RunningSequence] = []
        """Those to be read, for the first time or again."""
        self.sequences: dict[int, RunningSequence] = {}
        """Those that were started; of beams, those that are live."""
        self.events: deque[tuple[int, str]] = deque()
        self.error: UserError | None = None
        self.cancelled = False
        self.unfinished = self.unstarted if options.max_tokens else 0
        """How many of its sequences have not ended (of beams: 1 until the search has)."""
        self.start_next()  # raises BadOption at once for options that don't suit the vocabulary

    @property
    def unstarted(self) -> int:
        """How many sequences are still to be started; beams all come from the first."""
        if self.search is not None:
            return 0 if self.sequences else 1
        return self.options.sequences - len(self.sequences)

    @property
    def has_news(self) -> bool:
        """Whether there is something for its user."""
        return bool(self.events) or self.unfinished == 0

    @property
    def streams(self) -> bool:
        """Whether pieces are certain as they come: of best-of and beams, only the end tells which texts are given."""
        return not self.options.best_of and self.search is None

    def start_next(self) -> None:
        """One more of its sequences is ready to be read."""
        index = len(self.sequences)
        sequence = RunningSequence(self, index)
        if self.search is None:
            end_of_text = self.tokenizer.end_of_text
            sequence.sampler = Sampler(self.options, self.tokenizer.vocab_size, self.ids, end_of_text, index)
        self.sequences[index] = sequence
        self.ready.append(sequence)

    def rewind(self) -> None:
        """Nothing of it is in the cache, and all that has not ended is to be read again."""
        self.ready = [one for one in self.sequences.values() if one.finish_reason is None]
        for sequence in self.ready:
            sequence.leave()

    def settle(self) -> None:
        """Make the parts of its sequences agree again, as an interrupt left one of them with half a token more."""
        for sequence in self.sequences.values() if self.search is None else ():
            if self.with_logprobs:
                del sequence.ids[len(self.ids) + len(sequence.choices) :]
            stream = TextStream(self.tokenizer.token_bytes, self.options.stop)
            sequence.pieces = [stream.push(token) for token in sequence.ids[len(self.ids) :]]
            if sequence.finish_reason is not None:
                sequence.pieces.append(stream.finish())

    def text_of(self, ids: list[int]) -> tuple[str, bool]:
        """The text of generated tokens up to the first stop string, and whether there is one."""
        stream = TextStream(self.tokenizer.token_bytes, self.options.stop)
        pieces = []
        for token in ids:
            pieces.append(stream.push(token))
            if stream.stopped:
                break
        return "".join(pieces) + stream.finish(), stream.stopped

    def completions(self) -> list[Completion]:
        """What became of it, once it has ended: in order of index, or best first."""
        if self.search is not None:
            return self._beams(self.search)[: self.options.n]
        found = [self._sampled(index) for index in range(self.options.sequences)]
        if self.options.best_of:
            order = sorted(found, key=_mean_logprob, reverse=True)[: self.options.n]
            return [replace(one, index=rank) for rank, one in enumerate(order)]
        return found

    def ended(self, index: int) -> Completion | None:
        """One of the sampled texts, in order of index, once it has ended."""
        sequence = self.sequences.get(index)
        return None if sequence is None or sequence.finish_reason is None else self._sampled(index)

    def _sampled(self, index: int) -> Completion:
        sequence, reason = self.sequences.get(index), self.ended_early
        if sequence is None:  # it was never started
            return self._completion(index, "", reason, 0, [], [])
        text, ids = "".join(sequence.pieces), sequence.ids[len(self.ids) :]
        return self._completion(index, text, sequence.finish_reason or reason, sequence.slides, ids, sequence.choices)

    def _beams(self, search: BeamSearch) -> list[Completion]:
        ended: list[tuple[tuple[Choice, ...], FinishReason]] = []
        ended += [(found.choices, found.finish_reason) for found in search.hypotheses]
        if not search.done:
            ended += [(beam.choices, "cancelled") for beam in search.live]
        slides = max(sequence.slides for sequence in self.sequences.values())
        completions = []
        for rank, (choices, reason) in enumerate(ended):
            ids = [choice.token for choice in choices]
            completions.append(self._completion(rank, self.text_of(ids)[0], reason, slides, ids, list(choices)))
        return completions

    @property
    def ended_early(self) -> FinishReason:
        """Why those ended that did not come to an end."""
        return "cancelled" if self.options.max_tokens else "length"

    def _completion(
        self, index: int, text: str, reason: FinishReason, slides: int, ids: list[int], choices: list[Choice]
    ) -> Completion:
        logprobs = [choice.logprob for choice in choices if choice.logprob is not None]
        return Completion(
            prompt=self.prompt,
            text=text,
            finish_reason=reason,
            tokens=len(ids),
            dropped_prompt_tokens=self.dropped,
            window_slides=slides,
            index=index,
            token_ids=tuple(ids),
            logprobs=None if self.options.logprobs is None else tuple(choices),
            mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        )


class RunningSequence:
    """One continuation under way. Its window is what the network sees: the tokens from `window_start` on."""

    __slots__ = (
        "cached",
        "choices",
        "digest",
        "finish_reason",
        "ids",
        "index",
        "leader",
        "logits_V",
        "named",
        "pieces",
        "running",
        "sampler",
        "slides",
        "submission",
        "table",
        "text",
        "window_start",
    )

    def __init__(self, submission: Submission, index: int) -> None:
        self.submission, self.index = submission, index
        self.sampler: Sampler | None = None
        """What chooses its tokens; None for beams, which are chosen together."""
        self.text = TextStream(submission.tokenizer.token_bytes, submission.options.stop)
        self.pieces: list[str] = []
        self.choices: list[Choice] = []
        self.finish_reason: FinishReason | None = None
        self.ids = list(submission.ids)
        """The prompt's tokens and those generated."""
        self.window_start = 0
        self.slides = 0
        """How often the window has moved."""
        self.running = False
        self.leader: RunningSequence | None = None
        """Who reads the prompt for this one, which waits for that."""
        self.cached = 0
        """Tokens of the window whose keys and values are in the cache."""
        self.table: list[int] = []
        self.named, self.digest = 0, b""
        """Full blocks of the table that others can find, and the digest of the last of them."""
        self.logits_V: Float32 | None = None
        """Of a beam that has been read, those after its last token, while it waits for the others."""

    def leave(self) -> None:
        """It holds no blocks any more, and waits for nobody."""
        self.running, self.leader, self.logits_V = False, None, None
        self.table, self.cached, self.named, self.digest = [], 0, 0, b""

    @property
    def age(self) -> tuple[int, int]:
        """Sorts sequences from the oldest to the youngest."""
        return self.submission.number, self.index

    @property
    def generated(self) -> int:
        """How many tokens were added to the prompt."""
        return len(self.ids) - len(self.submission.ids)

    @property
    def unread(self) -> int:
        """Tokens of the window that the network has still to read; the logits after the last give the next token."""
        return len(self.ids) - self.window_start - self.cached

    @property
    def leads(self) -> bool:
        """Whether it is reading its prompt, so that others of its submission may wait for that."""
        return self.generated == 0 and self.leader is None


def _mean_logprob(completion: Completion) -> float:
    return -math.inf if completion.mean_logprob is None else completion.mean_logprob
