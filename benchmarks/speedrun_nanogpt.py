"""nanoGPT's recipe on its own network: `python speedrun_nanogpt.py MODEL_PY TOKENS RATE STEPS SEED`, prints JSON lines.

The loop of its train.py (random windows, AdamW of its `configure_optimizers`, clipping, warm-up and cosine to a tenth)
in the benchmark's shape; biases are on, for GPT-2's network has them.
"""

import importlib.util
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 256, "bias": True, "dropout": 0.0}
ROWS, WARMUP, BETAS, DECAY, CLIP = 16, 100, (0.9, 0.99), 0.1, 1.0
VALIDATION_ROWS = 16


def main() -> None:
    """Train as the command line says; a line a step, then one with the validation loss."""
    model_file, folder, rate, steps, seed = sys.argv[1:]
    vocab_size = json.loads((Path(folder) / "tokens.json").read_text())["vocab_size"]
    torch.manual_seed(int(seed))
    network = _network(Path(model_file), vocab_size)
    optimizer = network.configure_optimizers(DECAY, float(rate), BETAS, "cpu")
    train = np.memmap(Path(folder) / "train_00000.bin", dtype=np.uint16, mode="r")
    for step in range(int(steps)):
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, float(rate), int(steps))
        inputs, targets = _random_windows(train)
        _, loss = network(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - start
        print(json.dumps({"step": step + 1, "loss": loss.item(), "seconds": seconds}), flush=True)
    print(json.dumps({"rate": float(rate), "steps": int(steps), "val_loss": _validation_loss(network, Path(folder))}))


def _network(model_file: Path, vocab_size: int) -> Any:
    spec = importlib.util.spec_from_file_location("nanogpt_model", model_file)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.GPT(module.GPTConfig(vocab_size=vocab_size, **SHAPE)).train()


def _learning_rate(step: int, peak: float, steps: int) -> float:
    if step < WARMUP:
        return peak * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (steps - WARMUP)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def _random_windows(tokens: Any) -> tuple[torch.Tensor, torch.Tensor]:
    context = SHAPE["block_size"]
    starts = torch.randint(len(tokens) - context, (ROWS,))
    windows = torch.stack([torch.from_numpy(tokens[at : at + context + 1].astype(np.int64)) for at in starts])
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


@torch.no_grad()
def _validation_loss(network: Any, folder: Path) -> float:
    """Mean nats a token over the whole held-out stream, each token predicted once, as gpt2lab's validation does."""
    from gpt2lab.tokens.sequences import validation_batches
    from gpt2lab.tokens.shards import read_tokens_info
    from gpt2lab.tokens.stream import TokenStream

    info = read_tokens_info(folder)
    nats, count = 0.0, 0
    context = int(SHAPE["block_size"])
    every = -(-info.total("val") // context)
    for inputs, targets in validation_batches(TokenStream(folder, "val", info), context, VALIDATION_ROWS, every):
        _, loss = network(torch.from_numpy(inputs), torch.from_numpy(np.maximum(targets, -1)))  # it ignores -1
        counted = int((targets >= 0).sum())
        nats, count = nats + loss.item() * counted, count + counted
    return nats / count


if __name__ == "__main__":
    main()
