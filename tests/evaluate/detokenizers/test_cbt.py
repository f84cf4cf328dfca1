import pytest

from gpt2lab.evaluate.detokenizers.cbt import detokenize_cbt


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("`` I ca n't , '' said the XXXXX 's cook .", "\"I can't,\" said the XXXXX's cook."),
        ("` Who is it ? ' asked the boys ' aunt .", "'Who is it?' asked the boys' aunt."),
        ("He -LRB- the tailor -RRB- gave $ 5 , or 10 % : no more !", "He (the tailor) gave $5, or 10%: no more!"),
        ('" Come in , " said he , " at once . "', '"Come in," said he, "at once."'),
        ("'T is late ; I 'm gon na go , I can not stay", "'Tis late; I'm gonna go, I cannot stay"),
        ("-lrb- ` XXXXX ' -rrb- .\nNext line .", "('XXXXX').\nNext line."),
        ("", ""),
    ],
)
def test_full_rules_make_ordinary_text(tokens, text):
    assert detokenize_cbt(tokens, "full") == text


def test_full_rules_leave_ordinary_text_alone():
    text = "She said, \"It's the boys' (red) ball, isn't it?\" and ran."
    assert detokenize_cbt(text, "full") == text


def test_lm_evals_rules_are_kept_with_their_defects():
    tokens = "`` Do n't , '' said he -LRB- ` no ' -RRB- ."
    assert detokenize_cbt(tokens, "lm-eval") == "\"Don't,\" said he -LRB- ` no' -RRB-."
    assert detokenize_cbt(tokens, "none") == tokens
