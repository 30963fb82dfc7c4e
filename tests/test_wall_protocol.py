"""What is no message: whoever hears it is told so at once, and never waits for the rest of it."""

import json
import socket

import pytest

from bench.wall import protocol
from bench.wall.protocol import PREFIX, Channel, ChannelError, MessageError


@pytest.fixture
def ends(monkeypatch):
    monkeypatch.setattr(protocol, "PATIENCE", 0.05)
    near, far = socket.socketpair()
    with near, far:
        yield near, Channel(far)


def message(header: object, rest: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return PREFIX.pack(len(text)) + text + rest


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\x80\x04K\x01." + b"\xff" * 4096, "a header of 21693568 bytes"),
        (b"\x80", "the beginning of a message"),
        (PREFIX.pack(100) + b"{", "the beginning of a message"),
        (message({"kind": "answer", "arrays": [["scores", "<f4", [8]]]}, bytes(31)), "the beginning of a message"),
        (message(b"\xff" * 20), "a header that cannot be read"),
        (message(b"[" * 100_000), "a header that cannot be read"),
        (message({"kind": "answer", "arrays": [["scores", "O", [1]]]}), "a header that cannot be read"),
        (message({"kind": "answer", "arrays": [["scores", "<f4", [1 << 80]]]}), "a header that cannot be read"),
        (message({"kind": 3, "arrays": []}), "a header that cannot be read"),
    ],
)
def test_what_is_no_message_is_told_as_such(sent, said, ends):
    near, channel = ends
    near.sendall(sent)
    with pytest.raises(MessageError, match=said):
        channel.receive()


def test_who_has_gone_has_sent_nothing_wrong(ends):
    near, channel = ends
    near.close()
    with pytest.raises(ChannelError, match="the other side has gone") as caught:
        channel.receive()
    assert not isinstance(caught.value, MessageError)
