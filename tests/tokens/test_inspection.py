"""Statistics of shards, and what stands at a position."""

import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.documents import read_documents
from gpt2lab.tokens.bpe import gpt2_tokenizer
from gpt2lab.tokens.inspection import inspect_tokens, tokens_at
from gpt2lab.tokens.shards import is_held_out
from gpt2lab.tokens.stream import TokenStream


def test_statistics_are_those_of_the_documents(tokens_folder, documents_folder, small_tokenizer):
    found = inspect_tokens(tokens_folder)
    for split, held_out in zip(found.splits, (False, True), strict=True):
        texts = [each.text for each in read_documents(documents_folder) if is_held_out(each.text, 0.2) is held_out]
        lengths = [len(small_tokenizer.encode(text)) for text in texts]
        assert split.documents == len(texts)
        assert split.text_bytes == sum(len(text.encode()) for text in texts)
        assert split.bytes_a_token == pytest.approx(split.text_bytes / sum(lengths))
        assert split.longest_document == max(lengths)
        assert sum(count for *_, count in split.commonest) <= split.tokens == sum(lengths) + len(texts)
    assert sum(source.tokens for source in found.sources.values()) == sum(split.tokens for split in found.splits)


def test_every_position_names_its_document(tokens_folder, documents_folder):
    texts = {each.id: each.text for each in read_documents(documents_folder)}
    stream = TokenStream(tokens_folder, "train")
    for position in (0, 1, len(stream) // 2, len(stream) - 1):
        place = tokens_at(tokens_folder, "train", position, 8)
        assert list(place.ids) == stream.read(position, 8).tolist()
        assert place.text.split("<|endoftext|>")[0] in texts[place.document]
        assert stream.read(place.document_start, 1)[0] == stream.info.end_of_text


def test_a_position_that_is_not_there_is_refused(tokens_folder):
    with pytest.raises(BadOption, match="counted from 0"):
        tokens_at(tokens_folder, "val", 10**9, 8)
    with pytest.raises(BadOption, match="--count 0"):
        tokens_at(tokens_folder, "val", 0, 0)


def test_another_tokenizer_in_the_folder_is_refused_with_both_hashes(tokens_folder, small_tokenizer, tmp_path):
    import shutil

    folder = shutil.copytree(tokens_folder, tmp_path / "tokens")
    gpt2_tokenizer().save(folder)
    with pytest.raises(BadInput, match=f"{small_tokenizer.sha256[:12]}, not {gpt2_tokenizer().sha256[:12]}"):
        inspect_tokens(folder)
