"""One contestant of `benchmarks.weights` in a process of its own; the last line it prints is JSON.

`python -m benchmarks.weights_contestants make|open_...|compare FOLDER-OR-FILE [SIZE-OR-FILE]`
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROMPT = list(range(1000, 1016))
SEED = 1


def main() -> None:
    """Run the contestant that the command line names."""
    name, place, *more = sys.argv[1:]
    contestants: dict[str, Any] = {
        "make": make,
        "compare": compare,
        "open_gpt2lab": open_gpt2lab,
        "open_gpt2lab_without_torch": open_gpt2lab_without_torch,
        "open_transformers": open_transformers,
    }
    print(json.dumps(contestants[name](Path(place), *more)))


def make(folder: Path, size: str) -> dict[str, Any]:
    """A model folder of a named size with random weights, others in each tensor: OpenVINO keeps equal tensors once."""
    from gpt2lab.checkpoints.formats.hugging_face import write_hugging_face
    from gpt2lab.checkpoints.weights import Checkpoint, StoredTensor, published_shapes
    from gpt2lab.model.config import gpt2_size
    from gpt2lab.tokens.bpe import gpt2_tokenizer

    config = gpt2_size(size)

    def tensor(name: str, shape: tuple[int, ...]) -> StoredTensor:
        base = np.float32(name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")))

        def read() -> NDArray[np.float32]:
            numbers = np.random.default_rng([SEED, *name.encode()]).standard_normal(shape, dtype=np.float32)
            return numbers * np.float32(0.02) + base

        return StoredTensor(shape, "float32", read)

    tensors = {name: tensor(name, shape) for name, shape in published_shapes(config).items()}
    write_hugging_face(folder, Checkpoint(folder, "made", config, tensors, gpt2_tokenizer()))
    return {}


def open_gpt2lab(folder: Path) -> dict[str, Any]:
    """To the logits of the prompt; `opened_seconds` to network and tokenizer, no weight read yet."""
    import torch

    from gpt2lab.checkpoints import hub  # noqa: F401 - open_model imports these two when called, but the time is
    from gpt2lab.checkpoints.formats import hugging_face  # noqa: F401 - from after the imports, as it is for the peer
    from gpt2lab.checkpoints.opening import open_model
    from gpt2lab.checkpoints.torch_network import network_of

    start = time.perf_counter()
    network = network_of(open_model(folder))
    opened = time.perf_counter() - start
    with torch.inference_mode():
        logits = network(torch.tensor([PROMPT]))
    return {"opened_seconds": opened, "seconds": time.perf_counter() - start, "best": int(logits[0, -1].argmax())}


def open_transformers(folder: Path) -> dict[str, Any]:
    """To the logits of the prompt; `tokenizer_seconds` of it for the tokenizer, which ours opens, too."""
    import torch
    from transformers import AutoTokenizer, GPT2LMHeadModel

    start = time.perf_counter()
    AutoTokenizer.from_pretrained(folder)
    tokenizer = time.perf_counter() - start
    network = GPT2LMHeadModel.from_pretrained(folder).eval()
    opened = time.perf_counter() - start
    with torch.inference_mode():
        logits = network(torch.tensor([PROMPT])).logits
    return {
        "tokenizer_seconds": tokenizer,
        "opened_seconds": opened,
        "seconds": time.perf_counter() - start,
        "best": int(logits[0, -1].argmax()),
    }


def open_gpt2lab_without_torch(folder: Path) -> dict[str, Any]:
    """To every tensor read once, by numpy."""
    from gpt2lab.checkpoints.opening import open_model

    start = time.perf_counter()
    checkpoint = open_model(folder)
    opened = time.perf_counter() - start
    largest = max(float(tensor.read().max()) for tensor in checkpoint.tensors.values())
    if "torch" in sys.modules:
        sys.exit("error: torch was imported.")
    return {"opened_seconds": opened, "seconds": time.perf_counter() - start, "largest": largest}


def compare(file: Path, other: str) -> dict[str, Any]:
    """How many tensors of two GGUF files differ in type, shape or bytes, read by the package gguf."""
    import gguf

    ours, theirs = ({one.name: one for one in gguf.GGUFReader(path).tensors} for path in (file, other))
    differing = ours.keys() ^ theirs.keys()
    for name in ours.keys() & theirs.keys():
        one, two = ours[name], theirs[name]
        same = one.tensor_type == two.tensor_type and one.shape.tolist() == two.shape.tolist()
        if not same or one.data.tobytes() != two.data.tobytes():
            differing.add(name)
    return {"differing": len(differing)}


if __name__ == "__main__":
    main()
