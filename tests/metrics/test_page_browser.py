"""The report page in a real browser: the case browser is used as a reader uses it, and nothing leaves the file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromium import missing, opened
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from rlaif.metrics.page.run_tables import read_rows
from rlaif.metrics.page.writing import write_page
from rlaif.records import HeldoutReport

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser"), pytest.mark.slow]

MINUS = "\N{MINUS SIGN}"
HOSTILE_ID = "h <&> \"7'/#"
HOSTILE = (
    "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'><!-- <script> {{ 7 * 7 }} "
    "{% raw %} \N{LINE SEPARATOR} <svg onload=window.broken=3> javascript:window.broken=4 ]]> A nodule & more."
)
# Characters that JavaScript counts as two each.
BEYOND = "\N{LUNGS}\N{BONE}\N{LUNGS} A nodule. \N{LUNGS} There is cardiomegaly."
# Light and dark, what stands on what: elements whose text must be read.
READ = "body, .soft, .small, .better, .worse, mark, button, input, select, .card .text, .key span, .role, #case-list a"
CONTRAST = """
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const text = getComputedStyle(one).backgroundColor;
    const colour = parse(text);
    if (text.startsWith("rgb") && (colour.length < 4 || colour[3] > 0.99)) return colour;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll(arguments[0])) {
  if (!element.checkVisibility() || element.disabled) continue;
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
}
return [...new Set(found)];
"""
PIXELS = "return document.getElementById('ct-canvas').toDataURL()"
# How many pixels of the slice are nearly black.
BLACK = """
const canvas = document.getElementById("ct-canvas");
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return data.filter((value, at) => at % 4 === 0 && value < 20).length;
"""
SIGNS = """
return Object.fromEntries(Array.from(document.querySelectorAll("#case-detail .card mark"),
  (one) => [one.className, one.querySelector(".sign").textContent]));
"""

# The words that a card marks, without their sign.
MARKED = """
return Array.from(document.querySelector(arguments[0]).querySelectorAll(".text mark"),
  (one) => one.childNodes[1].textContent);
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, run_builder: Callable[..., Path], row_writer: Any) -> Path:
    run = run_builder(tmp_path_factory.mktemp("browser") / "demo", cases=6)
    for folder in sorted((run / "heldout").iterdir()):
        rows = [HeldoutReport(**row) for row in read_rows(folder)]
        rows[5] = replace(rows[5], case_id=HOSTILE_ID, text=HOSTILE, reference=f"A nodule. {HOSTILE}")
        rows[4] = replace(rows[4], text=BEYOND, reference=BEYOND)
        rows[3] = replace(rows[3], reference=None, metrics={})
        row_writer(folder, HeldoutReport, rows)
    return write_page(run)


@pytest.fixture
def view(browser: Chrome, page: Path) -> Chrome:
    """The page, freshly opened, with its first case drawn."""
    for kind in ("performance", "browser"):
        browser.get_log(kind)
    opened(browser, page)
    return browser


def by_id(view: Chrome, name: str) -> Any:
    return view.find_element(By.ID, name)


def press(view: Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(view).send_keys(key).perform()


def listed(view: Chrome) -> list[str]:
    return [one.get_attribute("data-case") for one in view.find_elements(By.CSS_SELECTOR, "#case-list a")]


def drawn(view: Chrome) -> str:
    return view.execute_script("return document.getElementById('ct-canvas').dataset.drawn")


def test_the_page_is_silent_and_asks_nobody(view: Chrome) -> None:
    asked = [
        message["params"]["request"]["url"]
        for entry in view.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert asked and {url.partition(":")[0] for url in asked} <= {"file", "data", "about"}
    assert view.get_log("browser") == []


def test_keys_walk_through_the_cases_and_a_link_leads_to_one(view: Chrome, page: Path) -> None:
    names = listed(view)
    title = by_id(view, "case-title")
    assert len(names) == 12 and title.text == names[0] and by_id(view, "case-place").text == "1 of 12"
    press(view, "j", "j", Keys.ARROW_RIGHT)
    assert title.text == names[3] and view.current_url.endswith(f"#case={names[3]}")
    press(view, "k", Keys.ARROW_LEFT)
    assert title.text == names[1]
    press(view, "?")
    assert by_id(view, "keys").is_displayed()
    press(view, "j", Keys.ESCAPE)
    assert not by_id(view, "keys").is_displayed() and title.text == names[1]
    press(view, "/", "jk", Keys.ESCAPE)
    assert title.text == names[1] and by_id(view, "case-search").get_attribute("value") == "jk"
    by_id(view, "case-reset").click()
    view.find_element(By.CSS_SELECTOR, "#changes tbody a").click()
    assert title.text == view.find_element(By.CSS_SELECTOR, "#changes tbody a").text
    opened(view, page, "#case=case-2")
    assert by_id(view, "case-title").text == "case-2"
    opened(view, page, "#case=%3Cb%3Enone")
    assert "No case <b>none is on this page" in by_id(view, "case-unknown").text
    press(view, "j")
    assert by_id(view, "case-title").text == names[1] and not by_id(view, "case-unknown").is_displayed()


def test_arrows_are_left_to_what_scrolls_and_to_the_rest_of_the_page(view: Chrome) -> None:
    names, title = listed(view), by_id(view, "case-title")
    focus = "const one = document.querySelector(arguments[0]); one.tabIndex = 0; one.focus({ preventScroll: true })"
    for elsewhere in ("#results .scroll", "#provenance pre", "#training h2"):
        view.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        view.execute_script(focus, elsewhere)
        press(view, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_RIGHT)
        assert title.text == names[0], elsewhere
    # Letters work from anywhere, and arrows within the cases.
    press(view, "j")
    assert title.text == names[1]
    view.execute_script(focus, "#case-list a")
    press(view, Keys.ARROW_RIGHT)
    assert title.text == names[2]
    # Selecting text by keyboard is no step.
    ActionChains(view).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    assert title.text == names[2]
    # A link from a table leads into the cases, keyboard and all.
    first = view.find_element(By.CSS_SELECTOR, "#changes tbody a")
    first.send_keys(Keys.ENTER)
    place = names.index(title.text)
    assert title.text == first.text
    press(view, *([Keys.ARROW_RIGHT] if place + 1 < len(names) else [Keys.ARROW_LEFT]))
    assert title.text in (names[place - 1], names[(place + 1) % len(names)])


def test_slices_and_windows_change_what_is_drawn(view: Chrome) -> None:
    first, place = view.execute_script(PIXELS), drawn(view)
    press(view, "]")
    assert drawn(view) != place and view.execute_script(PIXELS) != first
    press(view, "[")
    assert drawn(view) == place and view.execute_script(PIXELS) == first
    canvas = by_id(view, "ct-canvas")
    ActionChains(view).scroll_to_element(canvas).perform()
    view.execute_script("arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: 100, cancelable: true}))", canvas)
    assert drawn(view) != place
    by_id(view, "ct-slice").send_keys(Keys.HOME)
    assert drawn(view).endswith("/0") and "1 of 40 from the head; slice 40 of the CT" in by_id(view, "ct-place").text
    canvas.send_keys(Keys.ARROW_DOWN * 20)
    assert drawn(view).endswith("/20")
    lung, black_in_lung = view.execute_script(PIXELS), view.execute_script(BLACK)
    press(view, "m")
    soft, black_in_soft = view.execute_script(PIXELS), view.execute_script(BLACK)
    view.find_element(By.CSS_SELECTOR, "[data-window=bone]").click()
    bone = view.execute_script(PIXELS)
    assert lung != soft and soft != bone and by_id(view, "ct-width").get_attribute("value") == "1800"
    # The lungs are dark grey in their own window and black in that of soft tissue.
    assert black_in_soft > 300 > black_in_lung * 10
    view.execute_script(
        "const c = document.getElementById('ct-centre'); c.value = 0; c.dispatchEvent(new Event('change'))"
    )
    assert view.execute_script(PIXELS) != bone


def test_cases_are_searched_filtered_and_ordered(view: Chrome) -> None:
    Select(by_id(view, "case-kind")).select_by_value("held-out")
    assert len(listed(view)) == 6 and by_id(view, "case-count").text == "6 of 12 cases"
    Select(by_id(view, "case-order")).select_by_value("loss")
    told = [one.text for one in view.find_elements(By.CSS_SELECTOR, "#case-list .figure-small")]
    gains = [float(one.replace(MINUS, "-")) for one in told[:-1]]
    assert gains == sorted(gains)
    # What has no gain is the last, however the gains are ordered, and says so.
    assert told[-1] == "" and listed(view)[-1] == "h3"
    Select(by_id(view, "case-order")).select_by_value("gain")
    assert listed(view)[-1] == "h3"
    view.find_elements(By.CSS_SELECTOR, "#case-list a")[-1].click()
    assert by_id(view, "case-reference").text == "No reference report."
    assert by_id(view, "case-note").text.startswith("No rules score of both the base and the last round. Held-out")
    by_id(view, "case-reset").click()
    Select(by_id(view, "case-finding")).select_by_value("emphysema")
    Select(by_id(view, "case-standing")).select_by_value("hallucinated")
    shown = listed(view)
    assert 0 < len(shown) < 12
    view.find_element(By.CSS_SELECTOR, "#case-list a").click()
    assert by_id(view, "case-title").text == shown[0]
    assert view.find_elements(By.CSS_SELECTOR, "#case-reports mark.hallucinated")
    by_id(view, "case-search").send_keys("no such words at all")
    assert listed(view) == [] and not by_id(view, "case-next").is_enabled()


def test_findings_have_a_sign_beside_their_colour_and_the_reference_follows_the_report(view: Chrome) -> None:
    found: dict[str, str] = {}
    for name in listed(view):
        view.execute_script("location.hash = arguments[0]", f"#case={name}")
        found |= view.execute_script(SIGNS)
    assert found.items() <= {"matched": "✓", "differs": "≠", "missing": MINUS, "hallucinated": "+"}.items()
    assert len(found) >= 3
    view.execute_script("location.hash = '#case=case-2'")
    seen = set()
    for key in "1234":
        press(view, key)
        assert by_id(view, "case-compared").text == f"Compared with candidate {key}"
        seen.add(by_id(view, "case-reference").text)
    assert len(seen) > 1
    assert "rules" in by_id(view, "case-reports").text and "no score: no reference" not in seen


def test_marks_stand_at_their_words_behind_characters_of_two_units(view: Chrome) -> None:
    view.execute_script("location.hash = '#case=h4'")
    for card in ("#case-reports .card", ".reference-card"):
        assert view.execute_script(MARKED, card) == ["nodule", "cardiomegaly"]
        shown = view.execute_script("return document.querySelector(`${arguments[0]} .text`).textContent", card)
        assert shown == BEYOND.replace("nodule", "✓nodule (matched)").replace("cardiomegaly", "✓cardiomegaly (matched)")


def test_what_a_model_wrote_stays_text(view: Chrome) -> None:
    view.execute_script("location.hash = '#case=' + encodeURIComponent(arguments[0])", HOSTILE_ID)
    assert by_id(view, "case-title").text == HOSTILE_ID
    shown = view.execute_script("return document.querySelector('#case-reports .text').textContent")
    assert shown.startswith("</script><script>window.broken = 1</script>") and "{{ 7 * 7 }} {% raw %}" in shown
    assert view.execute_script("return typeof window.broken") == "undefined"
    assert view.find_elements(By.CSS_SELECTOR, "#cases img, #cases script, #cases svg") == []
    assert view.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(view: Chrome, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    view.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        assert view.execute_script(CONTRAST, READ) == []
    finally:
        view.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_narrow_screen_scrolls_one_way_only(view: Chrome) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    view.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert view.execute_script("return document.documentElement.scrollWidth") <= 400
        assert by_id(view, "ct-canvas").size["width"] <= 400
    finally:
        view.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_scripts_everything_but_the_browser_is_there(browser: Chrome, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        assert not by_id(browser, "browser").is_displayed()
        assert "needs JavaScript" in browser.find_element(By.CSS_SELECTOR, "#cases noscript").text
        assert by_id(browser, "results").is_displayed() and len(browser.find_elements(By.CSS_SELECTOR, ".example")) == 9
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
