from meshd.v1 import gossip_pb2 as _gossip_pb2
from meshd.v1 import intent_pb2 as _intent_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LinkMessage(_message.Message):
    __slots__ = ("sync_root", "sync_buckets", "sync_digests", "sync_items", "offer", "bid", "decline", "award", "accept", "reject", "intent_ask", "intent_tell")
    SYNC_ROOT_FIELD_NUMBER: _ClassVar[int]
    SYNC_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    SYNC_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    SYNC_ITEMS_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    DECLINE_FIELD_NUMBER: _ClassVar[int]
    AWARD_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    INTENT_ASK_FIELD_NUMBER: _ClassVar[int]
    INTENT_TELL_FIELD_NUMBER: _ClassVar[int]
    sync_root: SyncRoot
    sync_buckets: SyncBuckets
    sync_digests: SyncDigests
    sync_items: SyncItems
    offer: _intent_pb2.Offer
    bid: _intent_pb2.Bid
    decline: _intent_pb2.Decline
    award: _intent_pb2.Award
    accept: _intent_pb2.Accept
    reject: _intent_pb2.Reject
    intent_ask: _intent_pb2.IntentAsk
    intent_tell: _intent_pb2.IntentTell
    def __init__(self, sync_root: _Optional[_Union[SyncRoot, _Mapping]] = ..., sync_buckets: _Optional[_Union[SyncBuckets, _Mapping]] = ..., sync_digests: _Optional[_Union[SyncDigests, _Mapping]] = ..., sync_items: _Optional[_Union[SyncItems, _Mapping]] = ..., offer: _Optional[_Union[_intent_pb2.Offer, _Mapping]] = ..., bid: _Optional[_Union[_intent_pb2.Bid, _Mapping]] = ..., decline: _Optional[_Union[_intent_pb2.Decline, _Mapping]] = ..., award: _Optional[_Union[_intent_pb2.Award, _Mapping]] = ..., accept: _Optional[_Union[_intent_pb2.Accept, _Mapping]] = ..., reject: _Optional[_Union[_intent_pb2.Reject, _Mapping]] = ..., intent_ask: _Optional[_Union[_intent_pb2.IntentAsk, _Mapping]] = ..., intent_tell: _Optional[_Union[_intent_pb2.IntentTell, _Mapping]] = ...) -> None: ...

class SyncRoot(_message.Message):
    __slots__ = ("root",)
    ROOT_FIELD_NUMBER: _ClassVar[int]
    root: int
    def __init__(self, root: _Optional[int] = ...) -> None: ...

class SyncBuckets(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, hashes: _Optional[_Iterable[int]] = ...) -> None: ...

class SyncDigests(_message.Message):
    __slots__ = ("buckets", "members", "intents")
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    INTENTS_FIELD_NUMBER: _ClassVar[int]
    buckets: _containers.RepeatedScalarFieldContainer[int]
    members: _containers.RepeatedCompositeFieldContainer[MemberDigest]
    intents: _containers.RepeatedCompositeFieldContainer[_gossip_pb2.IntentRumour]
    def __init__(self, buckets: _Optional[_Iterable[int]] = ..., members: _Optional[_Iterable[_Union[MemberDigest, _Mapping]]] = ..., intents: _Optional[_Iterable[_Union[_gossip_pb2.IntentRumour, _Mapping]]] = ...) -> None: ...

class MemberDigest(_message.Message):
    __slots__ = ("node", "boot", "incarnation", "state", "facts_boot", "facts_version", "certificate_hash")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FACTS_BOOT_FIELD_NUMBER: _ClassVar[int]
    FACTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_HASH_FIELD_NUMBER: _ClassVar[int]
    node: bytes
    boot: int
    incarnation: int
    state: _gossip_pb2.MemberState
    facts_boot: int
    facts_version: int
    certificate_hash: int
    def __init__(self, node: _Optional[bytes] = ..., boot: _Optional[int] = ..., incarnation: _Optional[int] = ..., state: _Optional[_Union[_gossip_pb2.MemberState, str]] = ..., facts_boot: _Optional[int] = ..., facts_version: _Optional[int] = ..., certificate_hash: _Optional[int] = ...) -> None: ...

class SyncItems(_message.Message):
    __slots__ = ("members", "wanted", "intents")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    INTENTS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[MemberItem]
    wanted: _containers.RepeatedCompositeFieldContainer[MemberDigest]
    intents: _containers.RepeatedCompositeFieldContainer[_gossip_pb2.IntentRumour]
    def __init__(self, members: _Optional[_Iterable[_Union[MemberItem, _Mapping]]] = ..., wanted: _Optional[_Iterable[_Union[MemberDigest, _Mapping]]] = ..., intents: _Optional[_Iterable[_Union[_gossip_pb2.IntentRumour, _Mapping]]] = ...) -> None: ...

class MemberItem(_message.Message):
    __slots__ = ("rumour", "certificate", "facts", "age_s")
    RUMOUR_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    rumour: _gossip_pb2.Rumour
    certificate: bytes
    facts: _gossip_pb2.FactsDelta
    age_s: int
    def __init__(self, rumour: _Optional[_Union[_gossip_pb2.Rumour, _Mapping]] = ..., certificate: _Optional[bytes] = ..., facts: _Optional[_Union[_gossip_pb2.FactsDelta, _Mapping]] = ..., age_s: _Optional[int] = ...) -> None: ...
