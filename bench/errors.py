"""The one error that a user causes: a sentence naming the thing, the value and the way out."""


class BadInput(Exception):  # noqa: N818 - it names what went wrong, and is printed, never shown as a traceback
    """Raised before any training is spent; the command line prints it and exits with code 2."""
