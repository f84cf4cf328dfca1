"""The `config.json` that every GPT-2 tool reads, to and from our config."""

from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json
from gpt2lab.model.config import GPT2Config

# What transformers calls the two functions, by our name for them.
_ACTIVATIONS = {"gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "gelu": "gelu", "gelu_python": "gelu"}
# Variants of GPT-2's network that transformers knows and GPT-2 has not: (key, its value in GPT-2).
_VARIANTS = (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False), ("add_cross_attention", False))


def config_to_json(config: GPT2Config, end_of_text: int, dtype: str = "float32") -> dict[str, Any]:
    """The contents of `config.json`; `dtype` is that of the weights beside it."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": config.activation_function,
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "embd_pdrop": config.embd_pdrop,
        "attn_pdrop": config.attn_pdrop,
        "resid_pdrop": config.resid_pdrop,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": dtype,
    }


def config_from_json(path: Path) -> GPT2Config:
    """Read a `config.json`; raises BadInput for another architecture, a missing key or a value of the wrong type."""
    found = read_json(path)
    if not isinstance(found, dict) or found.get("model_type") != "gpt2":
        told = found.get("model_type") if isinstance(found, dict) else None
        raise BadInput(f"{path}: not the config of a GPT-2 (model_type is {told!r}, not 'gpt2').")
    activation = found.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise BadInput(f"{path}: activation_function {activation!r} is neither GPT-2's gelu_new nor gelu.")
    for key, usual in _VARIANTS:
        if found.get(key, usual) != usual:
            raise BadInput(f"{path}: {key} is {found[key]!r}; GPT-2's network has {usual!r}.")
    try:
        counts = {name: found[name] for name in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")}
    except KeyError as error:
        raise BadInput(f"{path}: the key {error} is missing.") from None
    for name, value in counts.items():
        if type(value) is not int:  # True is an int, too
            raise BadInput(f"{path}: {name} is {value!r}, not a whole number.")
    inner = found.get("n_inner")
    if inner is not None and inner != 4 * counts["n_embd"]:
        raise BadInput(f"{path}: n_inner is {inner!r}; GPT-2's is four times n_embd.")
    tied = found.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise BadInput(f"{path}: tie_word_embeddings is {tied!r}, neither true nor false.")
    rates = {name: found.get(name, 0.0) for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")}
    rates["layer_norm_epsilon"] = found.get("layer_norm_epsilon", 1e-5)
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise BadInput(f"{path}: {name} is {rate!r}, not a number from 0 to below 1.")
    context_length = counts.pop("n_positions")
    try:
        return GPT2Config(
            **counts,
            **rates,
            context_length=context_length,
            tie_word_embeddings=tied,
            activation_function=_ACTIVATIONS[activation],  # type: ignore[arg-type]
        )
    except BadOption as error:
        raise BadInput(f"{path}: {error}") from None
