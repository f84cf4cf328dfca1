"""Model folders: `model.safetensors`, `config.json`, tokenizer files and `provenance.json`.

They are Hugging Face folders (formats/hugging_face.py): `transformers.GPT2LMHeadModel.from_pretrained` and
`AutoTokenizer` load them as they are.
"""

from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.formats.hugging_face import (
    is_hugging_face_folder,
    read_hugging_face,
    write_hugging_face,
)
from gpt2lab.checkpoints.torch_network import network_of, published_weights
from gpt2lab.checkpoints.weights import Checkpoint
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE


def save_model_folder(path: Path, network: GPT2, tokenizer: ByteLevelBPE, provenance: dict[str, Any]) -> None:
    """Write a model folder, whole or not at all."""
    checkpoint = Checkpoint(path, "network", network.config, published_weights(network), tokenizer)
    write_hugging_face(path, checkpoint, provenance=provenance)


def load_model_folder(path: Path) -> tuple[GPT2, ByteLevelBPE]:
    """Read a model folder: the network in evaluation mode, float32, on the processor, and its tokenizer.

    Raises BadInput where the folder is no model folder or disagrees with itself.
    """
    if not is_hugging_face_folder(path):
        raise BadInput(f"{path}: no model folder (no config.json here).")
    checkpoint = read_hugging_face(path)
    return network_of(checkpoint), checkpoint.required_tokenizer()
