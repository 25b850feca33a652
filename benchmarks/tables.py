"""Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out `rows` under `head` as a markdown table with a bold `title`."""
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    return f"**{title}**\n\n{body}"
