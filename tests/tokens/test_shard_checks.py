"""Shards that are not the bytes that were written are found out."""

import pytest
from tests.tokens.raw_shards import write_raw_shards

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import sha256_of
from gpt2lab.tokens.shard_checks import check_shards


def test_a_changed_byte_is_found_and_named_with_both_hashes(tmp_path):
    info = write_raw_shards(tmp_path, [[1, 2, 3], [], [4, 5]])
    check_shards(tmp_path, info)
    shard = tmp_path / "train_00002.bin"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    found, wanted = sha256_of(shard)[:12], info.shards[2].sha256[:12]
    with pytest.raises(BadInput, match=rf"train_00002\.bin: its SHA-256 is {found}, tokens\.json says {wanted}"):
        check_shards(tmp_path, info)
