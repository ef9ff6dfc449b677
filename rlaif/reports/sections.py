"""The sections of a free-text report."""

import re

_HEADERS = {
    "findings": "findings",
    "finding": "findings",
    "findings and impression": "findings",
    "impression": "impression",
    "impressions": "impression",
    "conclusion": "impression",
    "conclusions": "impression",
    "opinion": "impression",
}
_OTHER_HEADERS = (
    "indication|clinical indication|clinical information|clinical history|history|technique|procedure|comparison|"
    "examination|exam|recommendation|recommendations|reason for exam|reason for examination|notification|addendum"
)
# A header stands at the start of a line, or follows the end of a sentence, and ends in a colon.
_HEADER = re.compile(
    rf"(?:^|(?<=[.!?\n])) ?(?P<name>{'|'.join(sorted(_HEADERS, key=len, reverse=True))}|{_OTHER_HEADERS}) ?:",
    re.IGNORECASE | re.MULTILINE,
)
_BLANKS = re.compile(r"[^\S\n]+")


def split_sections(text: str) -> dict[str, str]:
    """The `findings` and `impression` of a report with headers such as "FINDINGS:", in any case.

    A section that is absent or empty is absent from the result, one that occurs twice is joined by a
    line break, other sections (technique, comparison) are left out. A text without any header is all findings.
    """
    flat = _BLANKS.sub(" ", text)
    headers = list(_HEADER.finditer(flat))
    if not headers:
        return {"findings": flat.strip()} if flat.strip() else {}
    sections: dict[str, str] = {}
    ends = [header.start() for header in headers[1:]] + [len(flat)]
    for header, end in zip(headers, ends, strict=True):
        name = _HEADERS.get(header["name"].lower())
        body = flat[header.end() : end].strip()
        if name and body:
            sections[name] = f"{sections[name]}\n{body}" if name in sections else body
    return sections
