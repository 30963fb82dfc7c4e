"""Reads a form that a stranger may have written: short, without aliases, without a key that is there twice."""

from pathlib import Path

import yaml

from bench.errors import BadInput

FORM, SCORES = "submission.yaml", "scores.npz"  # the two files of a submission
SIZE = 64_000  # bytes; a form takes one or two thousand


class PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which can be made to grow without end, and without a key that is there twice."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name)")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.YAMLError(f"it has {twice[0]!r} twice")
        return super().construct_mapping(node, deep)


def load(path: Path) -> object:
    """The content of the file `path`.

    Raises:
        BadInput: if it is a link, too long, or not such YAML.
    """
    if path.is_symlink() or path.parent.is_symlink():
        raise BadInput(f"{path} is a link: put the file itself there.")
    try:
        with path.open("rb") as file:
            text = file.read(SIZE + 1)
        if len(text) > SIZE:
            raise BadInput(f"{path} is longer than {SIZE:,} bytes: it is a short form, arrays belong into {SCORES}.")
        return yaml.load(text.decode("utf-8"), PlainLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}): a submission is {FORM} and {SCORES} in a folder.") from error
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is not valid YAML ({' '.join(str(error).split())[:200]}): correct it there.") from error
