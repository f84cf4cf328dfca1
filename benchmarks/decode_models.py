"""The models of `benchmarks.decode`: one of random weights, in the types and formats that all contestants want."""

import os
import sys
from collections.abc import Set
from pathlib import Path

from benchmarks.processes import run_measured

ROOT = Path(__file__).parents[1]
OPENVINO = ROOT / ".venv-openvino" / "bin"
LLAMA_CPP = ROOT / ".venv-llama-cpp" / "bin"

MODELS = (
    "float32",
    "int8",
    "int4",
    "float32.gguf",
    "float16.gguf",
    "bfloat16.gguf",
    "q8_0.gguf",
    "q4_0.gguf",
    "ct2-float32",
    "ct2-int8",
    "openvino-fp32",
    "openvino-int8",
    "openvino-int4",
)
"""All models, each after what it is made from."""

QUANTIZE_Q4_0 = """
import sys, llama_cpp
options = llama_cpp.llama_model_quantize_default_params()
options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), options))
"""


def make_models(folder: Path, size: str, wanted: Set[str]) -> None:
    """Make those of the wanted models that are not there yet, from the same random weights in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "float32"
    for name in sorted(wanted | {"float32"}, key=MODELS.index):
        out = folder / name
        if out.exists():
            continue
        print(f"making {size} {name}", file=sys.stderr)
        part = folder / f"part-{name}"
        run_measured(making_command(name, source, part, size), os.environ | {"HF_HUB_OFFLINE": "1"})
        part.rename(out)


def making_command(name: str, source: Path, out: Path, size: str) -> list[str]:
    """What makes a model of another type from the float32 one, or that one itself."""
    gpt2lab = [sys.executable, "-m", "gpt2lab"]
    if name == "float32":
        return [sys.executable, "-m", "benchmarks.weights_contestants", "make", str(out), size]
    if name in ("int8", "int4"):
        return [*gpt2lab, "quantize", str(source), "--out", str(out), "--weights", name]
    if name == "q4_0.gguf":
        float32 = source.with_name("float32.gguf")
        return [str(LLAMA_CPP / "python"), "-c", QUANTIZE_Q4_0, str(float32), str(out)]
    if name.endswith(".gguf"):
        return [*gpt2lab, "export", str(source), "--to", "gguf", "--dtype", Path(name).stem, "--out", str(out)]
    kind = name.partition("-")[2]
    if name.startswith("ct2-"):
        return [*gpt2lab, "export", str(source), "--to", "ctranslate2", "--dtype", kind, "--out", str(out)]
    task = ["--task", "text-generation-with-past", "--weight-format", kind]
    return [str(OPENVINO / "optimum-cli"), "export", "openvino", "--model", str(source), *task, str(out)]
