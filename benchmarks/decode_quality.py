"""What do rounded activations and a rounded KV cache cost? The cpu backend's perplexity of a text, beside float32's.

`python -m benchmarks.decode_quality FOLDER TEXT [--tokens 100000] [--json FILE]`, FOLDER a model of int8 weights
(`gpt2lab quantize MODEL --out FOLDER`). The same weights, widened to float32, multiply inputs of float32 and read a
cache of float32; then as they are, with inputs and a cache of 16 and of 8 bits. Each reads windows of the whole
context, a piece at a time as a prompt is read; all tokens of a window but the first are predicted.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.generate.backend import Backend
from gpt2lab.generate.opening import WeightsName, open_engine

SETTINGS: tuple[tuple[WeightsName, int], ...] = (("float32", 16), ("int8", 16), ("int8", 8))


@dataclass(frozen=True)
class Quality:
    """How a setting predicts the text; the last two beside the first setting."""

    setting: str
    tokens: int
    perplexity: float
    change: float
    same_top_token: float


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=100_000, help="of the text's beginning")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    text = asked.text.read_text(encoding="utf-8")
    found: list[Quality] = []
    reference: tuple[float, NDArray[np.int64]] | None = None
    for weights, bits in SETTINGS:
        engine = open_engine(asked.folder, "cpu", weights, activation_bits=bits, max_batch=1)
        ids_N = np.array(engine.tokenizer.encode(text)[: asked.tokens], np.int32)
        loss, top_N = predict(engine.backend, ids_N)
        reference = reference or (loss, top_N)
        same = float((top_N == reference[1]).mean())
        name = engine.backend.name.partition(",")[0] + ("" if weights == "float32" else f", {bits} bits")
        found.append(Quality(name, len(top_N), float(np.exp(loss)), float(np.expm1(loss - reference[0])), same))
        row = found[-1]
        print(
            f"{row.setting:20} {row.tokens:,} tokens  perplexity {row.perplexity:.4f}  change {row.change:+.5%}  "
            f"same most probable token {row.same_top_token:.3%}",
            flush=True,
        )
    if asked.json:
        whole = {"quality": [asdict(one) for one in found], "machine": describe_machine()}
        asked.json.write_text(json.dumps(whole | {"versions": describe_versions(("gpt2lab",))}, indent=2) + "\n")


def predict(backend: Backend, ids_N: NDArray[np.int32]) -> tuple[float, NDArray[np.int64]]:
    """The mean loss in nats of the tokens of whole windows [N], and the most probable one in each place."""
    context = backend.config.context_length
    table = np.arange(-(-context // backend.block_tokens), dtype=np.int32)
    total, tops = 0.0, []
    for start in range(0, len(ids_N) - 1, context):
        ids_T = ids_N[start : start + context]
        logits_TV = backend.prefill(ids_T, 0, table, "all")
        assert logits_TV is not None
        logits_TV = logits_TV[: len(ids_T) - 1]
        most_T1 = logits_TV.max(axis=1, keepdims=True)
        log_sum_T = np.log(np.exp(logits_TV - most_T1).sum(axis=1, dtype=np.float64)) + most_T1[:, 0]
        total += float((log_sum_T - logits_TV[np.arange(len(logits_TV)), ids_T[1:]]).sum())
        tops.append(logits_TV.argmax(axis=1))
    return total / sum(map(len, tops)), np.concatenate(tops)


if __name__ == "__main__":
    main()
