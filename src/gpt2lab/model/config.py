"""GPT-2's shapes and what they cost. No torch here: the planner, the recipes and the command line read it."""

from dataclasses import dataclass, replace
from typing import Literal

from gpt2lab.base.errors import BadOption


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2 (names as in GPT-2's files; `context_length` is their `n_positions`).

    The dropouts act where `transformers` has them: on the sum of embeddings, on attention weights, on each residual
    branch. `gelu_new` is GPT-2's activation, the tanh approximation of `gelu`, which nanoGPT's models have. Raises
    BadOption for a shape that is no GPT-2.
    """

    vocab_size: int = 50_257
    context_length: int = 1024
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    embd_pdrop: float = 0.0
    attn_pdrop: float = 0.0
    resid_pdrop: float = 0.0
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    activation_function: Literal["gelu_new", "gelu"] = "gelu_new"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise BadOption(f"model.{name} = {getattr(self, name)}: must be at least 1.")
        if self.n_embd % self.n_head:
            raise BadOption(f"model.n_embd = {self.n_embd} can't be divided among model.n_head = {self.n_head} heads.")
        for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
            if not 0 <= getattr(self, name) < 1:
                raise BadOption(f"model.{name} = {getattr(self, name)}: a dropout is at least 0 and below 1.")
        if not 0 <= self.layer_norm_epsilon < 1:
            raise BadOption(f"model.layer_norm_epsilon = {self.layer_norm_epsilon}: it is at least 0 and below 1.")


# Radford et al. 2019, table 2, by the names of the paper; PrettyBig is the independent replication's; the last two are
# sizes of our own for a laptop's processor.
SIZES = {
    "117M": GPT2Config(n_layer=12, n_head=12, n_embd=768),
    "345M": GPT2Config(n_layer=24, n_head=16, n_embd=1024),
    "762M": GPT2Config(n_layer=36, n_head=20, n_embd=1280),
    "1542M": GPT2Config(n_layer=48, n_head=25, n_embd=1600),
    "PrettyBig": GPT2Config(n_layer=25, n_head=16, n_embd=1024),
    "nano": GPT2Config(n_layer=4, n_head=4, n_embd=256, context_length=256),
    "micro": GPT2Config(n_layer=6, n_head=6, n_embd=384, context_length=512),
}


def gpt2_size(name: str, vocab_size: int = 50_257) -> GPT2Config:
    """The shape of a named size; raises BadOption that lists the names."""
    if name not in SIZES:
        raise BadOption(f"no size {name!r}; the sizes are {', '.join(SIZES)}.")
    return replace(SIZES[name], vocab_size=vocab_size)


def parameter_count(config: GPT2Config) -> int:
    """Numbers in the network: a tied head is counted once, as the published counts do."""
    d = config.n_embd
    embeddings = (config.vocab_size + config.context_length) * d
    layer = 12 * d * d + 13 * d  # two norms 4d; qkv 3d*d + 3d; attention out d*d + d; mlp 8d*d + 5d
    head = 0 if config.tie_word_embeddings else config.vocab_size * d
    return embeddings + config.n_layer * layer + 2 * d + head


def training_flops_per_token(config: GPT2Config) -> int:
    """Floating-point operations of one training token, forward and backward, by the design's formula.

    6 * (parameters without positions) + 6 * n_layer * context_length * n_embd, the latter for causal attention.
    """
    without_positions = parameter_count(config) - config.context_length * config.n_embd
    return 6 * without_positions + 6 * config.n_layer * config.context_length * config.n_embd
