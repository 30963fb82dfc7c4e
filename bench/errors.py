"""The one error that a user causes, a sentence naming the thing, the value and the way out; and what may be in one."""


class BadInput(Exception):  # noqa: N818 - it names what went wrong, and is printed, never shown as a traceback
    """Raised before any training is spent; the command line prints it and exits with code 2."""


def printable(text: object, but: str = "\t\n") -> str:
    """What a plugin says, without what moves a terminal's cursor or cannot be written to a file."""
    return "".join(letter for letter in str(text) if letter.isprintable() or letter in but)
