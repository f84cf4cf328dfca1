"""What a recipe's `data` makes of folders of tokens: the training batches and the held-out ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.connor_windows import LONG_MINIMUM_LENGTH, LONG_SHARE, LONG_STITCH, ConnorWindows
from gpt2lab.tokens.loader import Loader, Source
from gpt2lab.tokens.mixture import apportioned
from gpt2lab.tokens.sequences import Batch, Sequences, validation_batches
from gpt2lab.tokens.shard_checks import check_shards
from gpt2lab.tokens.shards import TokensInfo, check_same_tokenizer, read_tokens_info
from gpt2lab.tokens.stream import TokenStream
from gpt2lab.train.recipe import Recipe


@dataclass(frozen=True)
class TokenFolder:
    """A folder of token shards and its share of the training sequences."""

    path: Path
    info: TokensInfo
    weight: float


def open_token_folders(paths: Sequence[Path], recipe: Recipe) -> tuple[list[TokenFolder], ByteLevelBPE]:
    """The folders with their weights (which add up to 1), and the tokenizer that all of them were made with.

    Raises BadInput for unusable shards and for folders of different tokenizers, BadOption for weights that are not one
    a folder, or a vocabulary larger than the model's.
    """
    if not paths:
        raise BadOption("no folder of tokens given; gpt2lab tokenize makes one.")
    infos = [read_tokens_info(path) for path in paths]
    tokenizer = ByteLevelBPE.load(paths[0])
    for path, info in zip(paths, infos, strict=True):
        check_same_tokenizer(info, tokenizer, path)
        if info.vocab_size > recipe.model.vocab_size:
            raise BadOption(
                f"{path}: the tokens have {info.vocab_size:,} ids, the model's vocabulary only"
                f" {recipe.model.vocab_size:,}. Raise model.vocab_size to {info.vocab_size} or more."
            )
    weights = recipe.data.weights or tuple(float(info.total("train")) for info in infos)
    if len(weights) != len(paths):
        raise BadOption(f"data.weights: {len(weights)} weights for {len(paths)} folders of tokens; give one for each.")
    if not sum(weights):
        raise BadInput(f"{paths[0]}: no training tokens here. Tokenize with a smaller --held-out-share.")
    shares = [weight / sum(weights) for weight in weights]
    folders = [TokenFolder(path, info, share) for path, info, share in zip(paths, infos, shares, strict=True)]
    return folders, tokenizer


def check_token_folders(folders: Sequence[TokenFolder]) -> None:
    """Compare every shard with its SHA-256; raises BadInput for the first that differs."""
    for folder in folders:
        check_shards(folder.path, folder.info)


def training_loader(recipe: Recipe, folders: Sequence[TokenFolder]) -> Loader:
    """The batches of the recipe's steps. Raises BadInput for too little text, BadOption for unusable weights."""
    sources: list[Source] = []
    weights: list[float] = []
    for folder in folders:
        stream, context_length = TokenStream(folder.path, "train", folder.info), recipe.model.context_length
        if recipe.data.sampling == "each_once":
            sources.append(Sequences(stream, context_length))
            weights.append(folder.weight)
        elif recipe.data.sampling == "connor":
            sources.append(ConnorWindows(stream, context_length))
            weights.append(folder.weight)
        elif recipe.data.sampling == "connor_long":
            sources.append(ConnorWindows(stream, context_length, LONG_STITCH, LONG_MINIMUM_LENGTH))
            weights.append(folder.weight)
        else:
            sources.append(ConnorWindows(stream, context_length))
            sources.append(ConnorWindows(stream, context_length, LONG_STITCH, LONG_MINIMUM_LENGTH))
            weights += [folder.weight * (1 - LONG_SHARE), folder.weight * LONG_SHARE]
    return Loader(sources, recipe.batch.sequences * recipe.batch.accumulation, recipe.seed, weights)


def held_out_batches(recipe: Recipe, folders: Sequence[TokenFolder]) -> list[Batch]:
    """`watch.validation_sequences` held-out sequences, from each folder by its weight but at least one.

    They are plain sequences whatever `data.sampling` is, so that the losses of different samplings can be compared.
    """
    counts = apportioned(recipe.watch.validation_sequences, [folder.weight for folder in folders])
    return [
        batch
        for folder, count in zip(folders, counts, strict=True)
        for batch in validation_batches(
            TokenStream(folder.path, "val", folder.info),
            recipe.model.context_length,
            recipe.batch.sequences,
            max(1, count),
        )
    ]


def training_counts(folders: Sequence[TokenFolder]) -> npt.NDArray[np.int64]:
    """How often each id occurs in the training tokens, those of each folder scaled to its weight: int64 [vocab_size].

    Reads all training tokens once.
    """
    total = sum(folder.info.total("train") for folder in folders)
    counts = [
        TokenStream(folder.path, "train", folder.info).counts() * (folder.weight * total / folder.info.total("train"))
        for folder in folders
    ]
    scaled: npt.NDArray[np.int64] = np.rint(np.sum(counts, axis=0)).astype(np.int64)
    return scaled
