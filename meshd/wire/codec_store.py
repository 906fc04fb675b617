"""What a node keeps on disk: values of `Persist` by key, and back."""

from typing import Any

from google.protobuf.message import DecodeError, Message

from meshd.config import ADDRESSES_MAX
from meshd.core import messages as core
from meshd.core.intent_messages import KeptIntent
from meshd.errors import InvalidError
from meshd.v1 import intent_pb2
from meshd.v1 import store_pb2 as pb
from meshd.wire import codec_intent
from meshd.wire.fields import address, counted, put_address


def encode_value(key: str, value: Any) -> bytes:
    """Bytes to keep under `key`."""
    match value:
        case core.KeptBoot():
            return pb.StoredBoot(count=value.count).SerializeToString(deterministic=True)
        case core.KeptPeer():
            peer = pb.StoredPeer()
            for each in value.addresses:
                put_address(peer.addresses.add(), each)
            return peer.SerializeToString(deterministic=True)
        case KeptIntent():
            kept = intent_pb2.StoredIntent()
            codec_intent.put_kept(kept, value)
            return kept.SerializeToString(deterministic=True)
    raise AssertionError(f"no codec for {key}: {type(value).__name__}")


def decode_value(key: str, data: bytes) -> Any:
    """The value that was kept under `key`.

    Raises
    ------
    InvalidError
        The disk gave back something else than was written, or by a newer meshd.
    """
    if key == "boot":
        return core.KeptBoot(_parsed(pb.StoredBoot(), key, data).count)
    if key.startswith("peer/"):
        addresses = counted(_parsed(pb.StoredPeer(), key, data).addresses, ADDRESSES_MAX, key)
        return core.KeptPeer(tuple(address(each, key) for each in addresses))
    if key.startswith("intent/"):
        return codec_intent.kept(_parsed(intent_pb2.StoredIntent(), key, data))
    raise InvalidError(f"{key}: kept by a newer meshd? this one does not know such a key")


def _parsed(message: Any, key: str, data: bytes) -> Any:
    assert isinstance(message, Message)
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidError(f"{key}: damaged on disk: {error}") from None
    return message
