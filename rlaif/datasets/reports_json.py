"""Reading the JSON files of data sets: size bounded, and text that no table could hold refused."""

import json
import re
from typing import Any

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.study_table import DatasetError

MAX_JSON_BYTES = 2**30
_KINDS: dict[type, str] = {dict: "an object", list: "a list"}
# Half of a pair that is written alone stands for no character, and cannot be saved as UTF-8.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(folder: DataFolder, relative: str, top: type[dict[Any, Any]] | type[list[Any]] = dict) -> Any:
    """What a JSON file of the folder holds: an object, or with `top=list` a list.

    Raises DatasetError, naming the file, where it is absent, larger than 1 GiB, not UTF-8 text, not JSON, or of
    another kind.
    """
    place = f"file {folder.locate(relative)}"
    if not folder.is_file(relative):
        raise DatasetError(f"{place} does not exist")
    if folder.size(relative) > MAX_JSON_BYTES:
        raise DatasetError(f"{place} is larger than {MAX_JSON_BYTES} bytes, which no table of reports is")
    try:
        with folder.open(relative) as file:
            text = file.read().decode("utf-8-sig")
        content = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise DatasetError(f"{place} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place} is not valid JSON ({error})") from error
    if not isinstance(content, top):
        found = _KINDS.get(type(content), "a single value")
        raise DatasetError(f"{place} holds {found} where {_KINDS[top]} belongs")
    return content
