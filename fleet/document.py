"""A document for the built-in source in which every word stands once: what is lost, repeated or mixed can be told."""

from pathlib import Path

from gateway.sources.passages import Library

TOPICS = 50


class Document:
    """Topics of so many words each, and the exact answer to each question: it is known before it is asked."""

    def __init__(self, path: Path, words: int) -> None:
        self.path = path
        paragraphs = (" ".join(f"{topic:02}x{word:05}" for word in range(words)) for topic in range(TOPICS))
        sections = (f"# topic{topic:02}\n\n{text}.\n" for topic, text in enumerate(paragraphs))
        path.write_text("\n".join(sections), "utf-8")
        library = Library.of_files([path])
        self._answers = [library.answer(self.question(topic)).text for topic in range(TOPICS)]

    def question(self, number: int) -> str:
        """The question of this number; more than there are topics ask for the same again."""
        return f"topic{number % TOPICS:02}"

    def answer(self, number: int) -> str:
        """What the answer to it must be, to the byte."""
        return self._answers[number % TOPICS]
