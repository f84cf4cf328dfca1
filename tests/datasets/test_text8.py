import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets import text8
from gpt2lab.datasets.evaluation_sets import DataSource
from gpt2lab.datasets.text8 import letters_and_spaces, read_text8

PAGE = '<page>\n<title>Not text</title>\n<text xml:space="preserve">{}</text>\n</page>\n'


def filtered(text, piece=7):
    dump = PAGE.format(text).encode()
    return b"".join(letters_and_spaces(dump[n : n + piece] for n in range(0, len(dump), piece)))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Ann's 2 cats, 10 dogs", "ann s two cats one zero dogs"),
        ("An [[owl]] and an [[Eagle owl|eagle]]", "an owl and an eagle"),
        ("See [http://example.org/a b c]", "see b c"),
        ("{{Box|x}} in {|a table|} out", "in out"),
        ("[[Image:Owl.jpg|thumb|left|200px|An owl]]", "an owl"),
        ("[[Category:Birds|Owl]] [[de:Eulen]]", "birds"),
        ("a &amp;ndash; b &lt;br /&gt; c &quot;d&quot;", "a b c d"),
        ("a&lt;ref&gt;Book&lt;/ref&gt; b", "a b"),
        ("caf\xe9 \u732b na\xefve", "caf na ve"),
        ("#REDIRECT [[Owl]]", ""),
        ("one <b>two</b> three", "one two three"),
    ],
)
def test_only_letters_and_spaces_of_a_pages_visible_text_are_kept(text, kept):
    for piece in (1, 7, 10_000):
        assert filtered(text, piece).decode().split() == kept.split()
        assert b"  " not in filtered(text, piece)


def test_a_reference_is_removed_only_within_a_stretch_as_the_rule_has_it():
    """The patterns don't reach across a >: what would be one reference, if it did not hold a literal >, is kept."""
    assert filtered("a&lt;ref&gt;Book<b>bold&lt;/ref&gt; c").split() == [b"abook", b"bold", b"c"]


def test_what_is_no_dump_is_refused(monkeypatch):
    monkeypatch.setattr(text8, "_LONGEST_STRETCH", 100)
    with pytest.raises(BadInput, match="this is no dump of Wikipedia"):
        list(letters_and_spaces([b"x" * 200]))


def test_text8_is_made_of_enwik9_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2LAB_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "enwik9").write_text(PAGE.format("The owl sees 3 mice. " * 20))
    with pytest.raises(BadInput, match=r"enwik9: what is made of it is not text8 \(SHA-256 .*text8\.zip, or take it"):
        read_text8(DataSource(data))
    found = read_text8(DataSource(data, allow_changed=True))
    assert found.items == (" the owl sees three mice",)
    assert found.files[0].official is False
    (data / "text8").write_text("a bc " * 40)
    assert read_text8(DataSource(data, allow_changed=True)).items == ("a bc " * 2,)
    with pytest.raises(BadInput, match=r"data/text8: not the published file of text8"):
        read_text8(DataSource(data))


def test_enwik8_alone_is_not_taken_for_text8(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "enwik8").write_text("x")
    with pytest.raises(BadInput, match=r"text8: no text8 or text8\.zip below .*; get http://.*text8\.zip"):
        read_text8(DataSource(tmp_path))
