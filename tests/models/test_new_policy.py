"""The small policy made from nothing: a tokenizer that spells anything, weights that follow the seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlaif.models.new_policy import new_policy, train_tokenizer
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.reports.placeholders import IMAGE_TOKEN

REPORTS = ["A small left pleural effusion.", "No pleural effusion.", "Heart size is normal."]
TOKENIZER = train_tokenizer(REPORTS, 320)
SPECIAL = ["<pad>", "<s>", "</s>", IMAGE_TOKEN]


@given(st.text(max_size=60).filter(lambda text: not any(word in text for word in SPECIAL)))
def test_any_text_is_spelt_and_read_back(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert not set(ids) & set(TOKENIZER.all_special_ids)


def test_what_the_reports_repeat_becomes_short() -> None:
    assert len(TOKENIZER("pleural effusion", add_special_tokens=False)["input_ids"]) < 8
    assert len(TOKENIZER) <= 320


def test_special_tokens_have_the_first_places() -> None:
    assert TOKENIZER.convert_tokens_to_ids(SPECIAL) == [0, 1, 2, 3]
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1, 2)
    assert TOKENIZER(IMAGE_TOKEN, add_special_tokens=False)["input_ids"] == [3]


def test_the_seed_decides_the_weights_and_leaves_the_random_state_alone() -> None:
    settings = PolicySettings(name="text", size="tiny", recipe=None, encoder=None, connector=None)
    language = LanguageModelSettings(hidden=16, layers=1, heads=2, intermediate=32, vocabulary=300, positions=64)
    state = torch.get_rng_state()
    first, again, other = (new_policy(settings, language, REPORTS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [policy.weights()["language_model.model.embed_tokens.weight"] for policy in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].shape == (len(first.tokenizer), 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 130}, "hidden 130 is no multiple of 2 x heads 4"),
        ({"vocabulary": 200}, "vocabulary"),
        ({"layers": 0}, "layers"),
    ],
)
def test_widths_that_cannot_be_are_refused(change: dict[str, int], message: str) -> None:
    widths = {"hidden": 128, "layers": 4, "heads": 4, "intermediate": 384, "vocabulary": 640, "positions": 512}
    with pytest.raises(ValidationError, match=message):
        LanguageModelSettings.model_validate(widths | change)
