"""The loss in chunks: equal to the plain one in value and gradients, and the logits are never whole."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode

from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.model.loss import cross_entropy_of_each, summed_cross_entropy

TOKENS, WIDTH, VOCABULARY = (3, 13), 24, 101
CHUNKS = {"one": 10**6, "even": 13 * VOCABULARY, "uneven": 7 * VOCABULARY + 5, "single tokens": 1}


def case(dtype=torch.float64, ignored=True):
    """Hidden states, a head and targets; logits reach from about -20 to 20."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(*TOKENS, WIDTH, generator=generator, dtype=torch.float64).mul(2).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCABULARY, TOKENS, generator=generator)
    if ignored:
        targets[0, :5] = targets[2] = -100
    return x, weight, targets


def plain(x, weight, targets, z_loss=0.0):
    """The sum by its formula, with all logits at once."""
    logits = F.linear(x, weight).flatten(0, 1)
    counted = targets.flatten() >= 0
    penalty = z_loss * (logits.logsumexp(-1) ** 2)[counted].sum()
    return F.cross_entropy(logits, targets.flatten(), reduction="sum") + penalty


@pytest.mark.parametrize("z_loss", [0.0, 0.03])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_loss_and_gradients_are_those_of_all_logits_at_once(dtype, within, chunk, ignored, z_loss):
    wanted_inputs, ours_inputs = case(ignored=ignored), case(dtype, ignored)
    wanted = plain(*wanted_inputs, z_loss)
    ours, nats = summed_cross_entropy(*ours_inputs, z_loss, CHUNKS[chunk])
    assert ours.dtype == dtype
    assert float(ours.detach()) == pytest.approx(float(wanted.detach()), rel=within)
    assert float(nats) == pytest.approx(float(plain(*wanted_inputs).detach()), rel=within)
    (wanted * 0.37).backward()
    (ours * 0.37).backward()
    for mine, theirs in zip(ours_inputs[:2], wanted_inputs[:2], strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=within, atol=within)
    if ignored:
        assert float(ours_inputs[0].grad[2].abs().max()) == 0


def test_the_loss_of_each_token_is_that_of_all_logits_at_once():
    x, weight, targets = case()
    wanted = F.cross_entropy(F.linear(x, weight).flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(cross_entropy_of_each(x, weight, targets).flatten(), wanted, rtol=1e-12, atol=1e-12)


def test_logits_far_apart_lose_nothing():
    """A target of probability exp(-10,000), where a softmax alone gives 0, and logits too large for exp."""
    x, weight = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[9000.0, 0.0], [-1000.0, 0.0], [8999.0, 0.0]])
    objective, _ = summed_cross_entropy(x, weight, torch.tensor([[1]]))
    assert float(objective) == pytest.approx(10_000 + 0.3133, rel=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_a_networks_gradients_are_those_of_all_its_logits_at_once(tied):
    network = GPT2(GPT2Config(101, 16, 2, 2, 24, tie_word_embeddings=tied)).double()
    network.initialize(torch.Generator().manual_seed(1))
    tokens = torch.randint(0, 101, (3, 17), generator=torch.Generator().manual_seed(2))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[1, 3:] = -100
    parameters = list(network.parameters())
    wanted = torch.autograd.grad(F.cross_entropy(network(inputs).flatten(0, 1), targets.flatten()), parameters)
    ours = torch.autograd.grad(network.loss(inputs, targets), parameters)
    for mine, theirs in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_products_are_short_and_sums_are_not(dtype):
    x, weight, targets = case(torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        ours, _ = summed_cross_entropy(x, weight, targets, 1e-3, 7 * VOCABULARY)
        wanted = plain(x, weight, targets, 1e-3)
    assert ours.dtype == torch.float32
    assert float(ours.detach()) == pytest.approx(float(wanted.detach()), rel=1e-3)
    mine = torch.autograd.grad(ours, [x, weight])
    theirs = torch.autograd.grad(wanted, [x, weight])
    exact = torch.autograd.grad(plain(x, weight, targets, 1e-3), [x, weight])
    for one, other, best in zip(mine, theirs, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - best).norm() < 1.5 * (other - best).norm()


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that any operation gave back in one tensor."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return out


def test_the_logits_are_never_whole_forward_or_backward():
    vocabulary, tokens = 50_257, torch.arange(2048)[None]
    network = GPT2(GPT2Config(vocabulary, 2048, 1, 1, 8))
    network.initialize(torch.Generator().manual_seed(0))
    with LargestTensor() as seen:
        network.loss(tokens, tokens).backward()
        cross_entropy_of_each(network.hidden(tokens), network.head_weight, tokens)
    assert seen.numbers < tokens.numel() * vocabulary / 3
    with LargestTensor() as plain_seen, torch.no_grad():
        network(tokens[:, :64])
    assert plain_seen.numbers == 64 * vocabulary  # the watcher does see logits


def test_a_second_backward_pass_is_refused():
    x, weight, targets = case()
    objective, _ = summed_cross_entropy(x, weight, targets)
    objective.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed out by an earlier backward pass"):
        objective.backward()
