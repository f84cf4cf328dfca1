"""Model folders: `model.safetensors`, `config.json`, tokenizer files and `provenance.json`.

Laid out so that `transformers.GPT2LMHeadModel.from_pretrained` and `AutoTokenizer` load them as they are: the published
names below `transformer.`, the matrices of attention and MLP as [in, out].
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, whole_folder, write_json
from gpt2lab.checkpoints.tensor_files import load_tensors, save_tensors
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE

_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that older files carry


def config_to_json(config: GPT2Config, end_of_text: int) -> dict[str, Any]:
    """The `config.json` that every GPT-2 tool reads."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
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
        "torch_dtype": "float32",
    }


def config_from_json(path: Path) -> GPT2Config:
    """Read a `config.json`; raises BadInput for another architecture or a missing key."""
    found = read_json(path)
    if not isinstance(found, dict) or found.get("model_type") != "gpt2":
        raise BadInput(f"{path}: not the config of a GPT-2 (model_type is not 'gpt2').")
    if found.get("activation_function", "gelu_new") != "gelu_new":
        raise BadInput(f"{path}: activation {found['activation_function']!r} is not GPT-2's gelu_new.")
    try:
        return GPT2Config(
            vocab_size=found["vocab_size"],
            context_length=found["n_positions"],
            n_layer=found["n_layer"],
            n_head=found["n_head"],
            n_embd=found["n_embd"],
            embd_pdrop=found.get("embd_pdrop", 0.0),
            attn_pdrop=found.get("attn_pdrop", 0.0),
            resid_pdrop=found.get("resid_pdrop", 0.0),
            layer_norm_epsilon=found.get("layer_norm_epsilon", 1e-5),
            tie_word_embeddings=found.get("tie_word_embeddings", True),
        )
    except KeyError as error:
        raise BadInput(f"{path}: the key {error} is missing.") from None


def published_weights(network: GPT2) -> dict[str, Tensor]:
    """The network's weights under the published names and in the published orientation."""
    weights = {}
    for name, parameter in network.state_dict().items():
        tensor = parameter.detach().cpu()
        tensor = tensor.T.contiguous() if name.endswith(_TRANSPOSED) else tensor.contiguous()
        weights[name if name.startswith("lm_head.") else f"transformer.{name}"] = tensor
    return weights


def load_published_weights(network: GPT2, weights: dict[str, Tensor], where: Path) -> None:
    """Copy published weights into a network; raises BadInput that names what is missing, unknown or misshapen."""
    wanted = network.state_dict()
    given = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    for name in [name for name in given if name.endswith(_BUFFERS)]:
        del given[name]
    if network.lm_head is None:
        given.pop("lm_head.weight", None)
    if missing := sorted(wanted.keys() - given.keys()):
        raise BadInput(f"{where}: {len(missing)} tensors are missing, first of them {missing[0]}.")
    if unknown := sorted(given.keys() - wanted.keys()):
        raise BadInput(
            f"{where}: {len(unknown)} tensors belong to no GPT-2 of this config, first of them {unknown[0]}."
        )
    for name, parameter in wanted.items():
        tensor = given[name].T if name.endswith(_TRANSPOSED) else given[name]
        if tensor.shape != parameter.shape:
            raise BadInput(
                f"{where}: {name} has shape {list(given[name].shape)}, which disagrees with the config"
                f" (wanted {list(parameter.shape)}, before any turning around)."
            )
        parameter.copy_(tensor)


def save_model_folder(path: Path, network: GPT2, tokenizer: ByteLevelBPE, provenance: dict[str, Any]) -> None:
    """Write a model folder, whole or not at all."""
    with whole_folder(path) as folder:
        save_tensors(folder / "model.safetensors", published_weights(network))
        write_json(folder / "config.json", config_to_json(network.config, tokenizer.end_of_text))
        tokenizer.save(folder)
        write_json(folder / "provenance.json", provenance)


def load_model_folder(path: Path) -> tuple[GPT2, ByteLevelBPE]:
    """Read a model folder: the network in evaluation mode, float32, on the processor, and its tokenizer.

    Raises BadInput where the folder is no model folder or disagrees with itself.
    """
    if not (path / "config.json").exists():
        raise BadInput(f"{path}: no model folder (no config.json here).")
    config = config_from_json(path / "config.json")
    tokenizer = ByteLevelBPE.load(path)
    if tokenizer.vocab_size > config.vocab_size:
        raise BadInput(
            f"{path}: the tokenizer has {tokenizer.vocab_size:,} ids, the model's vocabulary only"
            f" {config.vocab_size:,}."
        )
    file = path / "model.safetensors"
    weights = load_tensors(file)
    with torch.device("meta"):
        network = GPT2(config)
    network = network.to_empty(device="cpu")
    load_published_weights(network, weights, file)
    return network.eval(), tokenizer


def read_provenance(path: Path) -> dict[str, Any]:
    """What a model folder says of its making; empty where it says nothing (a folder from elsewhere)."""
    file = path / "provenance.json"
    return dict(read_json(file)) if file.exists() else {}
