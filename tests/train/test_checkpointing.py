"""Checkpoints: whole or absent, even on a full disk."""

import subprocess
import sys

import pytest
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.checkpointing import Progress, checkpoints, restore_checkpoint, save_checkpoint
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipe import AdafactorConfig, OptimizerConfig

TOKENS = torch.arange(8)[None]
ADAMW = OptimizerConfig()


def network_and_optimizer(width: int = 32, config: OptimizerConfig = ADAMW):
    network = GPT2(GPT2Config(vocab_size=50, context_length=8, n_layer=1, n_head=2, n_embd=width))
    network.initialize(torch.Generator().manual_seed(0))
    optimizer = make_optimizer(network, config)
    network.loss(TOKENS, TOKENS).backward()
    optimizer.step()
    return network, optimizer


def test_weights_and_optimizer_come_back_bit_for_bit(tmp_path):
    network, optimizer = network_and_optimizer()
    path = save_checkpoint(tmp_path, network, optimizer, Progress(3, 1.5, 2.0), keep=2)
    other = GPT2(network.config)
    other_optimizer = make_optimizer(other, ADAMW)
    assert restore_checkpoint(path, other, other_optimizer) == Progress(3, 1.5, 2.0)
    for (name, one), two in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
        assert optimizer.state[one].keys() == other_optimizer.state[two].keys()
        for key, value in optimizer.state[one].items():
            assert torch.equal(value, other_optimizer.state[two][key]), (name, key)


def test_only_the_newest_are_kept(tmp_path):
    network, optimizer = network_and_optimizer()
    for step in (1, 2, 3, 10):
        save_checkpoint(tmp_path, network, optimizer, Progress(step, 0.0, 0.0), keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003", "step-00000010"]


def test_a_disk_full_while_a_checkpoint_is_written_leaves_the_one_before_whole(tmp_path):
    """A real process that may write no file over 20 kB: the operating system refuses, as a full disk does."""
    network, optimizer = network_and_optimizer()
    first = save_checkpoint(tmp_path, network, optimizer, Progress(1, 0.0, 0.0), keep=1)
    before = {file.name: file.read_bytes() for file in first.iterdir()}
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(sys.path[0])!r})
from pathlib import Path
from tests.train.test_checkpointing import network_and_optimizer, save_checkpoint, Progress
from gpt2lab.base.errors import NoSpace
network, optimizer = network_and_optimizer()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_checkpoint(Path({str(tmp_path)!r}), network, optimizer, Progress(2, 0.0, 0.0), keep=1)
except NoSpace as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "step-00000002: the disk is full" in done.stdout
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001"]
    assert {file.name: file.read_bytes() for file in first.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize(
    "config",
    [
        ADAMW,
        OptimizerConfig(name="adafactor"),
        OptimizerConfig(name="adafactor", beta1=0.0, adafactor=AdafactorConfig(decay_type="adam", relative_step=True)),
        OptimizerConfig(name="muon"),
    ],
)
def test_steps_after_a_restore_give_the_same_bits(tmp_path, config):
    network, optimizer = network_and_optimizer(config=config)
    path = save_checkpoint(tmp_path, network, optimizer, Progress(1, 0.0, 0.0), keep=1)
    other = GPT2(network.config)
    other_optimizer = make_optimizer(other, config)
    restore_checkpoint(path, other, other_optimizer)
    for _ in range(3):
        for each, its_optimizer in ((network, optimizer), (other, other_optimizer)):
            its_optimizer.zero_grad()
            each.loss(TOKENS, TOKENS).backward()
            its_optimizer.step()
    for (name, one), two in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
        assert optimizer.state[one].keys() == other_optimizer.state[two].keys()
        assert all(torch.equal(tensor, other_optimizer.state[two][key]) for key, tensor in optimizer.state[one].items())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, *network_and_optimizer(), Progress(1, 0.0, 0.0), keep=1)
    with pytest.raises(BadInput, match="another network"):
        restore_checkpoint(path, *network_and_optimizer(width=16))


def test_a_checkpoint_cut_short_is_refused(tmp_path):
    network, optimizer = network_and_optimizer()
    path = save_checkpoint(tmp_path, network, optimizer, Progress(1, 0.0, 0.0), keep=1)
    (path / "weights.safetensors").write_bytes((path / "weights.safetensors").read_bytes()[:999])
    with pytest.raises(BadInput, match="was changed or cut since it was written"):
        restore_checkpoint(path, network, optimizer)
