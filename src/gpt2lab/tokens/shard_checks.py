"""Whether the shards on disk are the ones that were written, byte for byte."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpt2lab.base.control_groups import usable_processors
from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import sha256_of
from gpt2lab.base.progress import progress_bar
from gpt2lab.tokens.shards import TokensInfo


def check_shards(folder: Path, info: TokensInfo) -> None:
    """Compare the SHA-256 of every shard with `tokens.json`; raises BadInput that names the first file that differs.

    A thread a core, for hashing lets other threads run: about 1.5 GB/s a core from the page cache.
    """
    shards = [shard for shard in info.shards if shard.tokens]
    total = sum(shard.tokens for shard in shards)
    with (
        progress_bar("check", total=total, unit="tokens") as bar,
        ThreadPoolExecutor(usable_processors()) as threads,
    ):
        hashes = threads.map(lambda shard: sha256_of(folder / shard.file), shards)
        for shard, found in zip(shards, hashes, strict=True):
            if found != shard.sha256:
                raise BadInput(
                    f"{folder / shard.file}: its SHA-256 is {found[:12]}, tokens.json says {shard.sha256[:12]}: the"
                    " file was changed or damaged. Run gpt2lab tokenize again with another --out."
                )
            bar.advance(shard.tokens)
