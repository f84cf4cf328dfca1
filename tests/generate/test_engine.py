"""The engine: whatever runs beside a sequence, its text is that of a lone run, and every block comes back."""

import copy
import gc
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2lab.base.errors import BadInput, BadOption, UserError
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.torch_network import published_weights
from gpt2lab.checkpoints.weights import Checkpoint
from gpt2lab.generate.backend import NextTokens
from gpt2lab.generate.cpu.backend import cpu_backend
from gpt2lab.generate.engine import PREFILL_CHUNK, Engine, Generation, QueueFull
from gpt2lab.generate.opening import open_engine
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.sampling import Sampler
from gpt2lab.generate.text_stream import TextStream
from gpt2lab.generate.torch_backend import BLOCK_TOKENS, TorchBackend
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2

CONTEXT = 96


@pytest.fixture(scope="module")
def network(small_tokenizer):
    network = GPT2(GPT2Config(small_tokenizer.vocab_size, context_length=CONTEXT, n_layer=2, n_head=2, n_embd=32))
    network.initialize(torch.Generator().manual_seed(5))
    with torch.no_grad():
        for parameter in network.parameters():  # larger than fresh weights, so that next tokens are not all alike
            parameter.mul_(3.0)
    return network.eval()


@pytest.fixture(params=["torch", "cpu"])
def backend(request, network, small_tokenizer):
    """A function to a backend of its own.

    On torch, numbers may be rounded otherwise in other company, and a draw next to a border fall on its other side: so
    in float64, where that is 10^9 times as rare. The cpu backend promises the same bits.
    """
    if request.param == "torch":
        precise = copy.deepcopy(network).double()
        return lambda: TorchBackend(precise)
    checkpoint = Checkpoint(Path("made"), "made", network.config, published_weights(network), small_tokenizer)
    return lambda: cpu_backend(checkpoint, threads=1)


@pytest.fixture
def new_engine(backend, small_tokenizer):
    """A function from the engine's options, or a number of blocks, to an engine of its own."""

    def new(blocks: int | None = None, **options):
        made = backend()
        if blocks is not None:
            options["cache_bytes"] = blocks * made.block_bytes
        return Engine(made, small_tokenizer, **options)

    return new


@pytest.fixture
def alone(backend, small_tokenizer):
    """Token ids of one continuation: by torch without a cache, or by an engine that has nothing else to do."""
    made = backend()

    def by_engine(prompt: list[int], options: SamplingOptions, index: int = 0) -> list[int]:
        return list(Engine(made, small_tokenizer).submit(prompt, options).completions()[index].token_ids)

    @torch.inference_mode()
    def without_cache(prompt: list[int], options: SamplingOptions, index: int = 0) -> list[int]:
        prompt = prompt[-CONTEXT:]
        ids = list(prompt)
        sampler = Sampler(options, small_tokenizer.vocab_size, prompt, small_tokenizer.end_of_text, index)
        window = list(ids)
        while len(ids) < len(prompt) + options.max_tokens:
            token = sampler.choose(made.network(torch.tensor([window]))[0, -1].float().numpy()).token
            if token == small_tokenizer.end_of_text:
                break
            ids.append(token)
            window = [*window, token] if len(window) < CONTEXT else ids[-(CONTEXT // 2) :]
        return ids[len(prompt) :]

    return without_cache if isinstance(made, TorchBackend) else by_engine


def random_prompt(chooser: random.Random, longest: int = 120) -> list[int]:
    return [chooser.randrange(300) for _ in range(chooser.choice([1, 2, 15, 16, 17, 40, longest]))]


def random_options(chooser: random.Random) -> SamplingOptions:
    return SamplingOptions(
        max_tokens=chooser.choice([1, 5, 20, 60]),
        temperature=chooser.choice([0.0, 0.8, 1.5]),
        seed=chooser.randrange(1000),
        n=chooser.choice([1, 1, 1, 2, 5]),
    )


def token_ids(generation: Generation) -> list[tuple[int, ...]]:
    return [one.token_ids for one in generation.completions()]


@pytest.mark.parametrize("blocks", [8, 20, None])
def test_any_mixture_of_requests_gives_each_the_tokens_of_a_lone_run(new_engine, alone, blocks):
    """They come at random times, share prompts, are cancelled, and with few blocks are put back and read again."""
    chooser = random.Random(blocks or 1)
    engine = new_engine(blocks, max_batch=5)
    prompts = [random_prompt(chooser) for _ in range(6)]
    running, ended = [], []
    for _ in range(30):
        prompt, options = chooser.choice(prompts), random_options(chooser)
        running.append((prompt, options, engine.submit(prompt, options)))
        for _ in range(chooser.randrange(12)):
            engine.step()
        if chooser.random() < 0.2:
            running.pop(chooser.randrange(len(running)))[2].cancel()
        if chooser.random() < 0.3:
            ended.append(running.pop(chooser.randrange(len(running))))
            ended[-1][2].completions()
    for prompt, options, generation in [*ended, *running]:
        for index, found in enumerate(generation.completions()):
            assert list(found.token_ids) == alone(prompt, options, index)
            assert found.index == index
            assert found.dropped_prompt_tokens == max(0, len(prompt) - CONTEXT)
    assert engine.free_blocks == engine.blocks
    assert blocks == 20 or (engine.statistics.put_back > 0) == (blocks == 8)
    assert engine.statistics.shared_prompt_tokens > 0


def test_threads_each_read_their_own_text(new_engine, alone, small_tokenizer):
    engine = new_engine(12)
    found: dict[int, str] = {}

    def read(number: int) -> None:
        found[number] = "".join(engine.submit([number], SamplingOptions(max_tokens=40, seed=number)))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        number: small_tokenizer.decode(alone([number], SamplingOptions(max_tokens=40, seed=number)))
        for number in range(12)
    }
    assert engine.free_blocks == engine.blocks


def test_a_thread_gets_its_pieces_while_another_is_reading(new_engine):
    """Whoever steps does it for all; nobody waits for another's text to end."""
    engine = new_engine()
    finished: list[str] = []

    def read(name: str, tokens: int) -> None:
        for _ in engine.submit([1], SamplingOptions(max_tokens=tokens, ignore_end_of_text=True)):
            if finished:
                break
        finished.append(name)

    # The long one would take many seconds, so that the other thread may start late.
    threads = [threading.Thread(target=read, args=arguments) for arguments in (("long", 20_000), ("short", 20))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished == ["short", "long"]


@pytest.mark.parametrize("how", ["cancel", "close", "exception", "forgotten", "never read"])
def test_whatever_ends_a_generation_gives_its_blocks_back(new_engine, how):
    engine = new_engine()
    options = SamplingOptions(max_tokens=500, n=1)
    generation = engine.submit("The cat in the garden sleeps.", options)
    if how == "never read":
        engine.step()
    elif how == "exception":
        with pytest.raises(ZeroDivisionError):
            sum(1 / 0 for _ in generation)
    else:
        pieces = iter(generation)
        next(pieces)
        assert engine.free_blocks < engine.blocks
        if how == "cancel":
            generation.cancel()
            assert generation.completions()[0].finish_reason == "cancelled"
        elif how == "close":
            pieces.close()
        else:
            del pieces
    del generation
    gc.collect()
    assert engine.free_blocks == engine.blocks
    assert not engine.step()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one that strikes a library's callback
def test_an_interrupt_at_any_moment_loses_nothing_of_others(new_engine):
    """Real signals at random moments, which raise KeyboardInterrupt between any two instructions."""

    def interrupt(*_):
        raise KeyboardInterrupt

    chooser, interrupted, cut_off = random.Random(1), 0, 0
    options = [SamplingOptions(max_tokens=12, seed=n, n=1 + n % 3) for n in range(4)]
    wanted = [token_ids(new_engine().submit([n], options[n])) for n in range(4)]
    engine = new_engine(6, max_batch=4)
    handler, timer = signal.signal(signal.SIGALRM, interrupt), signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        for _ in range(100):
            first, second = chooser.randrange(4), chooser.randrange(4)
            other = engine.submit([first], options[first])
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + 0.003 * chooser.random())
                for _ in engine.submit([second], options[second]).events():
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            try:
                assert token_ids(other) == wanted[first]
            except UserError as error:
                assert "its next token was being chosen at an interrupt" in str(error)  # noqa: PT017
                cut_off += 1
            assert engine.free_blocks == engine.blocks
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)  # what limits the time of a test
    assert interrupted > 20
    assert cut_off < interrupted / 2


@pytest.mark.parametrize("place", ["choose", "push", "_say", "_leave"])
@pytest.mark.parametrize("logprobs", [None, 1])
def test_what_an_interrupt_cuts_off_can_be_had_by_its_user(new_engine, monkeypatch, place, logprobs):
    """Whatever of choosing a token the interrupt struck, text, tokens and log-probabilities are of one length."""
    options = SamplingOptions(max_tokens=9, seed=1, logprobs=logprobs, ignore_end_of_text=True)
    whole = new_engine().submit("The", options).completions()[0]
    engine, calls = new_engine(), 0
    owner = next(one for one in (Engine, Sampler, TextStream) if hasattr(one, place))
    real = getattr(owner, place)

    def interrupted(*arguments):
        nonlocal calls
        calls += 1
        if calls == (1 if place == "_leave" else 6):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(owner, place, interrupted)
    generation = engine.submit("The", options)
    with pytest.raises(KeyboardInterrupt):
        generation.completions()
    (found,) = generation.completions()
    assert found.token_ids == whole.token_ids[: found.tokens]
    assert found.tokens >= 5
    stream = TextStream(engine.tokenizer.token_bytes, ())
    pieces = [stream.push(token) for token in found.token_ids]
    assert found.text == "".join(pieces) + ("" if found.finish_reason == "cancelled" else stream.finish())
    if logprobs:
        assert found.logprobs == whole.logprobs[: found.tokens]
    assert engine.free_blocks == engine.blocks


def test_first_come_first_served(new_engine):
    """One that needs many blocks is not passed by those that need few."""
    engine = new_engine(7)
    options = SamplingOptions(max_tokens=12, ignore_end_of_text=True)
    generations = [engine.submit([9] * length, options) for length in (60, 80, 3, 3)]
    order, busy = [], True
    while busy:
        busy = engine.step()
        order += [n for n, one in enumerate(generations) if n not in order and one._submission.unfinished == 0]
    assert order == [0, 1, 2, 3]


def test_the_queue_is_bounded(new_engine):
    engine = new_engine(max_batch=1, queue_limit=2)
    kept = [engine.submit("The", SamplingOptions(max_tokens=4)) for _ in range(2)]
    engine.step()
    kept.append(engine.submit("The", SamplingOptions(max_tokens=4)))
    with pytest.raises(QueueFull, match="2 submissions wait"):
        engine.submit("The", SamplingOptions(max_tokens=4))
    kept[1].cancel()
    kept.append(engine.submit("The", SamplingOptions(max_tokens=4)))
    assert [one.completions()[0].tokens for one in (kept[0], *kept[2:])] == [4, 4, 4]


def test_what_could_never_fit_is_refused_with_the_numbers(new_engine):
    engine = new_engine(3)
    engine.submit([1] * 40, SamplingOptions(max_tokens=9)).completions()
    with pytest.raises(BadOption, match=r"40 tokens of prompt and --max-tokens 10 need .* MiB of cache, which holds"):
        engine.submit([1] * 40, SamplingOptions(max_tokens=10))
    with pytest.raises(BadOption, match="holds not one block"):
        new_engine(0)


def test_more_sequences_than_run_at_once_take_turns(new_engine, alone):
    engine = new_engine(6, max_batch=3)
    options = SamplingOptions(max_tokens=20, n=40, seed=3)
    found = engine.submit([1, 2, 3], options).completions()
    assert [list(one.token_ids) for one in found] == [alone([1, 2, 3], options, index) for index in range(40)]
    assert engine.free_blocks == engine.blocks


def test_a_long_prompt_does_not_stall_those_that_decode(network, small_tokenizer):
    """Between two tokens of a text that is under way, no more than a chunk of another's prompt is read."""
    config = GPT2Config(small_tokenizer.vocab_size, context_length=8 * PREFILL_CHUNK, n_layer=1, n_head=1, n_embd=8)
    long_network = GPT2(config)
    long_network.initialize(torch.Generator().manual_seed(1))
    engine = Engine(TorchBackend(long_network), small_tokenizer)
    first = engine.submit([1], SamplingOptions(max_tokens=30, ignore_end_of_text=True))
    engine.step()
    second = engine.submit([2] * (6 * PREFILL_CHUNK), SamplingOptions(max_tokens=3, ignore_end_of_text=True))
    for step in range(2, 8):
        engine.step()
        assert first._submission.sequences[0].generated == step
        assert engine.statistics.prefill_tokens == (step - 1) * PREFILL_CHUNK
    assert second.completions()[0].tokens == first.completions()[0].tokens / 10 == 3


def test_a_prompt_of_100_000_tokens_keeps_its_end_and_is_quick(new_engine, alone):
    chooser = random.Random(1)
    prompt = [chooser.randrange(300) for _ in range(100_000)]
    options = SamplingOptions(max_tokens=3)
    began = time.process_time()
    found = new_engine().submit(prompt, options).completions()[0]
    assert time.process_time() - began < 2
    assert found.dropped_prompt_tokens == 100_000 - CONTEXT
    assert list(found.token_ids) == alone(prompt, options)


def test_an_empty_prompt_is_the_end_of_text_token_alone(new_engine, alone, small_tokenizer):
    options = SamplingOptions(max_tokens=30, n=3)
    for prompt in ("", []):
        found = new_engine().submit(prompt, options).completions()
        assert [list(one.token_ids) for one in found] == [
            alone([small_tokenizer.end_of_text], options, index) for index in range(3)
        ]


def test_a_prefix_read_before_is_not_read_again(new_engine, alone):
    engine = new_engine()
    options = SamplingOptions(max_tokens=5)
    engine.submit([4] * 70, options).completions()
    before = engine.statistics.prefill_tokens
    found = engine.submit([*[4] * 70, 8, 9], options).completions()[0]
    assert engine.statistics.prefill_tokens - before == 72 - 64
    assert list(found.token_ids) == alone([*[4] * 70, 8, 9], options)


def test_sequences_of_one_prompt_share_its_blocks(new_engine):
    engine = new_engine(max_batch=8)
    generation = engine.submit([1] * 40, SamplingOptions(max_tokens=3, n=8, ignore_end_of_text=True))
    engine.step()
    engine.step()
    assert engine.blocks - engine.free_blocks == 2 + 8
    assert engine.statistics.prefill_tokens == 40
    generation.cancel()
    assert engine.free_blocks == engine.blocks


def test_events_name_the_text_that_a_piece_belongs_to(new_engine, small_tokenizer):
    engine = new_engine()
    options = SamplingOptions(max_tokens=20, n=3, seed=2)
    texts = ["", "", ""]
    for index, piece in engine.submit("The cat", options).events():
        texts[index] += piece
    assert texts == [one.text for one in engine.submit("The cat", options).completions()]
    with pytest.raises(ValueError, match="events"):
        iter(engine.submit("The cat", options))


def test_best_of_gives_the_most_probable_texts_first(new_engine):
    engine = new_engine()
    every = engine.submit("The cat", SamplingOptions(max_tokens=12, n=6, logprobs=0)).completions()
    wanted = sorted(every, key=lambda one: -one.mean_logprob)[:2]
    found = engine.submit("The cat", SamplingOptions(max_tokens=12, n=2, best_of=6)).completions()
    assert [(one.text, one.mean_logprob) for one in found] == [(one.text, one.mean_logprob) for one in wanted]
    assert [one.index for one in found] == [0, 1]
    only = engine.submit("The cat", SamplingOptions(max_tokens=12, best_of=6))
    assert "".join(only) == wanted[0].text


def test_log_probabilities_are_the_networks_own(new_engine, network):
    engine = new_engine()
    prompt, options = [3, 4, 5], SamplingOptions(max_tokens=20, logprobs=2, temperature=0.7, top_k=5)
    found = engine.submit(prompt, options).completions()[0]
    with torch.inference_mode():
        log_probs_TV = network(torch.tensor([[*prompt, *found.token_ids]]))[0].log_softmax(-1)
    assert len(found.logprobs) == found.tokens
    for entry, token, log_probs_V in zip(found.logprobs, found.token_ids, log_probs_TV[2:], strict=False):
        assert entry.token == token
        assert entry.logprob == pytest.approx(float(log_probs_V[token]), abs=1e-4)
        assert [n for n, _ in entry.alternatives] == log_probs_V.topk(2).indices.tolist()


def test_broken_logits_fail_their_own_request_only(new_engine, alone, monkeypatch):
    """And what its blocks hold does not reach those who get them next."""
    engine = new_engine()
    options = SamplingOptions(max_tokens=30)
    broken, sound = engine.submit([7] * 20, options), engine.submit([5] * 20, options)
    whole, calls = engine.backend.decode, []

    def breaks(tokens_B, positions_B, tables_BN):
        logits_BV, greatest_B = whole(tokens_B, positions_B, tables_BN)
        calls.append(None)
        if len(calls) == 3:
            logits_BV[0] = float("nan")
            greatest_B = [-1, *greatest_B[1:]]
            if isinstance(engine.backend, TorchBackend):
                engine.backend._k_LSHK[:, tables_BN[0, 0] * BLOCK_TOKENS] = float("nan")
        return NextTokens(logits_BV, greatest_B)

    monkeypatch.setattr(engine.backend, "decode", breaks)
    with pytest.raises(BadInput, match="not numbers"):
        broken.completions()
    assert list(sound.completions()[0].token_ids) == alone([5] * 20, options)
    for number in range(5):
        again = engine.submit([number] * 80, options).completions()[0]
        assert list(again.token_ids) == alone([number] * 80, options)
    assert engine.free_blocks == engine.blocks


def test_a_cache_that_the_memory_does_not_hold_is_refused_with_its_size(backend, small_tokenizer, monkeypatch):
    made = backend()

    def no_memory(blocks):
        raise MemoryError

    monkeypatch.setattr(made, "reserve", no_memory)
    with pytest.raises(BadOption, match=r"a cache for --max-batch 3 takes [\d.]+ MiB, more memory than there is"):
        Engine(made, small_tokenizer, max_batch=3)


def test_a_backend_serves_a_second_engine_once_nobody_holds_the_first(backend, small_tokenizer, alone):
    made, options = backend(), SamplingOptions(max_tokens=9)
    engine = Engine(made, small_tokenizer)
    under_way = engine.submit([1, 2], options)
    engine.step()
    del engine
    with pytest.raises(BadOption, match="serves another engine"):
        Engine(made, small_tokenizer)
    assert list(under_way.completions()[0].token_ids) == alone([1, 2], options)
    del under_way
    assert list(Engine(made, small_tokenizer).submit([3], options).completions()[0].token_ids) == alone([3], options)


@pytest.mark.parametrize("prompt", [[], [3, 4, 5], [6] * 90])
def test_beams_give_the_same_texts_however_little_room_there_is(new_engine, prompt):
    """Also past the context, and beside others that come and go."""
    options = SamplingOptions(max_tokens=30, beams=3, n=3, logprobs=1, stop=("zq",))
    wanted = new_engine().submit(prompt, options).completions()
    engine = new_engine(18, max_batch=5)
    others = [engine.submit([n], SamplingOptions(max_tokens=60, seed=n)) for n in range(4)]
    engine.step()
    found = engine.submit(prompt, options)
    late = [engine.submit([n] * 50, SamplingOptions(max_tokens=60, seed=n)) for n in range(4)]
    assert [one.token_ids for one in found.completions()] == [one.token_ids for one in wanted]
    assert [one.index for one in wanted] == [0, 1, 2]
    assert len(prompt) != 90 or all(one.window_slides for one in wanted)
    for one in (*others, *late):
        one.completions()
    assert engine.free_blocks == engine.blocks


def test_the_best_beam_is_the_most_probable_text(new_engine, network):
    """With as many beams as there are texts of two tokens worth looking at, no text of two tokens is better."""
    options = SamplingOptions(max_tokens=2, beams=32, ignore_end_of_text=True)
    found = new_engine().submit([3, 4, 5], options).completions()[0]
    with torch.inference_mode():
        first_V = network(torch.tensor([[3, 4, 5]]))[0, -1].log_softmax(-1)
        second_VV = network(torch.tensor([[3, 4, 5, n] for n in range(320)]))[:, -1].log_softmax(-1)
    both_VV = (first_V[:, None] + second_VV)[:-1, :-1]
    assert both_VV.max().item() / 2 == pytest.approx(found.mean_logprob, abs=1e-4)


def test_cancelled_beams_give_what_they_have(new_engine):
    engine = new_engine()
    generation = engine.submit([3], SamplingOptions(max_tokens=30, beams=3, n=2, ignore_end_of_text=True))
    for _ in range(5):
        engine.step()
    generation.cancel()
    found = generation.completions()
    assert [(one.finish_reason, one.tokens) for one in found] == [("cancelled", 5)] * 2
    assert engine.free_blocks == engine.blocks


@pytest.mark.slow
def test_500_greedy_tokens_are_those_of_transformers(small_tokenizer, tmp_path):
    config = GPT2Config(small_tokenizer.vocab_size, context_length=640, n_layer=3, n_head=4, n_embd=64)
    network = GPT2(config)
    network.initialize(torch.Generator().manual_seed(2))
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # positions weigh so much that tokens don't just repeat
            parameter.mul_(40.0 if name == "wpe.weight" else 4.0)
        network.wte.weight[small_tokenizer.end_of_text] = 0.0  # so that it goes on
    save_model_folder(tmp_path / "m", network, small_tokenizer, {})
    reference = GPT2LMHeadModel.from_pretrained(tmp_path / "m").eval()
    options = SamplingOptions(max_tokens=500, temperature=0)
    engines = [open_engine(tmp_path / "m", "torch"), open_engine(tmp_path / "m", "cpu", threads=1)]
    for text in ("The cat in the garden", "nobody"):
        prompt = small_tokenizer.encode(text)
        theirs = reference.generate(torch.tensor([prompt]), max_new_tokens=500, do_sample=False, pad_token_id=0)
        wanted = theirs[0, len(prompt) :].tolist()
        assert len(wanted) == 500
        assert len(set(wanted)) > 20
        for engine in engines:
            assert list(engine.submit(text, options).completions()[0].token_ids) == wanted


def test_prompts_that_are_no_token_ids_are_refused(new_engine):
    with pytest.raises(BadInput, match="token id 999 is not in the vocabulary of 320"):
        new_engine().submit([1, 999], SamplingOptions())
