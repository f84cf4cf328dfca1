"""Opening a model to generate with: what is chosen, what is refused, what is not imported."""

import subprocess
import sys

import pytest
import torch

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.generate.opening import open_engine
from gpt2lab.generate.options import SamplingOptions


@pytest.fixture(scope="module")
def model(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("opening") / "m"
    save_model_folder(folder, small_model.network, small_model.tokenizer, {})
    return folder


@pytest.mark.parametrize(("backend", "name"), [("cpu", "cpu float32"), ("torch", "torch float32")])
def test_both_backends_give_the_texts_of_the_model(small_model, model, backend, name):
    engine = open_engine(model, backend, threads=1 if backend == "cpu" else None)
    assert engine.backend.name.startswith(name) or torch.accelerator.is_available()
    options = SamplingOptions(max_tokens=40, seed=5)
    assert engine.submit("The cat", options).completions()[0] == small_model.generate("The cat", options)


def test_bfloat16_is_close(small_model, model):
    engine = open_engine(model, "torch", "bfloat16")
    assert "bfloat16" in engine.backend.name
    options = SamplingOptions(max_tokens=1, logprobs=0, forced=(5,))
    ours, exact = (
        one.submit("The cat", options).completions()[0] for one in (engine, open_engine(model, "cpu", threads=1))
    )
    assert ours.mean_logprob == pytest.approx(exact.mean_logprob, abs=0.1)


def test_the_cpu_backend_needs_no_torch(model):
    """Which takes seconds to import."""
    program = (
        "import sys; from gpt2lab.generate.opening import open_engine; from gpt2lab.generate.options import"
        f" SamplingOptions; engine = open_engine({str(model)!r}, 'cpu', threads=1);"
        " options = SamplingOptions(max_tokens=9, ignore_end_of_text=True);"
        " print(len(engine.submit('The', options).completions()[0].text));"
        " assert 'torch' not in sys.modules"
    )
    assert int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tpu"}, "--backend tpu: is one of auto, cpu, torch"),
        ({"weights": "int7"}, "--weights int7: is one of"),
        ({"backend": "torch", "weights": "int8"}, "--backend cpu has int8"),
        ({"backend": "torch", "threads": 2}, "--threads"),
        ({"backend": "torch", "max_batch": 0}, "--max-batch 0"),
        ({"backend": "torch", "queue_limit": 0}, "--queue-limit 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(model, arguments, message):
    with pytest.raises(BadOption, match=message):
        open_engine(model, **arguments)


def test_a_model_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BadInput, match="no such file or folder"):
        open_engine(tmp_path / "none")
