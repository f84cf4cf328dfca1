"""What a run is trained on: what it needs of any data, and what a recipe's `data` makes of folders of tokens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.progress import say
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.connor_windows import LONG_MINIMUM_LENGTH, LONG_SHARE, LONG_STITCH, ConnorWindows
from gpt2lab.tokens.loader import Loader, Source
from gpt2lab.tokens.mixture import apportioned
from gpt2lab.tokens.sequences import Batch, Sequences, validation_batches, with_document_numbers
from gpt2lab.tokens.shard_checks import check_shards
from gpt2lab.tokens.shards import TokensInfo, check_same_tokenizer, read_tokens_info
from gpt2lab.tokens.stream import TokenStream
from gpt2lab.train.recipe import Recipe


class RunData(Protocol):
    """What a run has to know of its data."""

    kind: str
    """what a run that is taken up again calls them where they have changed: the tokens, the text"""
    tokenizer: ByteLevelBPE
    sequence_length: int
    restart_positions: bool
    """see `GPT2.restart_positions`"""

    def batch(self, step: int) -> Batch:
        """Training sequences of a step counted from 0, a function of the seed and the step."""

    @property
    def sequences_a_step(self) -> int:
        """Rows of each batch."""

    def held_out(self) -> list[Batch]:
        """The sequences to validate on."""

    def counts(self) -> npt.NDArray[np.int64]:
        """How often each id occurs in the training tokens: int64 [vocab_size]."""

    def check(self) -> None:
        """Look for damage, once, when a run begins or is taken up; raises BadInput."""

    def hashes(self) -> list[Any]:
        """What tells these data from others, as JSON: run.json's `shards`."""

    def described(self) -> list[dict[str, Any]]:
        """What run.json says of them: their `tokens`."""

    def provenance(self) -> dict[str, Any]:
        """What the model folder says of them."""


@dataclass(frozen=True)
class TokenFolder:
    """A folder of token shards and its share of the training sequences."""

    path: Path
    info: TokensInfo
    weight: float


class FoldersData:
    """Folders of token shards as a recipe reads them. Raises as `training_loader` does, at the first batch."""

    kind = "the tokens"
    restart_positions = False

    def __init__(self, recipe: Recipe, folders: Sequence[TokenFolder], tokenizer: ByteLevelBPE) -> None:
        self.recipe, self.folders, self.tokenizer = recipe, folders, tokenizer
        self.sequence_length = recipe.model.context_length
        self.sequences_a_step = recipe.batch.sequences * recipe.batch.accumulation

    @cached_property
    def _loader(self) -> Loader:
        return training_loader(self.recipe, self.folders)

    def batch(self, step: int) -> Batch:
        """The sequences of a step."""
        return self._masked(self._loader.batch(step))

    def held_out(self) -> list[Batch]:
        """Sequences from each folder by its weight."""
        return [self._masked(batch) for batch in held_out_batches(self.recipe, self.folders)]

    def _masked(self, batch: Batch) -> Batch:
        return with_document_numbers(batch, self.tokenizer.end_of_text) if self.recipe.data.document_mask else batch

    def counts(self) -> npt.NDArray[np.int64]:
        """Of the mixture; reads all training tokens once."""
        return training_counts(self.folders)

    def check(self) -> None:
        """Compare every shard with its SHA-256, see that there is enough to train on, and say what is mixed."""
        _ = self._loader
        check_token_folders(self.folders)
        if len(self.folders) > 1:
            say("mixture: " + ", ".join(f"{folder.weight:.1%} {folder.path}" for folder in self.folders))

    def hashes(self) -> list[Any]:
        """The SHA-256 of each folder's shards."""
        return [[shard.sha256 for shard in folder.info.shards] for folder in self.folders]

    def described(self) -> list[dict[str, Any]]:
        """Each folder, its weight and size."""
        return [
            {
                "folder": str(folder.path),
                "weight": folder.weight,
                "train_tokens": folder.info.total("train"),
                "held_out_share": folder.info.held_out_share,
            }
            for folder in self.folders
        ]

    def provenance(self) -> dict[str, Any]:
        """The same with every shard."""
        return {
            "train_tokens_available": sum(folder.info.total("train") for folder in self.folders),
            "tokens": [
                described | {"shards": [asdict(shard) for shard in folder.info.shards]}
                for described, folder in zip(self.described(), self.folders, strict=True)
            ],
        }


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
