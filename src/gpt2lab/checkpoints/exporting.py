"""`export`: a model for another tool, whole or not at all."""

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpt2lab.base.errors import BadOption
from gpt2lab.checkpoints.formats.q8_0 import BLOCK
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.provenance import check_replaceable, describe_making
from gpt2lab.checkpoints.weights import Checkpoint, only_finite, without_padding

ExportFormat = Literal["hf", "gguf", "ctranslate2", "onnx", "llm.c"]
ExportType = Literal["float32", "float16", "bfloat16", "q8_0", "int8"]

TYPES: dict[ExportFormat, tuple[ExportType, ...]] = {
    "hf": ("float32", "float16", "bfloat16"),
    "gguf": ("float32", "float16", "bfloat16", "q8_0"),
    "ctranslate2": ("float32", "float16", "bfloat16", "int8"),
    "onnx": ("float32", "float16"),
    "llm.c": ("float32", "bfloat16"),
}
HINTS: dict[ExportFormat, str] = {
    "hf": "python -c \"import transformers; print(transformers.pipeline('text-generation', '{out}')('Once upon'))\"",
    "gguf": "llama-cli -m {quoted} -p 'Once upon a time' -no-cnv",
    "ctranslate2": "python -c \"import ctranslate2; print(ctranslate2.Generator('{out}'))\"",
    "onnx": "python -c \"import onnxruntime; print(onnxruntime.InferenceSession('{out}/model.onnx').get_inputs()[0])\"",
    "llm.c": "./train_gpt2cu -e {out}/model.bin   (train_gpt2 reads ./gpt2_124M.bin and ./gpt2_tokenizer.bin)",
}
MADE_BY = "gpt2lab export"
SHARD_BYTES = 5 * 10**9  # what transformers long had; hubs and file systems take files of this size


@dataclass(frozen=True)
class Exported:
    """What `export` made: where, for what, how large, what was done to the weights, and a command that uses it."""

    path: str
    format: ExportFormat
    dtype: ExportType
    parameters: int
    bytes: int
    notes: tuple[str, ...]
    hint: str


def export_model(source: str | Path, out: Path, to: ExportFormat, dtype: ExportType | None = None) -> Exported:
    """Write a model in another tool's format at `out`. The weights keep their type where the format has it.

    Raises BadOption for a type that the format has not and for an `out` that holds something else, BadInput for what
    the format can't express and for weights that are not finite in that type.
    """
    if dtype is not None and dtype not in TYPES[to]:
        raise BadOption(f"--dtype {dtype}: {to} has {', '.join(TYPES[to])}.")
    if to == "gguf":
        _check_replaceable_gguf(out)
    else:
        check_replaceable(out, MADE_BY)
    if out.exists() and out.resolve() == Path(source).resolve():
        raise BadOption(f"--out {out}: is the model itself; name another place.")
    checkpoint = open_model(source)
    own = own_type(checkpoint)
    chosen: ExportType = "float32"
    for kind in TYPES[to]:
        if kind == (dtype or own):
            chosen = kind
    if chosen not in (own, dtype):
        checkpoint = checkpoint.noted(f"The weights are {own}, which {to} has not; they are {chosen} here.")
    if chosen == "q8_0" and checkpoint.config.n_embd % BLOCK:
        checkpoint = checkpoint.noted(
            f"q8_0 needs rows of a multiple of {BLOCK} numbers; matrices with rows of {checkpoint.config.n_embd:,} are"
            " float16."
        )
    if to in ("ctranslate2", "onnx"):
        checkpoint = without_padding(checkpoint)
    if dtype is not None and to == "hf":  # else its types may differ from tensor to tensor, and stay
        checkpoint = checkpoint.of_type(dtype)
    _write(out, checkpoint, to, chosen, {} if to == "gguf" else describe_making(MADE_BY, source, checkpoint))
    files = [file for file in out.rglob("*") if file.is_file()] if out.is_dir() else [out]
    return Exported(
        str(out),
        to,
        chosen,
        checkpoint.parameters,
        sum(file.stat().st_size for file in files),
        checkpoint.notes,
        HINTS[to].format(out=out, quoted=shlex.quote(str(out))),
    )


def own_type(checkpoint: Checkpoint) -> str:
    """The type that most of a checkpoint's numbers are stored in."""
    counts: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        counts[tensor.dtype] += tensor.size
    return counts.most_common(1)[0][0]


def _check_replaceable_gguf(out: Path) -> None:
    """Raise BadOption where `out` is a folder, or something else than an older GGUF or an empty file."""
    if out.is_dir():
        raise BadOption(f"--out {out}: is a folder; a GGUF is a file, such as {out / 'model.gguf'}.")
    if not out.exists():
        return
    if out.is_file():
        with out.open("rb") as handle:
            if handle.read(4) in (b"GGUF", b""):
                return
    raise BadOption(f"--out {out}: is something else than a GGUF, and would be replaced; name another file.")


def _write(out: Path, checkpoint: Checkpoint, to: ExportFormat, dtype: str, provenance: Mapping[str, Any]) -> None:
    # Each format's library is imported only when it is asked for.
    if to == "hf":
        from gpt2lab.checkpoints.formats.hugging_face import write_hugging_face

        write_hugging_face(out, only_finite(checkpoint), provenance=provenance, max_shard_bytes=SHARD_BYTES)
    elif to == "gguf":
        from gpt2lab.checkpoints.formats.gguf_files import write_gguf

        write_gguf(out, checkpoint, dtype)
    elif to == "llm.c":
        from gpt2lab.checkpoints.formats.llm_c import write_llm_c

        write_llm_c(out, checkpoint, dtype, provenance)
    elif to == "onnx":
        from gpt2lab.checkpoints.formats.onnx_model import write_onnx

        write_onnx(out, checkpoint, dtype, provenance)
    else:
        from gpt2lab.checkpoints.formats.ctranslate2_model import write_ctranslate2

        write_ctranslate2(out, checkpoint, dtype, provenance)
