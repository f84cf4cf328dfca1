import json
from pathlib import Path

import pytest
from tests.webtext.prose import prose

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.build import BuildOptions, build
from gpt2lab.webtext.page_stage import document_id
from gpt2lab.webtext.why import told, why


@pytest.fixture
def data(tmp_path) -> Path:
    """A build of a crawl: a good page, its near duplicate, a short one; the log has a link that failed."""
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    pages = {"good": prose(1) + " The end.", "twin": prose(1), "short": "Too short."}
    lines = [json.dumps({"text": text, "url": f"https://www.example.com/{name}?a=1"}) for name, text in pages.items()]
    (crawl / "pages.jsonl").write_text("\n".join(lines))
    failed = {"url": "http://www.example.com/gone", "error": "http_404"}
    (crawl / "fetch.jsonl").write_text(json.dumps(failed) + "\n{half a li")
    build([crawl], tmp_path / "data", BuildOptions(workers=1))
    return tmp_path / "data"


def test_a_document_that_stays_names_those_it_stands_for(data):
    (story,) = why(data, document_id("pages.jsonl", 0))
    assert story.kept
    assert [(one["reason"], one["url"]) for one in story.duplicates] == [
        ("near duplicate", "https://www.example.com/twin?a=1")
    ]
    assert "stands for   1 others" in told(story)


def test_a_page_is_found_by_its_url_in_any_spelling(data):
    for url in ("https://www.example.com/short?a=1", "HTTP://WWW.EXAMPLE.COM/short?a=1&utm_source=x#top"):
        (story,) = why(data, url)
        assert not story.kept
        assert story.record["reason"] == "too_short"
        assert "too_short = 10." in told(story)
        assert "128 ≤ x   <- broken" in told(story)


def test_a_near_duplicate_names_the_document_that_stays(data):
    (story,) = why(data, "https://www.example.com/twin?a=1")
    assert f"near duplicate of {document_id('pages.jsonl', 0)}, " in told(story)


def test_what_the_crawl_could_not_fetch_is_told_from_its_log(data):
    with pytest.raises(BadInput, match="the crawl could not fetch it: http_404"):
        why(data, "https://www.example.com/gone")
    with pytest.raises(BadInput, match="no page has the id or URL 'nothing'"):
        why(data, "nothing")


def test_a_folder_without_a_build_says_how_to_make_one(tmp_path):
    with pytest.raises(BadInput, match="no finished build"):
        why(tmp_path, "x")
