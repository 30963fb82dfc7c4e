"""YAML as anybody may write it, read without surprises: short, no aliases, no key twice, no number beyond 64 bits."""

from pathlib import Path

import yaml

LARGEST = 2**63


class PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which can be made to grow without end, and without a key that is there twice."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name)")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        made = super().construct_mapping(node, deep=True)  # refuses what can be no key
        if len(made) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            raise yaml.YAMLError(f"it has {next(key for key in made if keys.count(key) > 1)!r} twice")
        return made

    def construct_yaml_int(self, node):
        value = super().construct_yaml_int(node)
        if abs(value) >= LARGEST:
            raise yaml.YAMLError("it has a whole number of more than 64 bits")
        return value


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_yaml_int)


def load_yaml(path: Path, most: int) -> object:
    """The content of a file of at most `most` bytes.

    Raises:
        OSError: if it cannot be read. ValueError: for what is no such YAML; it says why in a line of 200 letters at
            most, worded to follow the name of the file.
    """
    if path.exists() and not path.is_file():
        raise ValueError("is no file")
    with path.open("rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"is longer than {most:,} bytes")
    try:
        return yaml.load(text.decode("utf-8"), PlainLoader)
    except UnicodeDecodeError as error:
        raise ValueError(f"is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    except (yaml.YAMLError, RecursionError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"is not valid YAML ({' '.join(str(error).split())[:200]})") from error
