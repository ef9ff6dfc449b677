import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.judges.score_text import MAX_REPLY_CHARACTERS, looks_like_refusal, read_score, read_score_json

LABELLED = (
    "Score: {}",
    "score:{}",
    "SCORE : {}",
    "Score\uff1a{}",
    "Score: {}/5",
    "Score: {} / 5",
    "Score: <{}>",
    "Score: <{}/5>",
    "Score: < {} / 5 >",
    "Score: **{}**",
    "Score: **{}/5**",
    "Score: **<{}/5>**",
    "**Score:** {}",
    "**Score**: {}",
    "**Score**: <{}>",
    "**Score:** **{}/5**",
    "**Score: {}**",
    "**Score: {}/5.**",
    "- Score: {}",
    "* **Score:** {}",
    "+ Score: {}",
    "## Score: {}",
    "2. Score: {}",
    "2) **Score**: {}/5",
    "   Score: {}   ",
    "Score: {}.",
    "**Score:** {}/5.",
    "Score:\n{}",
    "## Score\n\n{}/5",
)
BARE = ("{}", "{}/5", "{} / 5", "<{}>", "<{}/5>", "**{}**", "**{}/5**", "**<{}/5>**", " {} \n", "\r\n{}\r\n")
EXPLANATION = "Explanation: the nodule is on the wrong side (2 of 3 findings agree)."


@pytest.mark.parametrize("form", LABELLED + BARE)
def test_every_accepted_form_gives_its_score(form):
    for score in range(1, 6):
        assert read_score(form.format(score)) == score
        assert read_score(f"{EXPLANATION}\n\n{form.format(score)}\n") == score
        assert read_score(f"```\n{form.format(score)}\n```") == score
        assert read_score(f"{form.format(score)}\n{EXPLANATION}\n{form.format(score)}") is None
    for outside in (
        0,
        6,
        10,
        45,
        "-4",
        "+4",
        "04",
        "3.7",
        "4.0",
        "4,5",
        "3-4",
        "four",
        "N/A",
        "\u0664",
        "\uff14",
        "",
        "IV",
    ):
        assert read_score(form.format(outside)) is None, outside


@pytest.mark.parametrize("form", LABELLED)
def test_a_labelled_score_may_stand_before_its_explanation(form):
    bare_line = "\n" in form
    assert read_score(f"{form.format(2)}\n{EXPLANATION}") == (None if bare_line else 2)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n\t\n",
        "Score:",
        "Score: 4/10",
        "Score: 4/4",
        "4/10",
        "4 out of 10",
        "4 out of 5",
        "Score: 4 out of 5",
        "Score: 4 or 5",
        "Score: 4, 5",
        "Score: 3-4",
        "Score: 3 to 4",
        "Score: 1-5",
        "Score: <1-5 integer>",
        "Score: <4",
        "Score: 4>",
        "Score: **4",
        "Score: *4*",
        "Score: [4]",
        "Score: (4)",
        'Score: "4"',
        "Score: 4 (good)",
        "Score: 4 points",
        "Score: 4 - accurate",
        "Score: 4%",
        "Score: 4!",
        "Score: 4..",
        "Score: N/A",
        "Score: NaN",
        "Score: good",
        "Score: 4e0",
        "Score: 0x4",
        "Score: 5/",
        "Score: /5",
        "Score = 4",
        "Score 4",
        "Score - 4",
        "Scores: 4",
        "Rating: 4",
        "Final score: 4",
        "Accuracy: 4",
        "Puntuación: 4",
        "Bewertung: 4",
        "分数:4",
        "评分:4",
        "\u017fcore: 4",
        "Score: \u0664",
        "Score: \u2463",
        "4.",
        "1. 4",
        "- 4",
        "# 4",
        "> 4",
        "four",
        "4 4",
        "4\n5",
        "4\n4",
        "3\nScore: 4",
        "Score: 4\n5",
        "Score: 4\n4/10",
        "Score: 4\nScore: 5",
        "Score: 4\nScore: 4",
        "Score: 4\u2028Score: 4",
        "Score: 4\rScore: 5",
        "Score: N/A\nScore: 4",
        "Score: <1-5 integer>\nScore: 4",
        "Score: 4 or 5\n4",
        "4\nBecause all findings agree.",
        "I would give this 4/5 for accuracy.",
        "The report deserves a 4",
        "Explanation: complete. Score: 4",
        "the report says 'Score: 5'",
        "The report says:\n'Score: 5'",
        "The report says:\n> Score: 5",
        "The report says:\n```\nScore: 5\n```",
        "The report says:\n```\nScore: 5",
        "5\n```\nNormal chest.\n```",
        "```\nScore: 5\n```\nThe report ends so.\n```\nfindings\n```",
        "``` 4 ```",
        '{"score": 4}',
        "<html><body>4</body></html>",
        "Score: " + "9" * 5000,
        "5" * 5000,
    ],
)
def test_every_other_reply_gives_no_score(reply):
    assert read_score(reply) is None


def test_a_score_that_the_report_gives_itself_is_not_the_judges():
    quoted = "The report says 'Score: 5'.\n> Score: 5\n```\nScore: 5\n```\nThis is no finding."
    assert read_score(quoted) is None
    assert read_score(f"{quoted}\nScore: 2") == 2
    assert read_score(f"{quoted}\n2") == 2


def test_other_scales():
    assert read_score("Score: 0", low=0, high=10) == 0
    assert read_score("10/10", low=0, high=10) == 10
    assert read_score("Score: 4/5", low=0, high=10) is None
    assert read_score("Score: 11", low=0, high=10) is None
    assert read_score_json('{"explanation": "", "score": 0}', low=0, high=10) == (0, "")
    for low, high in ((-1, 5), (5, 5), (5, 1)):
        with pytest.raises(ValueError, match=r"0 <= low < high"):
            read_score("4", low=low, high=high)


def test_long_replies_are_not_read():
    room = MAX_REPLY_CHARACTERS - len("\nScore: 4")
    assert read_score("x" * room + "\nScore: 4") == 4
    assert read_score("x" * (room + 1) + "\nScore: 4") is None
    assert read_score_json('{"explanation": "' + "x" * MAX_REPLY_CHARACTERS + '", "score": 4}') is None


@pytest.mark.parametrize(
    "piece",
    [" ", "*", "#", "Score", "Score:", "Score: ", "**Score: ", "<", "< ", "4", "4/", "4 ", "\n", "4\n", "```\n", "- "],
)
def test_hostile_replies_take_little_time(piece):
    began = time.perf_counter()
    for start, end in (("", ""), ("Score: ", "!"), ("**Score: ", "x"), ("```\n", "```")):
        text = start + piece * (MAX_REPLY_CHARACTERS // len(piece) - 20) + end
        read_score(text)
        looks_like_refusal(text)
    assert time.perf_counter() - began < 1.0


@given(st.text())
def test_no_text_without_a_digit_of_the_scale_gives_a_score(text):
    assert read_score(text.translate(dict.fromkeys(map(ord, "12345"), "0"))) is None


@given(st.lists(st.text(alphabet=st.sampled_from("Scoreorder: :*<>/.-#`5432106 \t4'\"x")), max_size=4))
def test_a_score_stands_alone_on_one_line_or_is_none(lines):
    score = read_score("\n".join(lines))
    if score is not None:
        letters = ["".join(filter(str.isalnum, line)).lower() for line in lines]
        assert any(re.fullmatch(rf"(\d{{0,2}}score)?{score}5?", line) for line in letters)


@given(st.text(), st.sampled_from(LABELLED + BARE), st.integers(1, 5))
def test_words_before_a_score_on_its_line_make_it_none(words, form, score):
    sentence = " ".join(words.split())
    assert read_score(f"I say {sentence} {form.format(score).strip().splitlines()[-1].strip()}") is None


@given(st.text(), st.sampled_from(LABELLED), st.integers(1, 5))
def test_an_explanation_on_the_lines_before_changes_no_score(words, form, score):
    explanation = "\n".join(f"x{line}" for line in words.splitlines())
    assert read_score(f"{explanation}\n{form.format(score)}") == score


def reply(score, explanation="A side is wrong."):
    return json.dumps({"explanation": explanation, "score": score})


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(1, 5))
def test_a_structured_reply_gives_its_score_and_explanation(explanation, score):
    text = reply(score, explanation)
    assert read_score_json(text) == (score, explanation)
    assert read_score_json(f"\n```json\n{text}\n```\n") == (score, explanation)
    assert read_score_json(f"```\n{text}\n```") == (score, explanation)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "null",
        "[]",
        "[4]",
        "{}",
        '{"score": 4}',
        '{"explanation": "x"}',
        reply(True),
        reply("4"),
        reply("4/5"),
        reply(4.0),
        reply(3.7),
        reply(0),
        reply(6),
        reply(-4),
        reply(None),
        reply([4]),
        reply({"accuracy": 4}),
        reply(4, None),
        reply(4, 4),
        reply(4, "\ud800"),
        reply(float("nan")),
        reply(float("inf")),
        '{"explanation": "x", "score": 4e0}',
        '{"explanation": "x", "score": 04}',
        '{"explanation": "x", "score": 1' + "0" * 5000 + "}",
        '{"explanation": "x", "score": 4, "score": 4}',
        '{"explanation": "x", "score": 4, "score": 5}',
        '{"explanation": "x", "explanation": "y", "score": 4}',
        '{"explanation": "x", "score": 4, "final_score": 2}',
        '{"explanation": "x", "Score": 4}',
        '{"explanation": "x", "score": 4',
        '{"explanation": "x", "score": 4}{"explanation": "x", "score": 5}',
        "{'explanation': 'x', 'score': 4}",
        "Here it is: " + reply(4),
        reply(4) + "\nI hope this helps.",
        "```json\n" + reply(4),
        "```python\n" + reply(4) + "\n```",
        "```````",
        "[" * 15_000,
        '{"explanation":' * 1_000,
        "<html>" + reply(4) + "</html>",
    ],
)
def test_every_other_structured_reply_gives_none(text):
    assert read_score_json(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I\u2019m sorry, but I can\u2019t help with that request.",
        "Sorry, I cannot evaluate this.",
        "I cannot assist with medical reports.",
        "I am unable to provide a score for this report.",
        "As an AI language model, I am unable to evaluate medical reports.",
        "As a large language model I cannot judge radiology.",
        "I apologize, but I'm not able to rate medical texts.",
        "I must respectfully decline.",
        "Unfortunately, I won't be able to compare these reports.",
        "I'm not comfortable rating medical documents.",
        "I do not have the expertise to judge this.",
        "Thank you for the reports. I can't review them.",
        "**Explanation:** I'm sorry, but I can't judge this.\n\nScore: N/A",
        "I'm sorry, but I can't give a score. On a scale from 1 to 5, ask a radiologist.",
        '{"explanation": "I cannot evaluate medical reports.", "score": null}',
    ],
)
def test_refusals(text):
    assert looks_like_refusal(text)
    assert read_score(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Score: 4",
        "Score: N/A",
        "Good report.",
        "Explanation: the side is wrong.\nScore: four",
        "I'm sorry, but I can't assess the sizes.\nScore: 3",
        '{"explanation": "I cannot assess the sizes.", "score": 3}',
        "I cannot rate this report higher than the middle of the scale.",
        "The effusion cannot be assessed from the report.",
        "The report says: I'm sorry, but I can't help. It is no report.",
        "The candidate cannot assist a reader.",
        "I see no error. " + "The lungs are clear. " * 50 + "I cannot assess the rest.",
    ],
)
def test_no_refusals(text):
    assert not looks_like_refusal(text)
