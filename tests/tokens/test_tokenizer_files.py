"""Tokenizers on disk: every format gives the same ids to the tool it is for, and what is no tokenizer is refused."""

import base64
import json
import random

import gigatoken
import pytest
import tiktoken
import tiktoken.load
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.bpe import END_OF_TEXT, SPLIT_PATTERN, ByteLevelBPE, gpt2_tokenizer, parse_merges
from gpt2lab.tokens.tokenizer_files import added_tokens, load_tokenizer, read_tiktoken
from gpt2lab.tokens.train_bpe import train_bpe

OTHER_PATTERN = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.fixture(scope="module", params=[SPLIT_PATTERN, OTHER_PATTERN], ids=["gpt2", "other"])
def trained(request, sentences):
    return train_bpe([*sentences, *odd_texts(300)], 700, request.param)


def odd_texts(how_many: int) -> list[str]:
    """Made-up texts of scripts, symbols, white space and endings that tokenizers trip over."""
    chooser = random.Random(3)
    pieces = [
        *"aZ 09_'.,-\n\t\r\x00\x1b\x85\xa0\u2003\u3000éßÑЖلא中文日本한국क्षไทย🏳️👩‍👩‍👧1½²ⅷ",
        *(
            "  ",
            "\n\n",
            "\r\n",
            "'s",
            "'S",
            "'ll",
            "the",
            " otter",
            "12345",
            END_OF_TEXT,
            "<|",
            "|>",
            "e\u0301",
            "\ufeff",
        ),
    ]
    return ["".join(chooser.choices(pieces, k=chooser.randrange(1, 40))) for _ in range(how_many)]


def test_every_tool_gives_our_ids_from_its_own_file(trained, tmp_path, sentences):
    trained.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    texts = [text for text in [*sentences, *odd_texts(3000), ""] if END_OF_TEXT not in text]
    wanted = [trained.encode(text) for text in texts]
    fast = AutoTokenizer.from_pretrained(tmp_path)
    assert [fast(text)["input_ids"] for text in texts] == wanted
    assert (len(fast), fast.eos_token_id) == (trained.vocab_size, trained.end_of_text)
    assert [one.ids for one in Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode_batch(texts)] == wanted
    ranks = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "tokenizer.tiktoken"))
    special = {END_OF_TEXT: len(ranks)}
    theirs = tiktoken.Encoding("x", pat_str=trained.split_pattern, mergeable_ranks=ranks, special_tokens=special)
    assert theirs.encode_ordinary_batch(texts) == wanted
    assert theirs.encode(END_OF_TEXT, allowed_special="all") == [trained.end_of_text]
    if trained.split_pattern == SPLIT_PATTERN:
        giga = gigatoken.Tokenizer.from_tiktoken(tmp_path / "tokenizer.tiktoken", "gpt2", {})
        assert giga.encode_batch(texts).to_list() == wanted
    assert [trained.decode(ids) for ids in wanted] == texts


def test_every_tool_gives_our_ids_of_real_text(shared_data, tmp_path):
    text = shared_data("wikitext-2-raw/wiki.test.raw").read_text(encoding="utf-8")
    trained = train_bpe([text], 5000)
    trained.save(tmp_path)
    wanted = trained.encode(text)
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == wanted
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids == wanted
    ranks = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "tokenizer.tiktoken"))
    theirs = tiktoken.Encoding("x", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})
    assert theirs.encode_ordinary(text) == wanted


@pytest.mark.parametrize(
    "kept", [("merges.txt",), ("merges.txt", "vocab.json"), ("tokenizer.json",), ("tokenizer.tiktoken",), ()]
)
def test_a_folder_loads_from_whichever_formats_it_holds(trained, tmp_path, kept):
    trained.save(tmp_path)
    for file in tmp_path.iterdir():
        if kept and file.name not in kept:
            file.unlink()
    loaded = ByteLevelBPE.load(tmp_path)
    assert loaded.merges == trained.merges
    knows_pattern = not kept or "tokenizer.json" in kept
    assert loaded.split_pattern == (trained.split_pattern if knows_pattern else SPLIT_PATTERN)


def test_a_single_file_loads(trained, tmp_path):
    trained.save(tmp_path)
    assert ByteLevelBPE.load(tmp_path / "tokenizer.json").sha256 == trained.sha256
    assert ByteLevelBPE.load(tmp_path / "tokenizer.tiktoken").merges == trained.merges
    assert read_tiktoken(tmp_path / "tokenizer.tiktoken", trained.split_pattern).sha256 == trained.sha256


def test_gpt2s_own_names_and_merges_recovered_from_ranks(tmp_path):
    gpt2 = gpt2_tokenizer()
    gpt2.save(tmp_path)
    assert ByteLevelBPE.load(tmp_path / "tokenizer.tiktoken").sha256 == gpt2.sha256
    assert ByteLevelBPE.load(tmp_path / "tokenizer.json").sha256 == gpt2.sha256
    (tmp_path / "old").mkdir()
    (tmp_path / "merges.txt").rename(tmp_path / "old" / "vocab.bpe")
    (tmp_path / "vocab.json").rename(tmp_path / "old" / "encoder.json")
    assert ByteLevelBPE.load(tmp_path / "old").sha256 == gpt2.sha256


def test_a_split_pattern_from_llama_style_files_is_read(trained, tmp_path):
    """Others write the split with its matches removed and inverted, which is the same cut."""
    trained.save(tmp_path)
    found = json.loads((tmp_path / "tokenizer.json").read_text())
    split = {
        "type": "Split",
        "pattern": {"Regex": OTHER_PATTERN},
        "behavior": "Removed",
        "invert": True,
    }
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    found["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, bytes_only]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(found))
    assert ByteLevelBPE.load(tmp_path / "tokenizer.json").split_pattern == OTHER_PATTERN


def test_a_merge_list_that_does_not_build_up_is_refused_by_name(tmp_path):
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nxy z\n")
    with pytest.raises(BadInput, match=r"merges\.txt: merge 2"):
        ByteLevelBPE.load(tmp_path)
    assert parse_merges("#version: 0.2\na b\n") == ["a b"]


def test_a_vocabulary_that_disagrees_with_the_merges_is_refused(tmp_path, small_tokenizer):
    small_tokenizer.save(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(BadInput, match=r"vocab\.json"):
        ByteLevelBPE.load(tmp_path)


def test_formats_that_disagree_are_refused(tmp_path, small_tokenizer, trained):
    trained.save(tmp_path)
    (tmp_path / "merges.txt").write_text(small_tokenizer.merges_text())
    with pytest.raises(BadInput, match=r"tokenizer\.json: holds other merges than merges\.txt"):
        ByteLevelBPE.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "not a byte-level BPE"),
        ({"normalizer": {"type": "NFC"}}, "without a normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "neither GPT-2's nor a split by one pattern"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}}, "neither GPT-2's"),
        ({"added_tokens": [{"content": "<|im_start|>"}, {"content": END_OF_TEXT}]}, r"beside <\|endoftext\|> \(<\|im"),
        ({"model": 3}, "not a tokenizer.json"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(tmp_path, small_tokenizer, change, words):
    small_tokenizer.save(tmp_path)
    found = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(found | change))
    with pytest.raises(BadInput, match=words):
        ByteLevelBPE.load(tmp_path / "tokenizer.json")


def with_added(folder, tokenizer, *tokens):
    """The folder after `tokenizer.add_tokens` and `save_pretrained` of transformers."""
    tokenizer.save(folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.add_special_tokens({"pad_token": tokens[0]})
    theirs.add_tokens(list(tokens[1:]))
    for file in folder.iterdir():
        file.unlink()
    theirs.save_pretrained(folder)
    return theirs


def test_added_tokens_are_refused_or_left_out_and_named(trained, tmp_path, sentences):
    theirs = with_added(tmp_path, trained, "[PAD]", "<|user|>")
    assert len(theirs) == trained.vocab_size + 2
    with pytest.raises(BadInput, match=r"\[PAD\], <\|user\|>"):
        ByteLevelBPE.load(tmp_path)
    tokenizer = load_tokenizer(tmp_path, without_added=True)
    assert tokenizer.sha256 == trained.sha256
    assert tokenizer.encode(sentences[0]) == theirs(sentences[0])["input_ids"]
    assert added_tokens(tmp_path) == ["[PAD]", "<|user|>"]


def test_added_tokens_of_older_folders_are_named(trained, tmp_path):
    trained.save(tmp_path)
    assert added_tokens(tmp_path) == []
    (tmp_path / "tokenizer.json").unlink()
    assert added_tokens(tmp_path) == []
    (tmp_path / "added_tokens.json").write_text('{"[PAD]": 700, "<|endoftext|>": 699}')
    assert added_tokens(tmp_path) == ["[PAD]"]
    (tmp_path / "added_tokens.json").write_text("3")
    with pytest.raises(BadInput, match=r"added_tokens\.json is not of Hugging Face"):
        added_tokens(tmp_path)


@pytest.mark.parametrize("added", [{"[PAD]": 319, END_OF_TEXT: 320}, {"[PAD]": 319}, {END_OF_TEXT: 321}])
def test_an_added_token_in_the_place_of_end_of_text_is_refused(tmp_path, small_tokenizer, added):
    small_tokenizer.save(tmp_path)
    found = json.loads((tmp_path / "tokenizer.json").read_text())
    del found["model"]["vocab"][END_OF_TEXT]
    found["added_tokens"] = [{"content": token, "id": number} for token, number in added.items()]
    (tmp_path / "tokenizer.json").write_text(json.dumps(found))
    with pytest.raises(BadInput, match="its ids are not GPT-2's"):
        load_tokenizer(tmp_path / "tokenizer.json", without_added=True)


def test_ids_in_another_order_are_refused(tmp_path, small_tokenizer):
    small_tokenizer.save(tmp_path)
    found = json.loads((tmp_path / "tokenizer.json").read_text())
    found["model"]["vocab"]["a"], found["model"]["vocab"]["b"] = found["model"]["vocab"]["b"], 0
    (tmp_path / "tokenizer.json").write_text(json.dumps(found))
    with pytest.raises(BadInput, match="its ids are not GPT-2's"):
        ByteLevelBPE.load(tmp_path / "tokenizer.json")


def _line(token: bytes, rank: object) -> str:
    return f"{base64.b64encode(token).decode()} {rank}\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "first 256 tokens are not the single bytes"),
        ("".join(_line(bytes([byte]), byte) for byte in range(256)), "not the single bytes in GPT-2's order"),
        ("GPT2" + _line(b"xyz", 256), "token 256 .* is not two earlier ones joined"),
        ("GPT2" + _line(b"ab", 300), "line 257 has rank 300"),
        ("GPT2!!! 256\n", "line 257 is not a token"),
        ("GPT2" + _line(b"ab", "x"), "line 257 is not a token"),
    ],
)
def test_a_tiktoken_file_that_cannot_be_is_refused(tmp_path, lines, words):
    bytes_in_order = "".join(_line(token, rank) for rank, token in enumerate(gpt2_tokenizer().token_bytes[:256]))
    file = tmp_path / "odd.tiktoken"
    file.write_text(lines.replace("GPT2", bytes_in_order))
    with pytest.raises(BadInput, match=words):
        ByteLevelBPE.load(file)


def test_a_folder_without_a_tokenizer_is_said(tmp_path):
    with pytest.raises(BadInput, match="no tokenizer here"):
        ByteLevelBPE.load(tmp_path)
