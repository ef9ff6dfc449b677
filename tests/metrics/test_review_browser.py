"""The review page in a real browser: answered by keys, opened again, downloaded, and read as the sheet is."""

import time
from pathlib import Path

import pytest
from chromium import missing
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

from rlaif.metrics.review.answers import read_answers
from rlaif.metrics.review.key import KeyItem, ReviewKey, ShownItem, text_checksum
from rlaif.metrics.review.page import page_of

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser"), pytest.mark.slow]

COMMENT = '=odd, "quoted"'


def item(number: int) -> ShownItem:
    reference, texts = f"Nodule of {number} mm.", (f"- Nodule, {number} mm.", "Clear <b>lungs</b>.")
    key = KeyItem(
        item_id=f"item-{number}",
        rater="rater-1",
        case_id=f"c{number}",
        patient_id="p",
        systems=("base", "round-000"),
        checksums=tuple(text_checksum(text) for text in (reference, *texts)),
    )
    return ShownItem(key, reference, texts)


def typed(view: Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(view).send_keys(key).perform()


def progress(view: Chrome) -> str:
    return str(view.find_element(By.ID, "progress").text)


def test_answers_by_key_outlive_a_reload_and_come_back_as_a_sheet(browser: Chrome, tmp_path: Path) -> None:
    shown = [item(number) for number in range(1, 4)]
    page = tmp_path / "review.html"
    page.write_text(page_of("choices", "rater-1", shown), encoding="utf-8")
    browser.get(page.as_uri())
    assert progress(browser) == "1 of 3, 0 answered"
    assert browser.find_element(By.ID, "text-1").text == "Clear <b>lungs</b>."
    typed(browser, "3", "n", "2", "c", COMMENT, Keys.ESCAPE, Keys.ARROW_RIGHT)
    assert progress(browser) == "3 of 3, 2 answered"

    browser.refresh()
    # It opens at the first without an answer.
    assert progress(browser) == "3 of 3, 2 answered"
    typed(browser, "1", "0", Keys.ARROW_LEFT)
    pressed = browser.find_element(By.CSS_SELECTOR, '.answer[aria-pressed="true"]')
    assert pressed.get_attribute("data-value") == "tie"
    assert browser.find_element(By.ID, "comment").get_attribute("value") == COMMENT

    # With single keys off only Escape works, out of the comment.
    box = browser.find_element(By.ID, "keys-on")
    label = browser.find_element(By.XPATH, "//label[normalize-space()='Single keys work']")
    label.click()
    assert not box.is_selected()
    typed(browser, "0", "1", "n", Keys.ARROW_RIGHT, "c", "x")
    browser.find_element(By.ID, "comment").click()
    typed(browser, Keys.ESCAPE, "1", "0")
    assert progress(browser) == "2 of 3, 2 answered"
    assert pressed.get_attribute("data-value") == "tie" and pressed.get_attribute("aria-pressed") == "true"
    assert browser.find_element(By.ID, "comment").get_attribute("value") == COMMENT
    label.click()
    typed(browser, "0")
    assert progress(browser) == "2 of 3, 1 answered"
    typed(browser, "2")
    assert progress(browser) == "2 of 3, 2 answered"

    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    browser.find_element(By.ID, "download").click()
    file, deadline = tmp_path / "choices-rater-1.csv", time.monotonic() + 30
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    key = ReviewKey(
        name="choices",
        kind="choices",
        seed=0,
        systems=("base", "round-000"),
        cases=3,
        repeats=0,
        raters=1,
        same_text=0,
        items=tuple(one.key for one in shown),
    )
    (own,) = read_answers([file], key)
    assert own.choices == {"item-1": "b", "item-2": "tie"}
    assert own.comments == {"item-2": COMMENT}
    assert own.missing == ["item-3"]
