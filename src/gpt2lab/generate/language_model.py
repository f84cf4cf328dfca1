"""A model as its user holds it: network and tokenizer together, continuing prompts."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import without_padding
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.sampling import choose_token
from gpt2lab.model.gpt2 import GPT2, KVCache
from gpt2lab.tokens.bpe import ByteLevelBPE

FinishReason = Literal["stop", "length", "end_of_text"]


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt.

    `dropped_prompt_tokens` says how many tokens at the prompt's start did not fit the context; `window_slides` how
    often the window moved while the text grew.
    """

    prompt: str
    text: str
    finish_reason: FinishReason
    tokens: int
    dropped_prompt_tokens: int
    window_slides: int

    def __str__(self) -> str:
        return self.text


class LanguageModel:
    """A network and its tokenizer."""

    def __init__(self, network: GPT2, tokenizer: ByteLevelBPE) -> None:
        self.network = network.eval()
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, path: str | Path) -> "LanguageModel":
        """Open a model folder, another tool's file or a name on the hub; see `checkpoints.opening.open_model`."""
        # Rows that stand for no token would take their share of every probability.
        checkpoint = without_padding(open_model(path))
        return cls(network_of(checkpoint), checkpoint.required_tokenizer())

    def generate(
        self,
        prompt: str = "",
        options: SamplingOptions | None = None,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: tuple[str, ...] | str | None = None,
    ) -> Completion:
        """Continue `prompt` (an empty one starts a document); single options override those of `options`."""
        from dataclasses import replace

        given = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "stop": (stop,) if isinstance(stop, str) else stop,
        }
        options = replace(options or SamplingOptions(), **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        decoding = Decoding(self, prompt, options)
        text = "".join(decoding)
        return decoding.completion(text)

    def stream(self, prompt: str, options: SamplingOptions) -> "Decoding":
        """Like `generate`, piece by piece: iterate over the result for text, then ask it for its `completion`."""
        return Decoding(self, prompt, options)


class Decoding:
    """The continuation of one prompt under way. Iterating yields text that never ends inside a character.

    When the context is full the window slides: the older half is let go, the newer half read again from position 0,
    and decoding goes on. (GPT-2's positions are absolute, so a window can't slide without reading it again.)
    """

    def __init__(self, model: LanguageModel, prompt: str, options: SamplingOptions) -> None:
        self._model, self._prompt, self._options = model, prompt, options
        context_length = model.network.config.context_length
        prompt_ids = model.tokenizer.encode(prompt)
        # Every training document begins with <|endoftext|>, so an empty prompt is that token alone.
        self._ids = prompt_ids or [model.tokenizer.end_of_text]
        self.dropped_prompt_tokens = max(0, len(self._ids) - context_length)
        self._ids = self._ids[self.dropped_prompt_tokens :]
        self.tokens = 0
        self.window_slides = 0
        self.finish_reason: FinishReason = "length"

    def completion(self, text: str) -> Completion:
        """What was made, once the iteration has ended; `text` is the joined pieces."""
        return Completion(
            self._prompt, text, self.finish_reason, self.tokens, self.dropped_prompt_tokens, self.window_slides
        )

    def __iter__(self) -> Iterator[str]:
        tokenizer, stops = self._model.tokenizer, self._options.stop
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pending = ""
        for token in self._tokens():
            pending += decoder.decode(tokenizer.token_bytes[token])
            found = [place for stop in stops if (place := pending.find(stop)) >= 0]
            if found:
                self.finish_reason = "stop"
                yield pending[: min(found)]
                return
            sure = len(pending) - _held_back(pending, stops)
            if sure:
                yield pending[:sure]
                pending = pending[sure:]
        pending += decoder.decode(b"", final=True)
        if pending:
            yield pending

    @torch.inference_mode()
    def _tokens(self) -> Iterator[int]:
        network, end_of_text = self._model.network, self._model.tokenizer.end_of_text
        vocab_size = self._model.tokenizer.vocab_size
        context_length = network.config.context_length
        weight = network.wte.weight
        generator = torch.Generator().manual_seed(self._options.seed)
        cache = KVCache(network.config, 1, weight.dtype, weight.device)
        new = list(self._ids)
        while self.tokens < self._options.max_tokens:
            if cache.length + len(new) > context_length:
                self._ids = self._ids[-max(1, context_length // 2) :]
                new = list(self._ids)
                cache.length = 0
                self.window_slides += 1
            hidden_BTD = network.hidden(torch.tensor([new], device=weight.device), cache)
            # A vocabulary padded beyond the tokenizer's has logits that stand for no token.
            logits_V = network.head(hidden_BTD[0, -1]).cpu()[:vocab_size]
            if not logits_V.isfinite().all():
                raise BadInput("the model gives logits that are not numbers: its weights are broken.")
            token = choose_token(logits_V, self._options, generator)
            if token == end_of_text:
                self.finish_reason = "end_of_text"
                return
            self.tokens += 1
            self._ids.append(token)
            new = [token]
            yield token


def _held_back(text: str, stops: tuple[str, ...]) -> int:
    """Characters at the end of `text` that may turn out to be the beginning of a stop string."""
    longest = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:length]):
                longest = length
                break
    return longest
