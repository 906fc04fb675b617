"""Headers of bulk links, and back, within limits."""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from meshd.config import BLOB_BYTES_MAX, BLOB_CHUNK_BYTES, HEADER_BYTES_MAX
from meshd.core.ids import Digest
from meshd.errors import InvalidError
from meshd.v1 import link_pb2 as pb
from meshd.wire.codec_frames import Hello, hello_message, hello_value
from meshd.wire.fields import bounded, digest, put_digest, text

CHUNKS_MAX = -(-BLOB_BYTES_MAX // BLOB_CHUNK_BYTES)
REASON_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class BlobAsk:
    """Send chunk `chunk` of a blob, or its head (None)."""

    digest: Digest
    chunk: int | None = None


@dataclass(frozen=True, slots=True)
class BlobHead:
    """How large it is; the payload holds the SHA-256 of each chunk."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class BlobChunk:
    """The payload is this chunk."""

    chunk: int


@dataclass(frozen=True, slots=True)
class BlobMissing:
    """No."""

    reason: str


BulkHeader = Hello | BlobAsk | BlobHead | BlobChunk | BlobMissing


def encode_bulk(header: BulkHeader) -> bytes:
    """Bytes of a header."""
    match header:
        case Hello():
            out = pb.BulkHeader(hello=hello_message(header))
        case BlobAsk():
            chunk = 0 if header.chunk is None else header.chunk + 1
            out = pb.BulkHeader(ask=pb.BlobAsk(digest=put_digest(header.digest), chunk_plus_1=chunk))
        case BlobHead():
            out = pb.BulkHeader(head=pb.BlobHead(size_bytes=header.size_bytes))
        case BlobChunk():
            out = pb.BulkHeader(chunk=pb.BlobChunk(chunk_plus_1=header.chunk + 1))
        case BlobMissing():
            reason = "".join(c if c.isprintable() else " " for c in header.reason[:REASON_CHARS_MAX])
            out = pb.BulkHeader(missing=pb.BlobMissing(reason=reason))
    return out.SerializeToString()


def decode_bulk(data: bytes) -> BulkHeader:
    """The header in `data`.

    Raises
    ------
    InvalidError
        Not a header, or a field out of its bounds; names the field.
    """
    if len(data) > HEADER_BYTES_MAX:
        raise InvalidError(f"a header of {len(data)} bytes; at most {HEADER_BYTES_MAX}")
    message = pb.BulkHeader()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidError(f"not a header: {error}") from None
    match message.WhichOneof("kind"):
        case "hello":
            return hello_value(message.hello)
        case "ask":
            chunk = bounded(message.ask.chunk_plus_1, 0, CHUNKS_MAX, "ask.chunk_plus_1")
            return BlobAsk(digest(message.ask.digest, "ask.digest"), chunk - 1 if chunk else None)
        case "head":
            return BlobHead(bounded(message.head.size_bytes, 0, BLOB_BYTES_MAX, "head.size_bytes"))
        case "chunk":
            return BlobChunk(bounded(message.chunk.chunk_plus_1, 1, CHUNKS_MAX, "chunk.chunk_plus_1") - 1)
        case "missing":
            return BlobMissing(text(message.missing.reason, REASON_CHARS_MAX, "missing.reason"))
    raise InvalidError("a header without a kind, or of a newer protocol")
