"""Data and script inside the report page: written so that no text of a model can become markup or code."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

# What could end a script element, open another or break a line of a script.
_UNSAFE = "<>&\u2028\u2029"


def safe_json(content: Any) -> str:
    """The content as JSON that may stand inside a script element whatever its strings hold; it reads back the same.

    Raises ValueError for numbers that JSON has not (NaN, infinity).
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in _UNSAFE:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def page_script() -> tuple[str, str]:
    """The page's script as it stands in the page, and the `sha256-…` source by which the page's policy allows it."""
    text = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("page.js holds </script or <!--, which would end it inside the page: write it in two parts")
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return text, f"sha256-{digest}"
