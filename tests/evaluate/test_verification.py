"""Verification against records that transformers made of small models, in the formats of the real ones."""

import copy
import dataclasses
import gzip
import json

import numpy as np
import pytest
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.evaluate.oracles import find_oracles, read_logits, read_ranks
from gpt2lab.evaluate.verification import verification_text, verify_model, weight_precision
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import gpt2_tokenizer

PROMPTS = (
    "The cat in the garden",
    "Nobody sees the heron",
    "The badger waits, and",
    "In the market",
    "A",
    "The otter hides",
)
TEXT = "The falcon in the library listens."


def talkative_network(vocab_size, seed=5, context_length=64):
    """Random weights of about the size of trained ones, so that logits spread as a real model's."""
    network = GPT2(GPT2Config(vocab_size=vocab_size, context_length=context_length, n_layer=3, n_head=4, n_embd=64))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=generator)
            elif parameter.ndim == 1:
                parameter.normal_(1, 0.2, generator=generator)
            else:
                parameter.normal_(0, 0.4 if name.startswith("w") else 0.15, generator=generator)
    return network


@pytest.fixture(scope="module")
def model(small_tokenizer):
    return LanguageModel(talkative_network(small_tokenizer.vocab_size), small_tokenizer)


@pytest.fixture(scope="module")
def recorded(model, tmp_path_factory):
    """A folder with both kinds of record of `model`, computed by transformers from its exported folder."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("recorded")
    save_model_folder(folder / "model", model.network, model.tokenizer, {})
    reference = GPT2LMHeadModel.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    with gzip.open(folder / "logits.jsonl.gz", "wt") as handle, torch.no_grad():
        for prompt in PROMPTS:
            ids = tokenizer(prompt)["input_ids"]
            logits = reference(torch.tensor([ids])).logits[0, -1].tolist()
            handle.write(json.dumps({"prompt": prompt, "token_ids": ids, "last_position_logits": logits}) + "\n")
    (folder / "ranks.json").write_text(json.dumps(gltr_record(reference, tokenizer, TEXT)))
    return folder


def gltr_record(reference, tokenizer, text, shown=20):
    """What GLTR's server of 2019 answers: an <|endoftext|> in front, ranks by sorting, five decimals."""
    ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]
    with torch.no_grad():
        probabilities = torch.softmax(reference(torch.tensor([ids])).logits[0, :-1], -1).numpy()
    order = np.argsort(-probabilities)
    rows = range(len(ids) - 1)
    return {
        "request": {"project": "new", "text": text},
        "result": {
            "bpe_strings": tokenizer.convert_ids_to_tokens(ids),
            "real_topk": [
                [int(np.where(order[n] == ids[n + 1])[0][0]), round(float(probabilities[n, ids[n + 1]]), 5)]
                for n in rows
            ],
            "pred_topk": [
                [
                    [tokenizer.convert_ids_to_tokens(int(i)), round(float(probabilities[n, i]), 5)]
                    for i in order[n, :shown]
                ]
                for n in rows
            ],
        },
    }


def changed(model, change, **config):
    """A copy of the model after `change` of its network."""
    network = GPT2(dataclasses.replace(model.network.config, **config))
    network.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        change(network)
    return LanguageModel(network, model.tokenizer)


def each_matrix(convert):
    def change(network):
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.copy_(convert(parameter))

    return change


def q8_0(weight):
    blocks = weight.reshape(-1, 32)
    step = (blocks.abs().amax(1, keepdim=True) / 127).half().float()
    return ((blocks / step).round() * step).reshape(weight.shape)


def swap_layers(network):
    network.h[0], network.h[1] = network.h[1], network.h[0]


def transpose_projection(network):
    network.h[1].attn.c_proj.weight.copy_(network.h[1].attn.c_proj.weight.T.clone())


def shift_positions(network):
    network.wpe.weight.copy_(network.wpe.weight.roll(-1, 0))


def test_a_model_is_the_same_as_transformers_recorded_it(model, recorded):
    found = verify_model(model, recorded)
    assert (found.grade, found.verified, found.precision) == ("the same model", True, "float32")
    logits, ranks = found.files
    assert (logits.kind, len(logits.prompts)) == ("logits", len(PROMPTS))
    for prompt in logits.prompts:
        assert prompt.largest < 1e-4
        assert (prompt.same_best, prompt.shared_top_10) == (True, 10)
        assert prompt.rank_correlation == pytest.approx(1, abs=1e-4)
        assert prompt.kl < 1e-9
    (text,) = ranks.texts
    assert (text.tokens, text.left_out) == (len(model.tokenizer.encode(TEXT)), 0)
    assert (text.same_rank, text.explained, text.shared_top_10) == (1, 1, 1)
    assert text.largest_difference < 1e-5
    assert text.kl < 1e-6
    told = verification_text(found)
    assert "\nVerified: the same model. The largest difference" in told
    assert max(map(len, told.splitlines())) <= 100
    json.dumps(dataclasses.asdict(found), allow_nan=False)


@pytest.mark.parametrize(
    ("precision", "convert"), [("float16", torch.Tensor.half), ("bfloat16", torch.Tensor.bfloat16), ("q8_0", q8_0)]
)
def test_weights_in_lower_precision_are_told_from_the_same_and_from_others(model, recorded, precision, convert):
    found = verify_model(changed(model, each_matrix(convert)), recorded)
    assert (found.grade, found.verified) == ("the same model in lower precision", True)
    assert found.precision == precision
    assert [file.grade for file in found.files] == [found.grade] * 2


@pytest.mark.parametrize("change", [swap_layers, transpose_projection, shift_positions])
def test_a_fault_in_the_layers_makes_another_model(model, recorded, change):
    found = verify_model(changed(model, change), recorded)
    assert (found.grade, found.verified) == ("another model", False)
    assert [file.grade for file in found.files] == [found.grade] * 2


def test_another_seed_is_another_model(model, recorded):
    found = verify_model(
        LanguageModel(talkative_network(model.tokenizer.vocab_size, seed=6), model.tokenizer), recorded
    )
    assert (found.grade, found.verified) == ("another model", False)
    assert "Not verified: another model." in verification_text(found)


def test_a_small_fault_in_full_precision_is_never_verified(model, recorded):
    found = verify_model(changed(model, lambda network: network.h[2].mlp.c_proj.bias.mul_(1.02)), recorded)
    assert (found.grade, found.verified) == ("close, but not the same", False)
    assert "full float32 numbers" in found.reason


def test_a_small_fault_in_a_half_precision_model_is_more_than_its_precision_explains(model, recorded):
    def change(network):
        each_matrix(torch.Tensor.half)(network)
        network.h[2].mlp.c_proj.bias.mul_(1.3)

    found = verify_model(changed(model, change), recorded)
    assert (found.grade, found.verified) == ("close, but not the same", False)
    assert "more than its float16 weights explain" in found.reason


def test_the_wrong_gelu_is_named(model, recorded):
    found = verify_model(changed(model, lambda _: None, activation_function="gelu"), recorded)
    assert (found.grade, found.verified) == ("close, but not the same", False)
    assert "activation_function should be gelu_new, not gelu" in found.reason


def test_logits_recorded_with_the_exact_gelu_verify_a_model_with_the_tanh(model, recorded, tmp_path):
    """The real model's recorded logits come from a network with the exact GELU."""
    from transformers import GPT2LMHeadModel

    reference = GPT2LMHeadModel.from_pretrained(recorded / "model", activation_function="gelu").eval()
    ids = model.tokenizer.encode(PROMPTS[0])
    with torch.no_grad():
        logits = reference(torch.tensor([ids])).logits[0, -1].tolist()
    record = tmp_path / "exact.jsonl"
    record.write_text(json.dumps({"prompt": PROMPTS[0], "token_ids": ids, "last_position_logits": logits}))
    found = verify_model(model, record)
    assert (found.grade, found.verified) == ("the same model", True)
    assert found.files[0].exact_gelu
    assert "exact GELU" in found.reason


def test_rows_of_padding_do_not_count(model, recorded):
    padded = GPT2(dataclasses.replace(model.network.config, vocab_size=model.tokenizer.vocab_size + 7))
    weights = model.network.state_dict()
    weights["wte.weight"] = torch.cat([weights["wte.weight"], torch.full((7, 64), 9.0)])
    padded.load_state_dict(weights)
    assert verify_model(LanguageModel(padded, model.tokenizer), recorded).grade == "the same model"


def test_what_lies_beyond_a_shorter_context_is_left_out(model, recorded):
    weights = model.network.state_dict()
    weights["wpe.weight"] = weights["wpe.weight"][:5]
    network = GPT2(dataclasses.replace(model.network.config, context_length=5))
    network.load_state_dict(weights)
    found = verify_model(LanguageModel(network, model.tokenizer), recorded)
    assert found.grade == "the same model"
    logits, ranks = found.files
    assert 0 < len(logits.prompts) < len(PROMPTS)
    assert len(logits.prompts) + logits.left_out == len(PROMPTS)
    assert ranks.texts[0].tokens == 5
    assert ranks.texts[0].left_out == len(model.tokenizer.encode(TEXT)) - 5
    assert "beyond the model's context left out" in verification_text(found)


def test_a_rounded_probability_says_no_more_than_its_digits(model, recorded, tmp_path):
    """Moving each record to the edge of what rounds to it changes nothing; moving it further does."""
    record = json.loads((recorded / "ranks.json").read_text())
    file = tmp_path / "ranks.json"

    def moved(by):
        changed_record = copy.deepcopy(record)
        for row in changed_record["result"]["pred_topk"]:
            for entry in row:
                entry[1] = max(0.0, entry[1] + by)
        file.write_text(json.dumps(changed_record))
        return verify_model(model, file)

    assert moved(0).grade == "the same model"
    far = moved(-1e-4)
    assert far.grade != "the same model"
    assert far.files[0].texts[0].explained < 0.5


def test_the_models_broken_logits_are_no_verdict(model, recorded):
    broken = changed(model, lambda network: network.ln_f.bias.fill_(float("nan")))
    with pytest.raises(BadInput, match="its weights are broken"):
        verify_model(broken, recorded)


def test_real_records_are_tokens_of_the_real_tokenizer(shared_data):
    tokenizer = gpt2_tokenizer()
    oracles = find_oracles(shared_data("weights/gpt2-124m-logit-oracles"))
    assert list(oracles.values()) == ["logits"]
    records = list(read_logits(next(iter(oracles)), tokenizer))
    assert [len(record.logits) for record in records] == [50_257] * 5
    assert tokenizer.decode([int(records[1].logits.argmax())]) == " way"
    texts = find_oracles(shared_data("detect/gltr-demo"))
    assert list(texts.values()) == ["ranks"] * 6
    assert sum(len(read_ranks(file, tokenizer).ranks) for file in texts) == 2_136


def lines_of(recorded):
    with gzip.open(recorded / "logits.jsonl.gz", "rt") as handle:
        return [json.loads(line) for line in handle]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: line["last_position_logits"].pop(), r"line 1 has 319 logits, .* has 320 ids"),
        (
            lambda line: line["last_position_logits"].__setitem__(3, float("nan")),
            "line 1 holds logits that are not finite",
        ),
        (lambda line: line["last_position_logits"].__setitem__(3, "much"), "line 1 is no recorded prompt"),
        (lambda line: line.pop("token_ids"), "line 1 is no recorded prompt"),
        (lambda line: line["token_ids"].reverse(), "line 1: its token_ids are not those .* another tokenizer"),
        (lambda line: line["token_ids"].__setitem__(0, float(line["token_ids"][0])), "line 1 is no recorded prompt"),
        (lambda line: line["token_ids"].clear(), "line 1 is no recorded prompt"),
    ],
)
def test_a_broken_record_of_logits_is_named(model, recorded, tmp_path, change, said):
    line = lines_of(recorded)[0]
    change(line)
    file = tmp_path / "logits.jsonl"
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(BadInput, match=said):
        verify_model(model, file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["result"]["real_topk"].pop(), "not GLTR's ranks"),
        (lambda record: record["result"]["pred_topk"][0].pop(), "not GLTR's ranks"),
        (lambda record: record["result"]["real_topk"].__setitem__(0, [0, 1.5]), "probabilities that are none"),
        (lambda record: record["result"]["real_topk"].__setitem__(0, [320, 0.5]), "ranks beyond the 320 ids"),
        (lambda record: record["result"]["bpe_strings"].__setitem__(1, "Zebra"), "the token 'Zebra'"),
        (lambda record: record["result"]["bpe_strings"].__setitem__(1, ["a"]), r"the token \['a'\]"),
        (lambda record: record["request"].__setitem__("text", "The otter"), "another tokenizer"),
        (lambda record: record.pop("request"), "not GLTR's ranks"),
    ],
)
def test_a_broken_record_of_ranks_is_named(model, recorded, tmp_path, change, said):
    record = json.loads((recorded / "ranks.json").read_text())
    change(record)
    file = tmp_path / "ranks.json"
    file.write_text(json.dumps(record))
    with pytest.raises(BadInput, match=said):
        verify_model(model, file)


def test_a_record_of_another_tokenizer_is_no_verdict(model, shared_data):
    with pytest.raises(BadInput, match=r"line 1: its token_ids .* another tokenizer"):
        verify_model(model, shared_data("weights/gpt2-124m-logit-oracles/transformer_explainer_logits.jsonl.gz"))
    with pytest.raises(BadInput, match="which the model's tokenizer has not"):
        verify_model(model, shared_data("detect/gltr-demo/woodchuck.json"))


def test_damaged_files_and_files_of_neither_kind_are_named(model, recorded, tmp_path):
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes((recorded / "logits.jsonl.gz").read_bytes()[:-2000])
    with pytest.raises(BadInput, match=r"cut.jsonl.gz: the compressed file is cut short"):
        verify_model(model, cut)
    torn = tmp_path / "torn.jsonl"
    torn.write_text("".join(json.dumps(line) + "\n" for line in lines_of(recorded))[:-500])
    with pytest.raises(BadInput, match=f"torn.jsonl: line {len(PROMPTS)} is not valid JSON"):
        verify_model(model, torn)
    neither = tmp_path / "neither.json"
    for text in ("{}", "[1, 2]", "hello", ""):
        neither.write_text(text)
        with pytest.raises(BadInput, match=r"neither.json: holds neither recorded logits .* nor GLTR's ranks"):
            verify_model(model, neither)
    with pytest.raises(BadInput, match="no such file or folder"):
        verify_model(model, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no file in this folder holds recorded logits"):
        verify_model(model, tmp_path / "empty")


def test_full_precision_is_not_taken_for_less(model):
    assert weight_precision(model.network) == "float32"
