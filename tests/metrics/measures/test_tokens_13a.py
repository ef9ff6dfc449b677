"""Sentence by sentence the tokens are those that sacrebleu makes of the whole text."""

from hypothesis import example, given
from hypothesis import strategies as st
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from rlaif.metrics.measures.tokens_13a import tokeniser_13a


@given(st.text(alphabet="ab1 .,!?-&;lt<>\n\u00e9'\"", max_size=60))
@example("A 3.5 mm nodule. .5 mm? !x  . 2. 3-mm.")
@example("left-\nsided. &lt;5 mm. <skipped> Heart.")
def test_the_tokens_are_those_of_the_whole_text(text: str) -> None:
    assert tokeniser_13a()(text) == Tokenizer13a()(text)
