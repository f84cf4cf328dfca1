"""GGUF files come back as they were written, are what the package gguf expects; bad ones are refused by name."""

import resource
import signal
import struct
from dataclasses import replace

import gguf
import numpy as np
import pytest

from gpt2lab.base.errors import BadInput, NoSpace
from gpt2lab.checkpoints.formats.gguf_files import gguf_name, read_gguf, write_gguf
from gpt2lab.checkpoints.formats.hugging_face import read_hugging_face, write_hugging_face
from gpt2lab.checkpoints.formats.q8_0 import pack_q8_0, unpack_q8_0
from gpt2lab.checkpoints.torch_network import published_weights
from gpt2lab.checkpoints.weights import TRANSPOSED, Checkpoint, StoredTensor, published_shapes
from gpt2lab.model.config import GPT2Config
from gpt2lab.tokens.bpe import ByteLevelBPE

THEIR_TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "float16": gguf.GGMLQuantizationType.F16,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}


@pytest.fixture(scope="module")
def checkpoint(small_model, tmp_path_factory):
    model = small_model.network
    return Checkpoint(
        tmp_path_factory.mktemp("m") / "small",
        "network",
        model.config,
        published_weights(model),
        small_model.tokenizer,
        provenance={"made_by": "a test", "hub": "someone/small"},
    )


@pytest.fixture
def file(checkpoint, tmp_path):
    write_gguf(tmp_path / "small.gguf", checkpoint, "float32")
    return tmp_path / "small.gguf"


def random_checkpoint(config, tokenizer, where, seed=0):
    random = np.random.default_rng(seed)
    tensors = {
        name: StoredTensor.of(random.standard_normal(shape, dtype=np.float32))
        for name, shape in published_shapes(config).items()
    }
    return Checkpoint(where, "made", config, tensors, tokenizer)


def assert_same_numbers(one, other):
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor.read(), other.tensors[name].read(), err_msg=name)


def test_float32_goes_through_gguf_and_a_model_folder_without_loss(checkpoint, file, tmp_path):
    opened = read_gguf(file)
    assert (opened.format, opened.config, opened.notes) == ("gguf", checkpoint.config, ())
    assert opened.tokenizer.sha256 == checkpoint.tokenizer.sha256
    assert opened.provenance["name"] == "someone/small"
    assert opened.provenance["source.repo_url"] == "https://huggingface.co/someone/small"
    assert opened.provenance["source_provenance"] == checkpoint.provenance
    assert_same_numbers(opened, checkpoint)
    write_hugging_face(tmp_path / "folder", opened)
    write_gguf(tmp_path / "again.gguf", replace(read_hugging_face(tmp_path / "folder"), where=file), "float32")
    assert_same_numbers(read_gguf(tmp_path / "again.gguf"), checkpoint)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "q8_0"])
def test_a_file_of_any_type_written_again_has_the_same_bytes(checkpoint, dtype, tmp_path):
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    write_gguf(first, checkpoint, dtype)
    expanded = read_gguf(first)
    write_hugging_face(tmp_path / "folder", expanded)
    folder = read_hugging_face(tmp_path / "folder")
    assert expanded.tensors["wte.weight"].float_type == folder.tensors["wte.weight"].dtype
    write_gguf(second, replace(folder, where=checkpoint.where, provenance=checkpoint.provenance), dtype)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("dtype", THEIR_TYPES)
def test_the_gguf_package_reads_the_same_names_shapes_and_numbers(checkpoint, dtype, tmp_path):
    write_gguf(tmp_path / "small.gguf", checkpoint, dtype)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "small.gguf").tensors}
    assert theirs.keys() == {gguf_name(name) for name in checkpoint.tensors}
    for name, tensor in checkpoint.tensors.items():
        their = theirs[gguf_name(name)]
        values = tensor.read().T if name.endswith(TRANSPOSED) else tensor.read()
        vector = values.ndim == 1 or name == "wpe.weight"
        kind = THEIR_TYPES["float32" if vector else dtype]
        assert their.tensor_type == kind, name
        assert tuple(their.shape) == values.shape[::-1], name
        np.testing.assert_array_equal(
            np.asarray(their.data).view(np.uint8),
            gguf.quants.quantize(np.ascontiguousarray(values), kind).view(np.uint8),
        )


def test_rows_that_q8_0_cannot_divide_become_float16(small_tokenizer, tmp_path):
    config = GPT2Config(small_tokenizer.vocab_size, 8, n_layer=1, n_head=2, n_embd=24)
    made = random_checkpoint(config, small_tokenizer, tmp_path / "made")
    write_gguf(tmp_path / "made.gguf", made, "q8_0")
    types = {name: tensor.dtype for name, tensor in read_gguf(tmp_path / "made.gguf").tensors.items()}
    assert types["wte.weight"] == types["h.0.attn.c_attn.weight"] == "float16"
    assert types["h.0.mlp.c_proj.weight"] == "q8_0"  # its rows are 96 wide
    assert types["wpe.weight"] == types["ln_f.weight"] == "float32"


def test_an_untied_head_and_fillers_of_the_vocabulary_come_back(small_tokenizer, tmp_path):
    config = GPT2Config(384, 8, n_layer=1, n_head=2, n_embd=32, tie_word_embeddings=False, layer_norm_epsilon=3e-6)
    made = random_checkpoint(config, small_tokenizer, tmp_path / "made")
    write_gguf(tmp_path / "made.gguf", made, "float32")
    opened = read_gguf(tmp_path / "made.gguf")
    assert opened.config == config
    assert opened.tokenizer.vocab_size == 320
    assert_same_numbers(opened, made)
    fields = gguf.GGUFReader(tmp_path / "made.gguf").fields
    assert fields["tokenizer.ggml.tokens"].contents(slice(319, 322)) == ["<|endoftext|>", "[PAD320]", "[PAD321]"]


def test_a_head_that_repeats_the_embeddings_is_taken_as_tied(checkpoint, tmp_path):
    twice = replace(
        checkpoint,
        config=replace(checkpoint.config, tie_word_embeddings=False),
        tensors={**checkpoint.tensors, "lm_head.weight": checkpoint.tensors["wte.weight"]},
    )
    write_gguf(tmp_path / "twice.gguf", twice, "q8_0")
    opened = read_gguf(tmp_path / "twice.gguf")
    assert opened.config.tie_word_embeddings
    assert "lm_head.weight" not in opened.tensors
    assert "a second time" in opened.notes[0]


def test_nothing_is_read_before_it_is_asked_for(file):
    opened = read_gguf(file)
    array = opened.tensors["wte.weight"].read()
    assert array.base is not None
    array[0, 0] = 7  # a page of our own: the file stays as it is
    assert read_gguf(file).tensors["wte.weight"].read()[0, 0] != 7


def blocks_of_all_kinds():
    random = np.random.default_rng(1)
    blocks = random.standard_normal((3000, 32), dtype=np.float32) * 10.0 ** random.integers(-44, 6, (3000, 1))
    blocks = blocks.astype(np.float32)
    halves = np.arange(-127, 127, dtype=np.float32) + np.float32(0.5)
    near = np.concatenate([np.nextafter(halves, np.float32(-200)), halves, np.nextafter(halves, np.float32(200))])
    around = np.zeros((len(near), 32), np.float32)
    around[:, 0], around[:, 1] = 127, near  # a scale of exactly 1, so that halves stay halves
    return np.concatenate([blocks, around, np.zeros((2, 32), np.float32), np.full((1, 32), -5e-43, np.float32)])


def test_q8_0_has_the_bytes_of_the_gguf_package():
    blocks = blocks_of_all_kinds()
    with np.errstate(all="ignore"):  # theirs divides by zero
        theirs = gguf.quants.quantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    packed = pack_q8_0(blocks)
    assert packed.tobytes() == theirs.tobytes()
    unpacked = unpack_q8_0(packed, blocks.shape)
    np.testing.assert_array_equal(unpacked, gguf.quants.dequantize(theirs, gguf.GGMLQuantizationType.Q8_0))
    known = np.abs(blocks).max(axis=1) > 1e-4  # below, scales are too small for exact float16
    assert pack_q8_0(unpacked[known]).tobytes() == packed[known].tobytes()


@pytest.mark.parametrize(
    ("dtype", "number"), [("float32", np.nan), ("float16", 70_000), ("bfloat16", np.inf), ("q8_0", 1e9)]
)
def test_numbers_that_a_type_cannot_hold_are_named_and_nothing_is_written(checkpoint, dtype, number, tmp_path):
    spoilt = checkpoint.tensors["h.1.mlp.c_fc.weight"].read().copy()
    spoilt[63, 200] = number
    tensors = {**checkpoint.tensors, "h.1.mlp.c_fc.weight": StoredTensor.of(spoilt)}
    with pytest.raises(BadInput, match=r"h\.1\.mlp\.c_fc\.weight holds numbers that are not finite, or too large"):
        write_gguf(tmp_path / "spoilt.gguf", replace(checkpoint, tensors=tensors), dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_older_file(checkpoint, file):
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(NoSpace, match=r"small\.gguf"):
            write_gguf(file, checkpoint, "q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_what_llama_cpp_would_compute_otherwise_is_not_exported(checkpoint, small_tokenizer, tmp_path):
    exact = replace(checkpoint, config=replace(checkpoint.config, activation_function="gelu"))
    with pytest.raises(BadInput, match="the tanh approximation"):
        write_gguf(tmp_path / "x.gguf", exact, "float32")
    other = replace(checkpoint, tokenizer=ByteLevelBPE(small_tokenizer.merges, r"\s+|\S+"))
    with pytest.raises(BadInput, match="knows patterns only by name"):
        write_gguf(tmp_path / "x.gguf", other, "float32")
    with pytest.raises(BadInput, match="has no tokenizer"):
        write_gguf(tmp_path / "x.gguf", replace(checkpoint, tokenizer=None), "float32")


def written_by_the_package(path, *, change=lambda writer: None, tensors=None, architecture="gpt2", **numbers):
    """A file by the package gguf: a small GPT-2 without a tokenizer, but for what is changed."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in ({"block_count": 1, "context_length": 8, "embedding_length": 32} | numbers).items():
        writer.add_uint32(f"gpt2.{key}", value)
    writer.add_uint32("gpt2.attention.head_count", 2)
    writer.add_float32("gpt2.attention.layer_norm_epsilon", 1e-5)
    change(writer)
    shapes = published_shapes(GPT2Config(300, 8, n_layer=1, n_head=2, n_embd=32))
    made = {
        gguf_name(name): np.ones(shape[::-1] if name.endswith(TRANSPOSED) else shape, np.float32)
        for name, shape in shapes.items()
    }
    for name, array in (made | (tensors or {})).items():
        if array is not None:
            writer.add_tensor(name, *([array] if isinstance(array, np.ndarray) else array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("alignment", [1, 8, 64])
def test_a_file_without_a_tokenizer_opens_at_any_alignment(alignment, tmp_path):
    change = lambda writer: writer.add_custom_alignment(alignment)  # noqa: E731
    opened = read_gguf(written_by_the_package(tmp_path / "x.gguf", change=change))
    assert all((tensor.read() == 1).all() for tensor in opened.tensors.values())
    assert opened.tokenizer is None
    assert opened.config == GPT2Config(300, 8, n_layer=1, n_head=2, n_embd=32)


def tokens_of(tokenizer, *more):
    def change(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([*tokenizer.vocabulary(), *more])
        writer.add_token_types([1] * (tokenizer.vocab_size - 1) + [3] + [4] * len(more))
        writer.add_token_merges(tokenizer.merges)

    return change


def test_tokens_that_are_not_of_our_layout_are_refused(small_tokenizer, tmp_path):
    tokenizer = ByteLevelBPE(small_tokenizer.merges[:42])  # 299 ids
    path = tmp_path / "x.gguf"
    with pytest.raises(BadInput, match=r"tokens beside GPT-2's \('<chat>'\)"):
        read_gguf(written_by_the_package(path, change=tokens_of(tokenizer, "<chat>")))
    with pytest.raises(BadInput, match=r"its 299 tokens are not GPT-2's.*the 300 rows"):
        read_gguf(written_by_the_package(path, change=tokens_of(tokenizer)))
    smaller = ByteLevelBPE(small_tokenizer.merges[:43])
    opened = read_gguf(written_by_the_package(path, change=tokens_of(smaller)))
    assert opened.tokenizer.sha256 == smaller.sha256
    assert "GPT-2's way was taken" in opened.notes[0]

    def otherwise(writer):
        tokens_of(smaller)(writer)
        writer.add_tokenizer_pre("llama-bpe")

    with pytest.raises(BadInput, match="splits texts as 'llama-bpe' does"):
        read_gguf(written_by_the_package(path, change=otherwise))
    with pytest.raises(BadInput, match="of the kind 'llama'"):
        read_gguf(written_by_the_package(path, change=lambda writer: writer.add_tokenizer_model("llama")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "llama"}, "of the architecture 'llama'; only gpt2 is read"),
        ({"change": lambda w: w.add_uint16("split.count", 3)}, "one of the 3 files of a split model"),
        ({"tensors": {"blk.0.ffn_up.bias": None}}, r"1 tensor is missing, first of them h\.0\.mlp\.c_fc\.bias"),
        ({"tensors": {"blk.1.ffn_up.bias": np.ones(3, "f4")}}, r"of no GPT-2 .* first of them blk\.1\.ffn_up\.bias"),
        ({"tensors": {"blk.0.ffn_up.weight": np.ones((32, 128), "f4")}}, r"h\.0\.mlp\.c_fc\.weight has shape"),
        ({"tensors": {"token_embd.weight": None}}, r"no matrix token_embd\.weight"),
        (
            {"tensors": {"blk.0.ffn_up.weight": (np.zeros((128, 18), np.uint8), None, gguf.GGMLQuantizationType.Q4_0)}},
            r"blk\.0\.ffn_up\.weight is of type Q4_0",
        ),
        ({"block_count": 2**32 - 1}, "block_count is 4,294,967,295, but there are only 16 tensors"),
        ({"embedding_length": 33}, "can't be divided"),
        ({"context_length": 2**32 - 1}, r"wpe\.weight has shape \[8, 32\], which disagrees"),
        ({"change": lambda w: w.add_string("gpt2.vocab_size", "x") or w.kv_data[0].pop("gpt2.block_count")}, "is None"),
    ],
)
def test_files_that_are_no_gpt2_are_refused_by_name(changes, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        read_gguf(written_by_the_package(tmp_path / "x.gguf", **changes))


def text(value):
    return struct.pack("<Q", len(value)) + value


START = b"GGUF" + struct.pack("<I", 3)
GPT2 = text(b"general.architecture") + struct.pack("<I", 8) + text(b"gpt2")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "can't be read"),
        (b"GGUF", "0 are left"),
        (b"GGML" + bytes(50), "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "GGUF version 1;"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "a big-endian GGUF file"),
        (START + struct.pack("<QQ", 2**60, 0), "bytes are promised where 0 are left"),
        (START + struct.pack("<QQ", 0, 2**60), "bytes are promised where 0 are left"),
        (START + struct.pack("<QQQ", 0, 1, 2**62) + bytes(100), "bytes are promised where 100 are left"),
        (START + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<I", 77), "unknown type 77"),
        (START + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**62), "bytes are promised"),
        (START + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 4, 2**62), "bytes are promised"),
        (START + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 9, 2**62), "elements of the type 9"),
        (START + struct.pack("<QQ", 0, 2) + 2 * GPT2, "comes a second time"),
        (START + struct.pack("<QQ", 0, 1) + text(b"a\nb") + bytes(9), r"a name is 'a\\nb'"),
        (START + struct.pack("<QQ", 1, 1) + GPT2 + text(b"t") + struct.pack("<IQQ", 2**31, 0, 0), "dimensions"),
        (
            START + struct.pack("<QQ", 1, 1) + GPT2 + text(b"t") + struct.pack("<IQQIQ", 2, 2**60, 2**60, 0, 0),
            "cut short: t ends at byte 5,",
        ),
    ],
)
def test_damaged_and_lying_headers_give_one_line(data, words, tmp_path):
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(BadInput, match=words):
        read_gguf(tmp_path / "x.gguf")


def test_a_file_cut_anywhere_is_refused(file):
    data = file.read_bytes()
    for size in (*range(4, 24), *range(100, len(data) - 31, 9973), len(data) - 32):
        file.write_bytes(data[:size])
        with pytest.raises(BadInput, match=r"not a whole GGUF file|cut short"):
            read_gguf(file)
