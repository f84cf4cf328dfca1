"""Models that the tests of exports share: long enough for 64 tokens, tied or not, padded or not."""

from dataclasses import replace
from pathlib import Path

import torch

from gpt2lab.checkpoints.torch_network import published_weights
from gpt2lab.checkpoints.weights import Checkpoint
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE

PROMPTS = ["The cat in the garden", "The", "nobody in the market sees the salmon.\nThe otter", "\x00 été 日本"]
CONFIG = GPT2Config(context_length=128, n_layer=2, n_head=4, n_embd=64)
VARIANTS = {
    "tied": CONFIG,
    "untied": replace(CONFIG, tie_word_embeddings=False),
    "exact gelu, other epsilon": replace(CONFIG, activation_function="gelu", layer_norm_epsilon=1e-3),
    "padded": replace(CONFIG, vocab_size=384),
    "padded and untied": replace(CONFIG, vocab_size=384, tie_word_embeddings=False),
}


def random_model(tokenizer: ByteLevelBPE, variant: str = "tied") -> LanguageModel:
    """A random model whose every weight matters; a padded one likes its rows without a token best."""
    config = VARIANTS[variant]
    if not variant.startswith("padded"):
        config = replace(config, vocab_size=tokenizer.vocab_size)
    network = GPT2(config)
    generator = torch.Generator().manual_seed(5)
    network.initialize(generator)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.1, generator=generator))
            else:
                parameter.mul_(2.0 if "wpe" in name else 5.0)
        head = network.wte.weight if network.lm_head is None else network.lm_head.weight
        head[tokenizer.vocab_size :] *= 3.0
        head[tokenizer.end_of_text] = 0.0  # so that 64 tokens come
    return LanguageModel(network, tokenizer)


def checkpoint_of(model: LanguageModel) -> Checkpoint:
    network = model.network
    return Checkpoint(Path("random"), "network", network.config, published_weights(network), model.tokenizer)
