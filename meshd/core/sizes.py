"""Upper bounds of what values take on the wire, so that the core can fill a datagram without encoding it.

Rule: never less than the codec writes (held by a test); a little more costs a little room.
"""

from meshd.core.messages import Fact, FactsDelta, Hardware, Held, IntentRumour, Rumour, Spare

DELTA_BYTES = 67
"""An empty FactsDelta with its tag; it is cut or it has a floor, never both."""


def rumour_bytes(rumour: Rumour) -> int:
    """State, subject, boot, incarnation; addresses; hash; accuser."""
    addresses = sum(26 if ":" in a.host else 14 for a in rumour.addresses)
    return 40 + addresses + (9 if rumour.certificate_hash else 0) + (18 if rumour.accuser else 0)


def intent_bytes(intent: IntentRumour) -> int:
    """Name (at most four bytes a character) and key."""
    return 8 + len(intent.deployment.encode()) + len(intent.key)


def fact_bytes(fact: Fact) -> int:
    """Key, version and value."""
    value = fact.value
    size = 60
    match value:
        case Hardware():
            texts = (value.name, value.software, value.host, value.numeric, *value.labels)
            size += 30 + sum(3 + len(t.encode()) for t in texts)
        case Spare():
            size += 12 + sum(13 + len(name.encode()) for name, _ in value.rates)
        case Held():
            size += 26 + len(value.reason.encode())
        case None:
            pass
        case _:
            size += 22
    return size


def delta_bytes(delta: FactsDelta) -> int:
    """The whole delta."""
    return DELTA_BYTES + sum(fact_bytes(fact) for fact in delta.entries)
