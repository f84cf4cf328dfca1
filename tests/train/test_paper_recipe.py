"""The recipe of the paper is what its words say: a plain loop over transformers gives the same losses."""

import math
from dataclasses import replace

import torch
from tests.conftest import read_json_lines
from transformers import GPT2Config as ReferenceConfig
from transformers import GPT2LMHeadModel

import gpt2lab
from gpt2lab.checkpoints.config_file import config_to_json
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.data import open_token_folders, training_loader
from gpt2lab.train.recipe import BatchConfig, ScheduleConfig, WatchConfig
from gpt2lab.train.recipes import paper

STEPS = 100


def test_the_first_hundred_losses_are_those_of_a_plain_loop_over_transformers(tokens_folder, small_tokenizer, tmp_path):
    whole = paper("117M", small_tokenizer.vocab_size)
    recipe = replace(
        whole,
        model=replace(whole.model, context_length=32, n_layer=2, n_head=2, n_embd=32),
        batch=BatchConfig(sequences=4, accumulation=2),
        schedule=ScheduleConfig(warmup_steps=10),
        watch=WatchConfig(validate_every=1000, validation_sequences=4, checkpoint_every=1000),
        steps=STEPS,
    )
    gpt2lab.train(recipe, tokens_folder, tmp_path / "run")
    ours = [line["loss"] for line in read_json_lines(tmp_path / "run/metrics.jsonl") if "loss" in line]

    network = GPT2(recipe.model)
    network.initialize(torch.Generator().manual_seed(recipe.seed))
    save_model_folder(tmp_path / "start", network, small_tokenizer, {})
    reference = GPT2LMHeadModel.from_pretrained(
        tmp_path / "start", config=ReferenceConfig(**config_to_json(recipe.model, 0))
    ).train()
    groups = [
        {"params": [p for p in reference.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in reference.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    folders, _ = open_token_folders([tokens_folder], recipe)
    loader = training_loader(recipe, folders)
    for step, our_loss in enumerate(ours):
        inputs, targets = map(torch.from_numpy, loader.batch(step))
        share = (step + 1) / 11 if step < 10 else 0.1 + 0.45 * (1 + math.cos(math.pi * (step - 10) / (STEPS - 10)))
        for group in optimizer.param_groups:
            group["lr"] = 2.5e-4 * share
        loss = torch.nn.functional.cross_entropy(
            reference(inputs).logits.flatten(0, 1), targets.flatten(), ignore_index=-100
        )
        assert abs(float(loss.detach()) - our_loss) < 1e-3, step
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step()
    assert len(ours) == STEPS
    assert ours[-1] < ours[0] - 0.1
