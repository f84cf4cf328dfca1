"""Hugging Face's folders, which are our model folders, too: config.json, model.safetensors, tokenizer files.

Weights may be one safetensors file, several with an index, or an older pytorch_model.bin (read without running it); in
folders that `gpt2lab quantize` made they are quantized (`quantized_folder.py`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, whole_folder, write_json
from gpt2lab.checkpoints.config_file import config_from_json, config_to_json
from gpt2lab.checkpoints.formats.pickled_tensors import read_pickled_tensors
from gpt2lab.checkpoints.formats.quantized_folder import QUANTIZED_WEIGHTS, quantized_tensors, quantized_type
from gpt2lab.checkpoints.provenance import PROVENANCE, read_provenance
from gpt2lab.checkpoints.safetensors_files import map_safetensors, write_safetensors
from gpt2lab.checkpoints.weights import Checkpoint, StoredTensor, check_tensors, head_is_tied
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.tokenizer_files import TOKENIZER_FILES, added_tokens, load_tokenizer

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
OLDER_WEIGHTS, OLDER_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that older files carry


def is_hugging_face_folder(path: Path) -> bool:
    """Whether a folder has a config.json."""
    return (path / "config.json").exists()


def read_hugging_face(folder: Path) -> Checkpoint:
    """Open a folder; nothing of the weights is read yet. Raises BadInput where it disagrees with itself."""
    config = config_from_json(folder / "config.json")
    tokenizer = _tokenizer(folder, config.vocab_size)
    added = added_tokens(folder) if tokenizer else []
    quantized = quantized_type(folder / "config.json")
    files = _weight_files(folder) if quantized is None else {folder / QUANTIZED_WEIGHTS: None}
    where = next(iter(files)) if len(files) == 1 else folder
    tensors = _published(where, _tensors(files) if quantized is None else quantized_tensors(where))
    notes = [_left_out(added)] if added else []
    if config.tie_word_embeddings and head_is_tied(tensors):
        tensors.pop("lm_head.weight", None)
    elif config.tie_word_embeddings:  # transformers takes them so, too
        config = replace(config, tie_word_embeddings=False)
        notes.append(
            "Its config says that the head is wte.weight, but its weights have another lm_head.weight; so here."
        )
    return Checkpoint(
        folder,
        "hugging_face",
        config,
        check_tensors(where, config, tensors),
        tokenizer,
        notes=tuple(notes),
        provenance=read_provenance(folder),
        files=(*files, folder / "config.json"),
    )


def _published(where: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        published = name.removeprefix("transformer.")
        if published in found:
            raise BadInput(f"{where}: holds {published} twice, with the prefix transformer. and without it.")
        if not name.endswith(_BUFFERS):
            found[published] = tensor
    return found


def _tokenizer(folder: Path, vocab_size: int) -> ByteLevelBPE | None:
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        return None
    tokenizer = load_tokenizer(folder, without_added=True)
    if tokenizer.vocab_size > vocab_size:
        raise BadInput(
            f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, the model's vocabulary only {vocab_size:,}."
        )
    return tokenizer


def _left_out(added: list[str]) -> str:
    named = ", ".join(added[:3]) + (", ..." if len(added) > 3 else "")
    return f"Tokens added to its tokenizer ({named}) were left out; their rows of the vocabulary stand for no token."


def _weight_files(folder: Path) -> dict[Path, list[str] | None]:
    """The files with weights, and which tensors each is to hold (None: it alone has them all)."""
    for name, index in ((WEIGHTS, WEIGHTS_INDEX), (OLDER_WEIGHTS, OLDER_INDEX)):
        if (folder / name).exists():
            return {folder / name: None}
        if (folder / index).exists():
            return dict(_shards(folder, index))
    raise BadInput(f"{folder}: no weights here (no {WEIGHTS}, {WEIGHTS_INDEX} or {OLDER_WEIGHTS}).")


def _tensors(files: Mapping[Path, list[str] | None]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for file, names in files.items():
        found = map_safetensors(file) if file.suffix == ".safetensors" else read_pickled_tensors(file)
        if absent := sorted(set(names or ()) - found.keys()):
            raise BadInput(f"{file}: lacks {absent[0]}, which the index promises there.")
        tensors |= found if names is None else {name: found[name] for name in names}
    return tensors


def _shards(folder: Path, index: str) -> dict[Path, list[str]]:
    """Which tensors each shard holds. Raises BadInput for shards that are absent or outside the folder."""
    found = read_json(folder / index)
    weight_map = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(weight_map, dict):
        raise BadInput(f"{folder / index}: not an index of shards (no weight_map).")
    shards: dict[Path, list[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith((".safetensors", ".bin")):
            raise BadInput(
                f"{folder / index}: names the shard {name!r}; a shard is a .safetensors or .bin file beside it."
            )
        shards.setdefault(folder / name, []).append(tensor)
    home = folder.resolve()
    # The hub's cache keeps a snapshot as links to ../../blobs, or to those that its models share.
    cached = [place / "blobs" for place in home.parents[1:3]] if home.parent.name == "snapshots" else []
    for shard in shards:
        if not shard.exists():
            raise BadInput(f"{shard}: no such file, though {index} names it; the download is not whole.")
        if not any(shard.resolve().is_relative_to(place) for place in (home, *cached)):
            raise BadInput(
                f"{shard}: a link to a file outside its folder ({shard.resolve()}); put the file itself here."
            )
    return shards


def write_hugging_face(
    path: Path,
    checkpoint: Checkpoint,
    *,
    provenance: Mapping[str, Any] | None = None,
    max_shard_bytes: int | None = None,
) -> None:
    """Write a folder that transformers loads as it is, whole or not at all; with provenance.json if it is given.

    Weights keep their types (quantized ones become float32). Beyond `max_shard_bytes` they go into several files.
    """
    tokenizer = checkpoint.required_tokenizer()
    tensors = {
        name if name.startswith("lm_head.") else f"transformer.{name}": tensor
        for name, tensor in checkpoint.tensors.items()
    }
    dtypes = {tensor.float_type for tensor in tensors.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    with whole_folder(path) as folder:
        shards = _divided(tensors, max_shard_bytes)
        if len(shards) == 1:
            write_safetensors(folder / WEIGHTS, tensors)
        else:
            weight_map: dict[str, str] = {}
            for number, shard in enumerate(shards, 1):
                name = f"model-{number:05}-of-{len(shards):05}.safetensors"
                write_safetensors(folder / name, shard)
                weight_map |= dict.fromkeys(shard, name)
            total = sum(_bytes(tensor) for tensor in tensors.values())
            write_json(folder / WEIGHTS_INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        write_json(folder / "config.json", config_to_json(checkpoint.config, tokenizer.end_of_text, dtype))
        tokenizer.save(folder)
        if provenance is not None:
            write_json(folder / PROVENANCE, provenance)


def _bytes(tensor: StoredTensor) -> int:
    return tensor.size * (4 if tensor.float_type == "float32" else 2)


def _divided(tensors: dict[str, StoredTensor], limit: int | None) -> list[dict[str, StoredTensor]]:
    shards: list[dict[str, StoredTensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = _bytes(tensor)
        if limit is not None and shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += size
    return shards
