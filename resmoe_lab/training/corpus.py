"""Training text of the zoo: English novels and encyclopedia passages, never a test set."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from .._core.datasets import find_data
from ..zoo.storyworld import stories

_BOOK_START = "*** START OF THIS PROJECT GUTENBERG EBOOK"
_BOOK_END = "*** END OF THIS PROJECT GUTENBERG EBOOK"
#: A novel is cut into documents of about this many characters, at paragraph ends.
_CHAPTER_CHARACTERS = 1000


def training_documents(*, num_stories: int, seed: int, data_dir: str | Path | None = None) -> dict[str, list[str]]:
    """Collect the training documents of each source.

    Parameters
    ----------
    num_stories
        How many StoryWorld stories to tell, all in training worlds.
    seed
        Seed of the stories.
    data_dir
        Searched first for ``gutenberg/`` and ``wikipedia_passages/``.

    Returns
    -------
    dict of str to list of str
        Documents of ``"novels"``, ``"encyclopedia"`` and ``"storyworld"``.
    """
    books = sorted(find_data("gutenberg", data_dir=data_dir).glob("*.txt"))
    passages = find_data("wikipedia_passages/boolq_train_passages.txt", data_dir=data_dir)
    return {
        "novels": [chapter for book in books for chapter in _chapters(read_book(book))],
        "encyclopedia": [line.replace(" -- ", ". ", 1) for line in passages.read_text("utf-8").splitlines() if line],
        "storyworld": list(islice(stories("train", seed), num_stories)),
    }


def wikitext_passages(*, data_dir: str | Path | None = None) -> list[str]:
    """Paragraphs of WikiText-2's validation split, in its own spelling, without the sentences that have lost a word.

    Its articles are none of the test split's.
    """
    text = find_data("wikitext-2/wiki.valid.tokens", data_dir=data_dir).read_text("utf-8")
    passages = []
    for line in text.splitlines():
        sentences = [sentence for sentence in line.split(" . ") if "<unk>" not in sentence]
        if " ".join(sentences).strip():
            passages.append(" . ".join(sentences))
    return passages


def read_book(path: Path) -> str:
    """Return a Project Gutenberg novel without its header and footer, one paragraph a line."""
    lines = path.read_text("utf-8-sig").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(_BOOK_START))
    last = next(i for i, line in enumerate(lines) if line.startswith(_BOOK_END))
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines[first + 1 : last]))
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def _chapters(book: str) -> list[str]:
    chapters, current, size = [], [], 0
    for paragraph in book.split("\n"):
        current.append(paragraph)
        size += len(paragraph)
        if size >= _CHAPTER_CHARACTERS:
            chapters.append("\n".join(current))
            current, size = [], 0
    return [*chapters, "\n".join(current)] if current else chapters
