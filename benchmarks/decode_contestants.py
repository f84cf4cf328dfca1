"""One contestant of `benchmarks.decode` in a process of its own environment; it loads once and answers many times.

`python -P benchmarks/decode_contestants.py LIBRARY MODEL [OPTIONS]`: OPTIONS is a JSON object of the library's own
settings. The first line it prints is a JSON object of versions; then, for each line of standard input, a JSON object
`{"prompts": [[token ids]], "new_tokens": n}`, it prints one with the figures of `timed`. Greedy; the end-of-text token
does not end a text. `python -P benchmarks/decode_contestants.py bandwidth` answers any line with rates of reading.
"""

import importlib.metadata
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
END_OF_TEXT = 50_256
CONTEXT = 1024
BANDWIDTH_BUFFER_BYTES = 1 << 30
BANDWIDTH_TRIES = 4

Prompts = list[list[int]]
Arrivals = list[tuple[float, int]]
"""When tokens came, and how many with each; before that, when all sequences had their first one."""
Generate = Callable[[Prompts, int], Arrivals]


def main() -> None:
    """Load the contestant that the command line names, and answer."""
    library, *rest = sys.argv[1:]
    # Whatever a library prints is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    packages: tuple[str, ...]
    if library == "bandwidth":
        measure, packages = bandwidth(), ("numpy", "numba")
    else:
        generate, packages = CONTESTANTS[library](rest[0], **json.loads(rest[1] if rest[1:] else "{}"))
        measure = lambda asked: timed(generate, asked["prompts"], asked["new_tokens"])  # noqa: E731
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(json.loads(line))), file=answers, flush=True)
    os._exit(0)  # without the ends of libraries' threads: CTranslate2's sometimes fail, or never come


def timed(generate: Generate, prompts: Prompts, new_tokens: int) -> dict[str, Any]:
    """What a run took.

    `first_seconds` till every sequence had its first token, `decode_tokens` that came after that moment in
    `decode_seconds`, `seconds` from the beginning to the end for `new_tokens` of each sequence; the process's largest
    resident set so far, in bytes.
    """
    start = time.perf_counter()
    (first, _), *later = generate(prompts, new_tokens)
    end = time.perf_counter()
    return {
        "first_seconds": first - start,
        "decode_seconds": later[-1][0] - first if later else 0.0,
        "decode_tokens": sum(count for _, count in later),
        "seconds": end - start,
        "new_tokens": len(prompts) * new_tokens,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
    }


def gpt2lab(model: str, weights: str, activation_bits: int = 16) -> tuple[Generate, tuple[str, ...]]:
    """Ours: the engine over the cpu backend."""
    from gpt2lab.generate.opening import open_engine
    from gpt2lab.generate.options import SamplingOptions

    engine = open_engine(model, "cpu", weights, activation_bits=activation_bits)  # type: ignore[arg-type]

    def generate(prompts: Prompts, new_tokens: int) -> Arrivals:
        options = SamplingOptions(max_tokens=new_tokens, temperature=0, ignore_end_of_text=True)
        statistics, asked = engine.statistics, sum(map(len, prompts))
        read, decoded = statistics.prefill_tokens + statistics.shared_prompt_tokens, statistics.decode_tokens
        running = [engine.submit(prompt, options) for prompt in prompts]
        arrivals: Arrivals = []
        goes_on = True
        while goes_on:
            goes_on = engine.step()
            made, decoded = statistics.decode_tokens - decoded, statistics.decode_tokens
            if statistics.prefill_tokens + statistics.shared_prompt_tokens - read == asked and (made or not arrivals):
                arrivals.append((time.perf_counter(), made))
        for generation in running:
            (completion,) = generation.completions()
            check_count(completion.tokens, new_tokens)
        return arrivals

    return generate, ("gpt2lab", "numba", "numpy")


def transformers(model: str, cache: str = "dynamic", int8: bool = False) -> tuple[Generate, tuple[str, ...]]:
    """GPT2LMHeadModel.generate; with `int8`, PyTorch's own dynamic quantization of its matrices."""
    import warnings

    import torch
    from transformers import GPT2LMHeadModel
    from transformers.pytorch_utils import Conv1D

    torch.set_num_threads(THREADS)
    network: Any = GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32).eval()
    if int8:
        # PyTorch quantizes Linear only, which Conv1D is with its matrix turned around.
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Conv1D):
                    linear = torch.nn.Linear(*child.weight.shape)
                    linear.weight = torch.nn.Parameter(child.weight.detach().t().contiguous())
                    linear.bias = torch.nn.Parameter(child.bias.detach())
                    setattr(parent, name, linear)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it will move to another package
            network = torch.ao.quantization.quantize_dynamic(network, {torch.nn.Linear}, dtype=torch.qint8)

    class Clock:
        """Takes the place of what prints tokens as they come; the prompts come first."""

        def __init__(self) -> None:
            self.arrivals: Arrivals = []

        def put(self, tokens: torch.Tensor) -> None:
            self.arrivals.append((time.perf_counter(), tokens.numel()))

        def end(self) -> None:
            pass

    def generate(prompts: Prompts, new_tokens: int) -> Arrivals:
        ids, clock = torch.tensor(prompts), Clock()
        with torch.inference_mode():
            made = network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                pad_token_id=END_OF_TEXT,
                cache_implementation=None if cache == "dynamic" else cache,
                streamer=clock,
            )
        check_count(made.shape[1] - ids.shape[1], new_tokens)
        return clock.arrivals[1:]

    return generate, ("transformers", "torch")


def ctranslate2(model: str, compute_type: str) -> tuple[Generate, tuple[str, ...]]:
    """Generator.generate_batch, all prompts in one batch; the prompt is read at once, as it is not asked back."""
    import ctranslate2

    generator = ctranslate2.Generator(
        model, device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=THREADS
    )
    words: list[str] = json.loads(Path(model, "vocabulary.json").read_text())

    def generate(prompts: Prompts, new_tokens: int) -> Arrivals:
        came: list[tuple[float, int]] = []
        made = generator.generate_batch(
            [[words[token] for token in prompt] for prompt in prompts],
            max_batch_size=0,
            beam_size=1,
            sampling_topk=1,
            min_length=new_tokens,
            max_length=new_tokens,
            end_token=[],
            include_prompt_in_result=False,
            callback=lambda step: came.append((time.perf_counter(), step.batch_id)),
        )
        for one in made:
            check_count(len(one.sequences_ids[0]), new_tokens)
        first = max(next(when for when, who in came if who == number) for number in range(len(prompts)))
        return [(first, len(prompts)), *((when, 1) for when, _ in came if when > first)]

    return generate, ("ctranslate2",)


def openvino(model: str, **settings: str) -> tuple[Generate, tuple[str, ...]]:
    """LLMPipeline, whose continuous batching over paged attention is its default; its own clock says when tokens came.

    Its counters of time start at an unknown moment, so the first token's is taken from the end backwards.
    """
    import numpy as np
    import openvino as ov
    import openvino_genai

    pipeline = openvino_genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=THREADS, **settings)

    def generate(prompts: Prompts, new_tokens: int) -> Arrivals:
        ids = np.array(prompts, np.int64)
        config = openvino_genai.GenerationConfig(max_new_tokens=new_tokens, ignore_eos=True, do_sample=False)
        start = time.perf_counter()
        inputs = openvino_genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        made = pipeline.generate(inputs, config)
        end = time.perf_counter()
        for tokens in made.tokens:
            check_count(len(tokens), new_tokens)
        raw = made.perf_metrics.raw_metrics
        assert raw.m_batch_sizes[0] == len(prompts), raw.m_batch_sizes
        milliseconds = raw.m_new_token_times
        offset = end - milliseconds[-1] / 1e3
        arrivals = [(when / 1e3 + offset, count) for when, count in zip(milliseconds, raw.m_batch_sizes, strict=True)]
        assert arrivals[0][0] >= start
        return arrivals

    return generate, ("openvino", "openvino-genai", "nncf", "optimum-intel")


def llama_cpp(model: str, flash_attention: bool = True) -> tuple[Generate, tuple[str, ...]]:
    """llama_decode over one batch of all sequences, as its own batched programs do; a context each for one and many."""
    import llama_cpp as llama
    import numpy as np

    silence = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silence, None)
    llama.llama_backend_init()
    loaded = llama.llama_model_load_from_file(model.encode(), llama.llama_model_default_params())
    if not loaded:
        sys.exit(f"error: llama.cpp can't load {model}.")
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(loaded))
    flash = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash_attention else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    batch = llama.llama_batch_init(CONTEXT, 0, 1)
    contexts: dict[int, Any] = {0: silence}  # which has to live as long as the library may call it

    def context_of(sequences: int) -> Any:
        if sequences not in contexts:
            options = llama.llama_context_default_params()
            options.n_ctx = sequences * (CONTEXT if sequences == 1 else CONTEXT // 4)
            options.n_batch, options.n_ubatch, options.n_seq_max = CONTEXT, CONTEXT // 2, sequences
            options.n_threads = options.n_threads_batch = THREADS
            options.flash_attn_type = flash
            contexts[sequences] = llama.llama_init_from_model(loaded, options)
        return contexts[sequences]

    def decode(context: Any, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """(token, position, sequence, whether its logits are wanted): the most probable next token of those."""
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        batch.n_tokens = len(tokens)
        if llama.llama_decode(context, batch):
            sys.exit("error: llama_decode failed.")
        return [
            int(np.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), (vocabulary,)).argmax())
            for i, (*_, wanted) in enumerate(tokens)
            if wanted
        ]

    def generate(prompts: Prompts, new_tokens: int) -> Arrivals:
        context = context_of(len(prompts))
        llama.llama_memory_clear(llama.llama_get_memory(context), False)
        newest = decode(
            context,
            [
                (token, position, sequence, position == len(prompt) - 1)
                for sequence, prompt in enumerate(prompts)
                for position, token in enumerate(prompt)
            ],
        )
        arrivals = [(time.perf_counter(), len(newest))]
        for step in range(new_tokens - 1):
            newest = decode(
                context,
                [(token, len(prompts[sequence]) + step, sequence, True) for sequence, token in enumerate(newest)],
            )
            arrivals.append((time.perf_counter(), len(newest)))
        return arrivals

    return generate, ("llama_cpp_python",)


def check_count(made: int, asked: int) -> None:
    """End with an error where a contestant made more or less than the others."""
    if made != asked:
        sys.exit(f"error: made {made} tokens where {asked} were asked for.")


def bandwidth() -> Callable[[Any], dict[str, Any]]:
    """The rate at which all cores together read a buffer far beyond the caches: numpy's and numba's integer sums."""
    import numba
    import numpy as np

    buffer = np.ones((THREADS, BANDWIDTH_BUFFER_BYTES // 8 // THREADS), np.int64)

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def numba_sum(row: Any) -> int:
        total = 0
        for value in row:
            total += value
        return total

    numba_sum(buffer[0, :8])

    def once(read: Callable[[Any], Any]) -> float:
        threads = [threading.Thread(target=read, args=(row,)) for row in buffer]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return buffer.nbytes / (time.perf_counter() - start)

    def measure(_: Any) -> dict[str, Any]:
        """Of each way to read, bytes a second of each try."""
        tries = [(once(np.sum), once(numba_sum)) for _ in range(BANDWIDTH_TRIES)]
        return dict(zip(("numpy", "numba"), zip(*tries, strict=True), strict=True))

    return measure


CONTESTANTS: dict[str, Callable[..., tuple[Generate, tuple[str, ...]]]] = {
    "gpt2lab": gpt2lab,
    "transformers": transformers,
    "ctranslate2": ctranslate2,
    "openvino": openvino,
    "llama.cpp": llama_cpp,
}

if __name__ == "__main__":
    main()
