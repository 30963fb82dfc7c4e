"""A method's state as bytes: its structure as JSON, then the numbers of its tensors and arrays, one after another.

What can be in it: tensors, NumPy arrays and scalars, None, booleans, numbers (complex and big ones too), text, bytes,
paths; lists, tuples, dictionaries with any of these as keys, sets, deques; dataclasses of all that. Anything else is
refused by the name of its place. Reading it runs no code but the look-up of a dataclass that is loaded already.
"""

import dataclasses
import json
import math
import struct
import sys
from collections import OrderedDict, deque
from collections.abc import Container, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

PREFIX = struct.Struct("<Q")
PLAIN = frozenset((type(None), bool, int, float, str))
MANY = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque", torch.Size: "tuple"}
MAKE = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
SIDES = 8  # of a tensor, beyond which its shape counts as text
NUMBERS = frozenset("biufcSUmM")  # kinds of NumPy types without Python objects


class StateError(TypeError):
    """Something in a state cannot be carried to the next step."""


def encode(value: Any, name: str = "state") -> bytes:
    """The bytes of a state; an empty dictionary, which is what a plugin without a state has, has none.

    Raises:
        StateError: for what cannot be carried; it names the place, beginning with `name`.
    """
    if value is None or (value == {} and type(value) is dict):
        return b""
    numbers: list[bytes | memoryview] = []
    try:
        text = _text(_tree(value, name, numbers))
    except RecursionError as error:
        raise StateError(f"{name} holds itself, or nests too deep to be carried.") from error
    return b"".join([PREFIX.pack(len(text)), text, *numbers])


def decode_state(content: bytes, device: str | torch.device = "cpu", *, classes: bool = True) -> Any:
    """What `encode` was given. Tensors that were not on the CPU go to `device`; no dataclasses without `classes`.

    Raises:
        ValueError: for what is no state.
    """
    if not content:
        return {}
    (length,) = PREFIX.unpack_from(content)
    try:
        tree = json.loads(bytes(content[PREFIX.size : PREFIX.size + length]))
        return _Reader(memoryview(content)[PREFIX.size + length :], torch.device(device), classes).value(tree)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"this is no state: {error}") from error


Sizes = dict[str, tuple[int, int]]  # of each entry: bytes of its numbers; of its name, types, shapes and text


def sizes_of(state: Mapping) -> Sizes:
    """The sizes of the entries of a state dictionary, as `entry_sizes` finds them in its bytes."""
    return _sizes(next(iter(_tree(state, "state", []).values())))


def entry_sizes(content: bytes) -> Sizes:
    """The sizes of the entries of a state that is a dictionary: every byte of it is one's, or follows from the others.

    Raises:
        ValueError: for what is no such state, or holds other than it says.
    """
    if not content:
        return {}
    (length,) = PREFIX.unpack_from(content)
    text = bytes(content[PREFIX.size : PREFIX.size + length])
    try:
        tree = json.loads(text)
        ((word, pairs),) = tree.items()
        if word not in ("dict", "ordered") or _text(tree) != text:
            raise ValueError("this is no dictionary of a state, or is written in a way of its own")
        sizes = _sizes(pairs)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"this is no dictionary of a state: {error}") from error
    if sum(numbers for numbers, _ in sizes.values()) != len(content) - PREFIX.size - length:
        raise ValueError("this is no whole state")
    return sizes


def without_entries(content: bytes, names: Container[str]) -> bytes:
    """The bytes of a state dictionary without some of its entries.

    Raises:
        ValueError: for what is no such state.
    """
    if not names or not entry_sizes(content):
        return content
    start = PREFIX.size + PREFIX.unpack_from(content)[0]
    ((word, pairs),) = json.loads(content[PREFIX.size : start]).items()
    kept, numbers = [], []
    for key, item in pairs:
        end = start + _numbers_in(item)
        if key not in names:
            kept.append([key, item])
            numbers.append(content[start:end])
        start = end
    text = _text({word: kept})
    return b"".join([PREFIX.pack(len(text)), text, *numbers])


def numbers_held(content: bytes) -> int:
    """Bytes of a state that are numbers of tensors and arrays, and no structure."""
    return len(content) - PREFIX.size - PREFIX.unpack_from(content)[0] if content else 0


def _text(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


def _sizes(pairs: list) -> Sizes:
    found: Sizes = {}
    for key, item in pairs:
        name, numbers = key if isinstance(key, str) else _text(key).decode(), _numbers_in(item)
        shown = item
        if numbers and isinstance(item, dict) and "tensor" in item and len(item["shape"]) <= SIDES:
            shown = item | {"shape": [0]}  # there are few ways to fold so many numbers
        before = found.get(name, (0, 0))
        found[name] = before[0] + numbers, before[1] + len(_text([key, shown]))
    return found


def _numbers_in(tree: Any) -> int:
    """Bytes that a part of the structure has among the numbers."""
    if isinstance(tree, list):
        return sum(map(_numbers_in, tree))
    if not isinstance(tree, dict):
        return 0
    word = next(iter(tree))
    if word in ("bytes", "bytearray"):
        return tree[word]
    if word in ("tensor", "array", "number"):
        kind = getattr(torch, tree[word]) if word == "tensor" else np.dtype(tree[word])
        if any(type(side) is not int or side < 0 for side in tree["shape"]):
            raise ValueError(f"a state holds an array of the shape {tree['shape']}")
        return kind.itemsize * math.prod(tree["shape"])
    return sum(map(_numbers_in, tree.values()))


def _tree(value: Any, name: str, numbers: list) -> Any:
    """The structure of `value` for JSON; what is raw goes to the end of `numbers`."""
    kind = type(value)
    if kind is int and value.bit_length() > 64:
        return {"int": hex(value)}  # in decimals Python writes so many digits and no more
    if kind in PLAIN:
        return value
    if isinstance(value, Tensor):
        return _of_tensor(value, name, numbers)
    if isinstance(value, np.ndarray | np.generic):
        return _of_array(value, name, numbers)
    if kind in (bytes, bytearray):
        numbers.append(bytes(value))
        return {kind.__name__: len(value)}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if kind in (dict, OrderedDict, *MANY):
        return _of_many(value, name, numbers)
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(value, name, numbers)
    raise StateError(
        f"{name} is of type {kind.__module__}.{kind.__qualname__}, which cannot be carried to the next step: give "
        "tensors, NumPy arrays, numbers, text, or lists, dictionaries and dataclasses of them."
    )


def _of_many(value: Any, name: str, numbers: list) -> Any:
    kind = type(value)
    if kind in (dict, OrderedDict):
        pairs = [
            [_tree(key, f"a key of {name}", numbers), _tree(item, f"{name}[{key!r}]", numbers)]
            for key, item in value.items()
        ]
        return {"dict" if kind is dict else "ordered": pairs}
    items = [_tree(item, f"{name}[{place}]", numbers) for place, item in enumerate(value)]
    if kind is list:
        return items
    return {"deque": items, "most": value.maxlen} if kind is deque else {MANY[kind]: items}


def _of_tensor(value: Tensor, name: str, numbers: list) -> dict:
    if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
        raise StateError(f"{name} is a tensor with the layout {value.layout}: give a dense one (`to_dense()`).")
    order = [] if value.is_contiguous() else _order(value.stride())
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    raw = (plain.permute(order) if order else plain).contiguous().reshape(-1).view(torch.uint8).numpy()
    numbers.append(memoryview(raw))
    made = {"tensor": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    made |= {"order": order} if order else {}
    return made if value.device.type == "cpu" else made | {"there": True}


def _order(strides: tuple[int, ...]) -> list[int]:
    """The axes from the widest step in memory to the narrowest. They are carried, for sums round by the layout.

    So a step that was handed its state gives the same bits as one that never let it go.
    """
    return sorted(range(len(strides)), key=lambda axis: -strides[axis])


def _of_array(value: np.ndarray | np.generic, name: str, numbers: list) -> dict:
    if value.dtype.kind not in NUMBERS or type(value) is np.memmap:
        raise StateError(f"{name} is a NumPy {type(value).__name__} of {value.dtype}: only plain numbers are carried.")
    order = [] if value.flags.c_contiguous else _order(value.strides)
    numbers.append((value.transpose(order) if order else value).tobytes())
    word = "array" if isinstance(value, np.ndarray) else "number"
    return {word: value.dtype.str, "shape": list(value.shape)} | ({"order": order} if order else {})


def _of_dataclass(value: Any, name: str, numbers: list) -> dict:
    kind, fields = type(value), [field.name for field in dataclasses.fields(value)]
    beyond = set(getattr(value, "__dict__", ())) - set(fields)
    if isinstance(value, type) or beyond or _class(kind.__module__, kind.__qualname__) is not kind:
        why = f"has {sorted(beyond)[0]!r} beside its fields" if beyond else "is not found by its name"
        raise StateError(f"{name}: the dataclass {kind.__qualname__} {why}, so it cannot be carried.")
    items = {field: _tree(getattr(value, field), f"{name}.{field}", numbers) for field in fields}
    return {"dataclass": [kind.__module__, kind.__qualname__], "fields": items}


def _class(module: str, name: str) -> Any:
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


class _Reader:
    """Reads the numbers in the order in which they were written."""

    def __init__(self, numbers: memoryview, device: torch.device, classes: bool):
        self.numbers, self.device, self.classes, self.at = numbers, device, classes, 0

    def take(self, count: int) -> bytearray:
        part = bytearray(self.numbers[self.at : self.at + count])
        if len(part) != count:
            raise ValueError("this is no whole state")
        self.at += count
        return part

    def value(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.value(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        word = next(iter(tree))
        given = tree[word]
        if word in MAKE:
            return MAKE[word](self.value(item) for item in given)
        if word in ("dict", "ordered"):
            return (dict if word == "dict" else OrderedDict)((self.value(k), self.value(v)) for k, v in given)
        if word == "deque":
            return deque((self.value(item) for item in given), tree["most"])
        if word in ("tensor", "array", "number"):
            return self._numbers(word, given, tree["shape"], tree.get("order", []), "there" in tree)
        if word == "dataclass":
            return self._dataclass(*given, tree["fields"])
        if word in ("bytes", "bytearray"):
            return bytes(self.take(given)) if word == "bytes" else self.take(given)
        return {"complex": lambda: complex(*given), "path": lambda: Path(given), "int": lambda: int(given, 16)}[word]()

    def _numbers(self, word: str, kind: str, shape: list[int], order: list[int], there: bool) -> Any:
        if order and sorted(order) != list(range(len(shape))):
            raise ValueError(f"a state has axes in the order {order}, of {len(shape)}")
        stored = [shape[axis] for axis in order] or shape
        back = [order.index(axis) for axis in range(len(order))]
        if word == "tensor":
            kind, count = getattr(torch, kind), int(np.prod(stored))
            raw = self.take(count * kind.itemsize)
            made = torch.frombuffer(raw, dtype=kind).reshape(stored) if count else torch.empty(stored, dtype=kind)
            made = made.permute(back) if back else made
            return made.to(self.device) if there else made
        dtype = np.dtype(kind)
        found = np.frombuffer(self.take(dtype.itemsize * int(np.prod(shape))), dtype).reshape(stored)
        found = found.transpose(back) if back else found
        return found if word == "array" else found[()]

    def _dataclass(self, module: str, name: str, fields: dict) -> Any:
        kind = _class(module, name) if self.classes else None
        if not dataclasses.is_dataclass(kind):
            raise ValueError(f"a state holds the dataclass {module}.{name}, which is not there")
        made = object.__new__(kind)
        for field, item in fields.items():
            object.__setattr__(made, field, self.value(item))
        return made
