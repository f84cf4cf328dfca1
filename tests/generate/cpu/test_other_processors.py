"""The same bits on processors with other vectors: the kernels compiled here as if for one without AVX-512."""

import os
import subprocess
import sys

import pytest
from llvmlite import binding

from gpt2lab.checkpoints.model_folder import save_model_folder

LOGITS = """
import hashlib, sys
import numpy as np
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.generate.cpu.backend import cpu_backend
for weights, bits in (("float32", 16), ("int8", 16), ("int8", 8)):
    backend = cpu_backend(open_model(sys.argv[1]), weights, 1, bits)
    backend.reserve(2)
    logits = backend.prefill(np.arange(30, dtype=np.int32), 0, np.arange(2, dtype=np.int32), "all")
    print(weights, bits, hashlib.sha256(logits.tobytes()).hexdigest())
"""


@pytest.mark.interop
def test_logits_have_the_same_bits_without_avx512(small_model, tmp_path):
    features = binding.get_host_cpu_features()
    if not features.get("avx512f"):
        pytest.skip("this processor has no AVX-512 to leave out")
    save_model_folder(tmp_path / "m", small_model.network, small_model.tokenizer, {})
    without = ",".join(
        ("+" if there and not name.startswith("avx512") else "-") + name for name, there in features.items()
    )
    printed = set()
    for number, changes in enumerate(({}, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": without})):
        environment = os.environ | changes | {"NUMBA_CACHE_DIR": str(tmp_path / f"compiled{number}")}
        command = [sys.executable, "-c", LOGITS, str(tmp_path / "m")]
        printed.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(printed) == 1
