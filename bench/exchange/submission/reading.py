"""Reads a form that a stranger may have written."""

from pathlib import Path

from bench.errors import BadInput
from bench.schema import plain_yaml

FORM, SCORES = "submission.yaml", "scores.npz"  # the two files of a submission
SIZE = 64_000  # bytes; a form takes one or two thousand


def load(path: Path) -> object:
    """The content of the file `path`.

    Raises:
        BadInput: if it is a link, too long, or not such YAML.
    """
    if path.is_symlink() or path.parent.is_symlink():
        raise BadInput(f"{path} is a link: put the file itself there.")
    try:
        return plain_yaml.load_yaml(path, SIZE)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error}): a submission is {FORM} and {SCORES} in a folder.") from error
    except ValueError as error:
        raise BadInput(f"{path} {error}: it is a short form, arrays belong into {SCORES}; correct it there.") from error
