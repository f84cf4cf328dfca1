"""Open a GPT-2 wherever and however it is stored: a model folder, another tool's file, or a name on the hub."""

from collections.abc import Callable
from pathlib import Path

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.weights import Checkpoint
from gpt2lab.tokens.bpe import gpt2_tokenizer

_NANOGPT_CHECKPOINT = "ckpt.pt"
_LLM_C_WEIGHTS = "model.bin"  # as export writes them; llm.c's own folders have several
_GPT2_VOCABULARIES = range(50_257, 50_305)  # as published, or padded to a multiple of 64 or 128


def open_model(source: str | Path, revision: str | None = None) -> Checkpoint:
    """Open a model; its weights are read when they are asked for.

    `source` is a model folder, a folder or file of another format, or a hub name or alias (see `hub`), of which
    `revision` picks a branch, tag or commit. Raises BadInput or BadOption that says what is wrong with it.
    """
    from gpt2lab.checkpoints.hub import fetch_model, hub_name

    if isinstance(source, str) and not source.strip():
        raise BadInput(
            "the model's name is empty; give a model folder, a file, or a name on the hub (gpt2, OWNER/NAME)."
        )
    name = hub_name(source)
    if name is None:
        if revision is not None:
            raise BadOption(f"--revision {revision}: {source} is a path; only models of the hub have revisions.")
        return _with_tokenizer(_reader(Path(source))(Path(source)))
    found = fetch_model(name, revision)
    try:
        opened = _with_tokenizer(_reader(found.folder)(found.folder))
    except BadInput as error:
        raise BadInput(f"{found.name}: {error}") from None
    return opened.noted(provenance=dict(opened.provenance) | {"hub": found.name, "revision": found.commit})


def _reader(path: Path) -> Callable[[Path], Checkpoint]:
    """The function that reads what stands at a path, by its contents. Formats' libraries are imported only then."""
    if path.is_dir():
        if (path / "config.json").exists():
            from gpt2lab.checkpoints.formats.hugging_face import read_hugging_face

            return read_hugging_face
        if (path / "hparams.json").exists() or (path / "checkpoint").exists() or [*path.glob("*.index")]:
            return _tensorflow()
        if (path / _NANOGPT_CHECKPOINT).exists():
            from gpt2lab.checkpoints.formats.nanogpt import read_nanogpt

            return lambda folder: read_nanogpt(folder / _NANOGPT_CHECKPOINT)
        if (path / _LLM_C_WEIGHTS).exists():
            reader = _reader_of_file(path / _LLM_C_WEIGHTS)
            return lambda folder: reader(folder / _LLM_C_WEIGHTS)
        raise BadInput(
            f"{path}: no model in this folder (no config.json, no TensorFlow checkpoint, no {_NANOGPT_CHECKPOINT})."
        )
    if path.is_file():
        return _reader_of_file(path)
    if path.with_name(f"{path.name}.index").exists():  # model.ckpt-1000 names several files
        return _tensorflow()
    raise BadInput(f"{path}: no such file or folder, and no name of a model (gpt2, or OWNER/NAME on the hub).")


def _reader_of_file(path: Path) -> Callable[[Path], Checkpoint]:
    from gpt2lab.checkpoints.formats.llm_c import LLM_C_MAGIC

    with path.open("rb") as handle:
        start = handle.read(4)
    if start == b"GGUF":
        from gpt2lab.checkpoints.formats.gguf_files import read_gguf

        return read_gguf
    if start == LLM_C_MAGIC.to_bytes(4, "little"):
        from gpt2lab.checkpoints.formats.llm_c import read_llm_c

        return read_llm_c
    if path.suffix in (".index", ".meta") or ".data-" in path.name:
        return _tensorflow()
    if path.suffix in (".safetensors", ".bin", ".json") and (path.parent / "config.json").exists():
        raise BadInput(f"{path}: a part of a model; name its folder, {path.parent}.")
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        from gpt2lab.checkpoints.formats.nanogpt import read_nanogpt

        return read_nanogpt
    raise BadInput(
        f"{path}: no model in a format known here (Hugging Face, TensorFlow, nanoGPT .pt, llm.c .bin, .gguf)."
    )


def _tensorflow() -> Callable[[Path], Checkpoint]:
    from gpt2lab.checkpoints.formats.tensorflow_checkpoint import read_tensorflow

    return read_tensorflow


def _with_tokenizer(checkpoint: Checkpoint) -> Checkpoint:
    """GPT-2's own tokenizer for a source that has none, where the size of its vocabulary is GPT-2's."""
    if checkpoint.tokenizer is not None or checkpoint.config.vocab_size not in _GPT2_VOCABULARIES:
        return checkpoint
    return checkpoint.noted(
        f"It has no tokenizer; GPT-2's was taken, as its vocabulary is {checkpoint.config.vocab_size:,} ids.",
        tokenizer=gpt2_tokenizer(),
    )
