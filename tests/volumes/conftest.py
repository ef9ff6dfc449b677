"""What the tests of volumes leave as it was."""

import locale
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def kept_locale() -> Iterator[None]:
    """ITK sets the whole process's locale to C when it writes; other tests of the process read and write files."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)
