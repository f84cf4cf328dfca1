"""The demo's report as a person sees it: a real browser, light and dark, wide and narrow."""

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if executable is None and "CI" not in os.environ:
        pytest.skip("no chromium here")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "gpt2lab", "demo", "--out", str(out), "--minutes", "0.1", "--pages", "200"]
    subprocess.run(command, check=True, capture_output=True)
    return out / "report.html"


@pytest.mark.parametrize("width", [360, 900, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_reads_well_on_any_screen(browser, report, width, scheme, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    troubles, requests = [], []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert requests == [report.as_uri()], "a report asks for nothing beside itself"
    assert troubles == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").count() == 1
    assert page.locator("svg").count() >= 4
    for svg in page.locator("svg").all():
        assert svg.bounding_box()["width"] > 200
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    lightness = [sum(map(int, colour.partition("(")[2].rstrip(")").split(",")[:3])) / 765 for colour in (ink, paper)]
    assert (lightness[0] > lightness[1]) == (scheme == "dark")
    assert abs(lightness[0] - lightness[1]) > 0.6
    assert len(page.screenshot(full_page=True, path=tmp_path / "report.png")) > 20_000
    page.close()
