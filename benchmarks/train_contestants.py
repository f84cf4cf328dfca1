"""One contestant of `benchmarks.train` in a process of its own; the last line it prints is JSON.

`python -P benchmarks/train_contestants.py NAME BATCH STEPS [NANOGPT]`: one step to warm up, then STEPS timed ones of
forward pass, backward pass, clipping and AdamW on BATCH sequences of 1,024 random tokens, float32; the same work for
all, each by its own code. `gemm` measures the fastest plain torch.mm on the step's own shapes instead.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

CONTEXT, VOCABULARY, WIDTH = 1024, 50_257, 768
LEARNING_RATE, BETAS, DECAY, CLIP = 6e-4, (0.9, 0.95), 0.1, 1.0
GEMM_REPEATS = 3

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Step = Callable[[torch.Tensor, torch.Tensor], object]


def main() -> None:
    """Run the contestant that the command line names."""
    name, batch, steps, *nanogpt = sys.argv[1:]
    if name == "gemm":
        print(json.dumps({"flops_per_second": gemm_peak(int(batch) * CONTEXT)}))
        return
    peer, _, compiled = name.partition("_")
    makers: dict[str, Callable[[], Step]] = {
        "gpt2lab": lambda: gpt2lab_step(int(batch), bool(compiled)),
        "nanogpt": lambda: plain_step(*nanogpt_network(Path(nanogpt[0])), bool(compiled)),
        "transformers": lambda: plain_step(*transformers_network(), bool(compiled)),
    }
    seconds = timed(makers[peer](), int(batch), int(steps))
    print(json.dumps({"seconds": seconds[1:], "warm_up_seconds": seconds[0]}))


def timed(step: Step, batch: int, steps: int) -> list[float]:
    """Seconds of the first step, which warms up, and of `steps` more."""
    generator = torch.Generator().manual_seed(0)
    seconds = []
    for _ in range(steps + 1):
        tokens = torch.randint(0, VOCABULARY, (batch, CONTEXT + 1), generator=generator)
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        start = time.perf_counter()
        step(inputs, targets)
        seconds.append(time.perf_counter() - start)
    return seconds


def plain_step(network: torch.nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, compiled: bool) -> Step:
    """The step of a peer: PyTorch's clipping and the peer's own optimizer."""
    loss = torch.compile(loss) if compiled else loss

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        loss(inputs, targets).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def gpt2lab_step(batch: int, compiled: bool) -> Step:
    """Ours, as `gpt2lab train` takes it."""
    from gpt2lab.model.gpt2 import GPT2
    from gpt2lab.train.optimizers.groups import make_optimizer
    from gpt2lab.train.recipe import BatchConfig, OptimizerConfig
    from gpt2lab.train.recipes import paper
    from gpt2lab.train.step import TrainingStep

    optimizer = OptimizerConfig(
        learning_rate=LEARNING_RATE, beta1=BETAS[0], beta2=BETAS[1], weight_decay=DECAY, clip_norm=CLIP
    )
    recipe = replace(paper("117M"), optimizer=optimizer, batch=BatchConfig(sequences=batch), compile=compiled)
    network = GPT2(recipe.model)
    network.initialize(torch.Generator().manual_seed(recipe.seed))
    step = TrainingStep(recipe, network, make_optimizer(network, optimizer))
    return lambda inputs, targets: step.take(0, (inputs, targets, None))


def nanogpt_network(folder: Path) -> tuple[torch.nn.Module, Loss, torch.optim.Optimizer]:
    """The network of nanoGPT's model.py with the defaults of its train.py: no biases, a vocabulary padded to 50,304."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    network = module.GPT(module.GPTConfig(bias=False))
    optimizer = network.configure_optimizers(DECAY, LEARNING_RATE, BETAS, "cpu")
    return network.train(), lambda inputs, targets: network(inputs, targets)[1], optimizer


def transformers_network() -> tuple[torch.nn.Module, Loss, torch.optim.Optimizer]:
    """GPT2LMHeadModel without dropout, and PyTorch's fused AdamW."""
    from transformers import GPT2Config, GPT2LMHeadModel

    network = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, BETAS, weight_decay=DECAY, fused=True)

    def loss(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = network(inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return network.train(), loss, optimizer


def gemm_peak(tokens: int) -> float:
    """FLOP/s of the fastest plain float32 torch.mm among a step's: [tokens, in] x [in, out] and both backward ones."""
    best = 0.0
    for wide, narrow in ((3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (VOCABULARY, WIDTH)):
        x, w, g = torch.randn(tokens, narrow), torch.randn(wide, narrow), torch.randn(tokens, wide)
        for left, right in ((x, w.t()), (g, w), (g.t(), x)):
            out = torch.empty(left.shape[0], right.shape[1])
            for _ in range(GEMM_REPEATS):
                start = time.perf_counter()
                torch.mm(left, right, out=out)
                elapsed = time.perf_counter() - start
                best = max(best, 2 * left.shape[0] * left.shape[1] * right.shape[1] / elapsed)
    return best


if __name__ == "__main__":
    main()
