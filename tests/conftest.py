"""What tests of several storeys share: the shared data, a small corpus, a small trained-looking model."""

import json
import os
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A machine that is busy with other things makes no example wrong. New examples are for those who develop: what decides
# whether a change lands (CI, set by .ci/run) tries the same ones in every run.
settings.register_profile(
    "gpt2lab", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("gpt2lab")

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data():
    """A function from a path inside the shared test data to the file; skips the test where the data are absent."""

    def find(relative: str) -> Path:
        path = SHARED_DATA / relative
        if not path.exists():
            pytest.skip(f"shared test data absent: {path}")
        return path

    return find


@pytest.fixture(scope="session")
def sentences():
    """Reproducible English-like documents: a grammar of our own, so that a network has something to learn."""
    chooser = random.Random(7)
    animals = "cat dog horse heron otter badger falcon rabbit beetle salmon".split()
    places = "garden river forest market harbour meadow library kitchen valley station".split()
    deeds = "sleeps waits listens wanders hides watches sings rests hunts dreams".split()

    def sentence() -> str:
        animal, place, deed = chooser.choice(animals), chooser.choice(places), chooser.choice(deeds)
        return f"The {animal} in the {place} {deed}, and nobody in the {place} sees the {animal}."

    return ["\n".join(" ".join(sentence() for _ in range(4)) for _ in range(5)) for _ in range(60)]


@pytest.fixture(scope="session")
def documents_folder(sentences, tmp_path_factory):
    """A folder of documents as `build` writes it."""
    folder = tmp_path_factory.mktemp("documents")
    write_documents(folder / "documents" / "documents-00000.parquet", sentences)
    return folder


@pytest.fixture(scope="session")
def small_tokenizer(sentences):
    from gpt2lab.tokens.train_bpe import train_bpe

    return train_bpe(sentences, 320)


@pytest.fixture(scope="session")
def tokens_folder(documents_folder, small_tokenizer, tmp_path_factory):
    """Token shards of the small corpus, a fifth of it held out."""
    from gpt2lab.tokens.write_shards import write_shards

    folder = tmp_path_factory.mktemp("tokens")
    write_shards(documents_folder, folder, small_tokenizer, 0.2)
    return folder


@pytest.fixture(scope="session")
def small_model(small_tokenizer):
    """A random GPT-2 of two layers with the small tokenizer, context 32."""
    import torch

    from gpt2lab.generate.language_model import LanguageModel
    from gpt2lab.model.config import GPT2Config
    from gpt2lab.model.gpt2 import GPT2

    network = GPT2(GPT2Config(vocab_size=small_tokenizer.vocab_size, context_length=32, n_layer=2, n_head=4, n_embd=64))
    network.initialize(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in network.parameters():  # larger than fresh weights, so that next tokens are not all alike
            parameter.mul_(3.0)
    return LanguageModel(network, small_tokenizer)


def write_documents(path: Path, texts: list[str]) -> None:
    """Write a Parquet file of documents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {
        "id": [f"d{n}" for n in range(len(texts))],
        "text": texts,
        "url": [f"http://example.org/{n}" for n in range(len(texts))],
        "source_file": ["made.txt"] * len(texts),
    }
    pyarrow.parquet.write_table(pyarrow.table(rows), path)


def read_json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
