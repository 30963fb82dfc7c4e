"""Messages between the bench and a method's process: a JSON header, then the raw bytes of the arrays that it names.

    4 bytes   length of the header, little-endian
    header    {"kind": ..., "arrays": [[name, dtype, shape], ...], ...}
    arrays    C-ordered, little-endian, one after another

Nothing is ever unpickled. docs/protocol.md lists the kinds.
"""

import json
import select
import socket
import struct
from collections.abc import Mapping

import numpy as np

from bench.errors import printable

PREFIX = struct.Struct("<I")
MOST_HEADER = 1 << 24  # bytes
PATIENCE = 60.0  # seconds within which a message that has begun goes on
KINDS = frozenset("biuf")  # of numbers that an array may hold


class ChannelError(Exception):
    """The other side has gone."""


class MessageError(ChannelError):
    """The other side is there, and sends what is no message."""


class Channel:
    """One end of a stream of messages."""

    def __init__(self, end: socket.socket):
        self.end = end

    def send(self, kind: str, arrays: Mapping[str, np.ndarray | bytes] | None = None, **header) -> None:
        """Send a message; bytes travel as arrays of uint8.

        Raises:
            ChannelError: if nobody reads it.
        """
        raw = {
            name: np.frombuffer(one, np.uint8) if isinstance(one, bytes | bytearray) else np.ascontiguousarray(one)
            for name, one in (arrays or {}).items()
        }
        named = [[name, value.dtype.str, list(value.shape)] for name, value in raw.items()]
        text = json.dumps({"kind": kind, "arrays": named, **header}).encode()
        try:
            self.end.sendall(PREFIX.pack(len(text)) + text)
            for value in raw.values():
                self.end.sendall(memoryview(value.reshape(-1).view(np.uint8)))
        except OSError as error:
            raise ChannelError(str(error)) from error

    def receive(self) -> tuple[dict, dict[str, np.ndarray]]:
        """Return the next message: its header, and its arrays by name. Waits for it as long as it takes to begin.

        Raises:
            ChannelError: if there is none.
            MessageError: if there is something else, or but the beginning of one.
        """
        self._wait(None)
        (length,) = PREFIX.unpack(self._read(PREFIX.size))
        if length > MOST_HEADER:
            raise MessageError(f"a header of {length} bytes, where {MOST_HEADER} are the most")
        try:
            header = json.loads(bytes(self._read(length)))
            named = [(name, np.dtype(kind), tuple(shape)) for name, kind, shape in header.pop("arrays")]
            known = all(kind.kind in KINDS and all(type(side) is int and side >= 0 for side in shape)
                        for _, kind, shape in named)  # fmt: skip
            if not known or not isinstance(header["kind"], str):
                raise ValueError("what is no array of numbers")
            made = {name: np.empty(shape, kind) for name, kind, shape in named}
        except (ValueError, TypeError, KeyError, AttributeError, MemoryError, RecursionError, OverflowError) as error:
            raise MessageError(f"a header that cannot be read ({printable(error, but='')[:100]})") from error
        for value in made.values():
            self._fill(memoryview(value.reshape(-1).view(np.uint8)))
        return header, made

    def close(self) -> None:
        """Hang up."""
        self.end.close()

    def _read(self, count: int) -> bytearray:
        content = bytearray(count)
        self._fill(memoryview(content))
        return content

    def _fill(self, place: memoryview) -> None:
        while place:
            if not self._wait(PATIENCE):
                raise MessageError(f"the beginning of a message, and no more of it for {PATIENCE:.0f} s")
            try:
                count = self.end.recv_into(place)
            except OSError as error:
                raise ChannelError(str(error)) from error
            if not count:
                raise ChannelError("the other side has gone")
            place = place[count:]

    def _wait(self, seconds: float | None) -> bool:
        """Whether there is something to read, or nobody left to write it, within so many seconds."""
        ready = select.poll()
        ready.register(self.end, select.POLLIN)
        return bool(ready.poll(seconds and 1000 * seconds))
