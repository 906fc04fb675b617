"""Bytes ↔ core values, every field checked: datagrams, control links, and what is kept on disk.

Rule: what does not decode changes nothing; the error names the field.
"""

from meshd.wire.codec_control import decode_link, encode_link
from meshd.wire.codec_gossip import decode_gossip, encode_gossip
from meshd.wire.codec_store import decode_value, encode_value

__all__ = ["decode_gossip", "decode_link", "decode_value", "encode_gossip", "encode_link", "encode_value"]
