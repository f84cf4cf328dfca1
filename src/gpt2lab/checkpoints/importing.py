"""`import`: a model folder of a GPT-2 that comes from elsewhere."""

from dataclasses import dataclass, replace
from pathlib import Path

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.formats.hugging_face import write_hugging_face
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.provenance import check_replaceable, describe_making
from gpt2lab.checkpoints.weights import FloatType, only_finite, without_padding
from gpt2lab.tokens.tokenizer_files import find_tokenizer

MADE_BY = "gpt2lab import"
_MOST_PADDING = 1024  # rows; vocabularies are padded to a multiple of 64 or 128 times up to 8 processors


@dataclass(frozen=True)
class Imported:
    """What `import` made: where, of which format, how many numbers, and what had to be done to them."""

    model: str
    format: str
    parameters: int
    notes: tuple[str, ...]


def import_model(
    source: str | Path,
    out: Path,
    *,
    revision: str | None = None,
    tokenizer: str | None = None,
    dtype: FloatType | None = None,
    keep_padding: bool = False,
) -> Imported:
    """Make a model folder of a foreign model, whole or not at all; the source stays as it is.

    `tokenizer` (gpt2, a folder or a file) replaces the source's. Weights keep their type unless `dtype` is given;
    quantized ones become float32. Rows of the vocabulary without a token are left out unless `keep_padding`. Every
    number is read once on the way: raises BadInput for weights that are not finite, and for what `open_model` does.
    """
    check_replaceable(out, MADE_BY)
    found = open_model(source, revision)
    if tokenizer is not None:
        chosen = find_tokenizer(tokenizer)
        if chosen.vocab_size > found.config.vocab_size:
            raise BadOption(
                f"--tokenizer {tokenizer}: has {chosen.vocab_size:,} ids, the model's vocabulary only"
                f" {found.config.vocab_size:,}."
            )
        found = replace(found, tokenizer=chosen)
    rows, ids = found.config.vocab_size, found.required_tokenizer().vocab_size
    if rows - ids >= _MOST_PADDING and not keep_padding:
        raise BadInput(
            f"{source}: its vocabulary has {rows:,} rows, its tokenizer {ids:,} ids; that is no padding. Give its own"
            " with --tokenizer, or keep the rows with --keep-padding."
        )
    if not keep_padding:
        found = without_padding(found)
    if dtype is not None:
        found = found.of_type(dtype)
    provenance = describe_making(MADE_BY, source, found)
    write_hugging_face(out, only_finite(found), provenance=provenance)
    return Imported(str(out), found.format, found.parameters, found.notes)
