"""What README and docs name is there: files, make targets, settings, choices, links, marks of tables."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif.config import Config
from rlaif.config_faults import known_keys
from rlaif.launch import CONFIGS, PROJECT, checked_overrides

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
# Jobs with arguments of their own; the others take Hydra overrides.
WITHOUT_OVERRIDES = {"jobs/render.py"}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_lines(text: str) -> Iterator[str]:
    """Each line of the code blocks, continued lines as one, and each piece of code within the text."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of each call of a program."""
    found = re.compile(rf"(?:^|\s|/){program}\s+(.*)")
    calls = [match[1] for line in code_lines(text) if (match := found.search(line)) and not line.startswith("#")]
    return [[word for word in shlex.split(call, comments=True) if word != "…"] for call in calls]


def overrides_of(call: list[str]) -> list[str]:
    """What a call of Python gives to Hydra: what follows a submitted job, and the loop that the proof repeats."""
    if call[0] == "jobs/submit.py":
        return overrides_of(call[1:]) if call[1:] else []
    if call[0] == "jobs/proof.py" and call[1:2] and call[1].endswith("_loop"):
        return call[2:]
    return [] if call[0] in WITHOUT_OVERRIDES else call[1:]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pages
def test_every_job_that_is_called_exists(page: Path) -> None:
    for call in commands(page.read_text(encoding="utf-8"), "python"):
        for word in call:
            if word.endswith(".py"):
                assert (PROJECT / word).is_file(), f"{page.name}: {word}"


@pages
def test_every_override_is_a_setting_or_a_choice_that_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    calls = [call for call in commands(text, "python") if call[:1] and call[0].startswith("jobs/")]
    for call in calls:
        checked_overrides(overrides_of(call))
    for call in commands(text, "make"):
        for word in call:
            if word.startswith("ARGS="):
                checked_overrides(shlex.split(word.removeprefix("ARGS=")))


@pages
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for call in commands(page.read_text(encoding="utf-8"), "make"):
        assert call[0] in targets, f"{page.name}: make {call[0]}"


@pages
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), f"{page.name}: {link}"
        assert not anchor or anchor in headings(target), f"{page.name}: {link}"


def test_an_override_that_names_nothing_is_found() -> None:
    page = "```\npython jobs/dpo_loop.py experiment=demo \\\n  sampler.temprature=2   # hotter\n```\n"
    (call,) = commands(page, "python")
    assert overrides_of(call) == ["experiment=demo", "sampler.temprature=2"]
    with pytest.raises(SystemExit):
        checked_overrides(overrides_of(call))


def test_the_page_on_configuration_names_every_setting_and_no_other() -> None:
    text = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    groups = "|".join(sorted({key.partition(".")[0] for key in known_keys(Config)}))
    named = set(re.findall(rf"`((?:{groups})\.[a-z_.]+)`", text))
    known = {key for key in known_keys(Config) if "." in key}
    # A data set within another has the settings of its own, told where it stands alone.
    within = re.compile(r"data\.(ct_rate|bimcv_r|inspect)\.(?!path$)")
    assert named == {key for key in known if not within.match(key)}


def test_the_page_on_configuration_names_every_choice_and_no_other() -> None:
    text = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    section = text.partition("## Groups")[2].partition("\n## ")[0]
    told: dict[str, set[str]] = {}
    for groups, choices in re.findall(r"^\| (`.*?) \| (.*?) \|$", section, flags=re.MULTILINE):
        for group in re.findall(r"`(\w+)`", groups):
            told[group] = set(re.findall(r"`(\w+)`", choices))
    # `size` is no choice of its own: policy.size takes the file.
    folders = [folder for folder in CONFIGS.iterdir() if folder.is_dir() and folder.name != "size"]
    assert told == {folder.name: {path.stem for path in folder.glob("*.yaml")} for folder in folders}


def test_readme_holds_its_measured_tables() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    for mark in ("demo-table", "proof-table"):
        (between,) = re.findall(f"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", text, flags=re.DOTALL)
        assert between.count("\n|") >= 4, mark


def test_pictures_are_small() -> None:
    for picture in (PROJECT / "docs").glob("*.png"):
        assert picture.stat().st_size < 400_000, picture.name
