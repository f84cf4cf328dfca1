"""A model as its user holds it: network and tokenizer together, continuing prompts."""

from dataclasses import replace
from pathlib import Path

from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import without_padding
from gpt2lab.generate.engine import Completion, Engine, Generation
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.torch_backend import TorchBackend
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE


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
        given = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "stop": (stop,) if isinstance(stop, str) else stop,
        }
        options = replace(options or SamplingOptions(), **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        return self.stream(prompt, options).completions()[0]

    def stream(self, prompt: str, options: SamplingOptions) -> Generation:
        """Like `generate`, piece by piece: iterate over the result for text, then ask it for its `completions`."""
        # An engine for each call: the network may have been trained, moved or converted since the last one.
        backend = TorchBackend(self.network)
        places = min(options.sequences, max(backend.max_batch, options.beams))
        engine = Engine(backend, self.tokenizer, max_batch=places)
        return engine.submit(prompt, options)
