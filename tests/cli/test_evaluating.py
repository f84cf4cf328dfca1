"""The verb evaluate refuses options that would do nothing."""

from pathlib import Path

import pytest

from gpt2lab.base.errors import BadOption
from gpt2lab.cli.evaluating import evaluate_verb


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"documents": Path("build"), "limit": 5, "explain": True}, "--limit --explain: only with tasks"),
        ({"suite": "table3", "held_out_share": 0.1}, "--held-out-share: only with a folder of documents"),
        ({"suite": "table3", "predict": True, "explain": True}, "--predict and --explain"),
    ],
)
def test_options_that_would_do_nothing_are_named(options, named):
    with pytest.raises(BadOption, match=named):
        evaluate_verb()("no model is read", **options)
