"""How records and plans reach everybody: a rumour carries a key; who never saw what it stands for asks by link.

Rule 1: what comes by link is merged, never obeyed: a record must be signed, a plan must cover its model once.
Rule 2: a key is asked for once a second at most, and not again once it was told.
"""

from meshd.config import DEPLOYMENTS_MAX, LAYERS_MAX, MINUTE, SEGMENTS_MAX, SUCCESSION_MAX, S
from meshd.core.events import Deploy, Effect, Report, SendLink
from meshd.core.ids import NodeId
from meshd.core.intent_messages import IntentAsk, IntentTell
from meshd.core.ledger import NO_PLAN, PART_BYTES, Ledger
from meshd.core.plan import Plan
from meshd.core.registry import Record

ASK_AGAIN_US = 1 * S
ASKED_MAX = 32
INQUIRE_US, INQUIRE_MAX_US = 5 * S, 10 * MINUTE
"""Between questions about one unknown plan to one holder: twice as long each time."""
INQUIRED_MAX, INQUIRE_NAMES_MAX = 256, 16


def heard(ledger: Ledger, source: NodeId, name: str, key: bytes, now_us: int) -> list[Effect]:
    """`source` advertises `key`: ask for it if any of it was never seen here."""
    if len(key) != 2 * PART_BYTES or (name not in ledger.matters and len(ledger.matters) >= DEPLOYMENTS_MAX):
        return []
    matter = ledger.matters.get(name)
    if matter is not None:
        heads, plan = key[:PART_BYTES], key[PART_BYTES:]
        if heads in matter.seen and (plan == NO_PLAN or plan in matter.seen):
            return []
    matter = ledger.matter(name)
    if any(now_us - when < ASK_AGAIN_US for (_, asked_for), when in matter.asked.items() if asked_for == key):
        return []
    matter.asked[source, key] = now_us
    while len(matter.asked) > ASKED_MAX:
        del matter.asked[next(iter(matter.asked))]
    return [SendLink(source, IntentAsk(name))]


def inquire(ledger: Ledger, now_us: int) -> list[Effect]:
    """Ask live holders of plans that are not known here (they were forgotten, or never heard of) for what they have."""
    known = {plan.plan_digest for matter in ledger.matters.values() for plan in matter.plans.all(None)}
    effects: list[Effect] = []
    for segment, holders in ledger.mesh.holders.items():
        if segment.plan in known:
            continue
        for holder in holders:
            key = (holder.node, segment.plan)
            again_us, wait_us = ledger.inquired.get(key, (0, INQUIRE_US))
            if holder.node == ledger.me or (key in ledger.inquired and now_us < again_us):
                continue
            ledger.inquired.pop(key, None)
            ledger.inquired[key] = (now_us + wait_us, min(2 * wait_us, INQUIRE_MAX_US))
            effects += [SendLink(holder.node, IntentAsk(name)) for name in ledger.names()[:INQUIRE_NAMES_MAX]]
    while len(ledger.inquired) > INQUIRED_MAX:
        del ledger.inquired[next(iter(ledger.inquired))]
    return effects


def asked(ledger: Ledger, source: NodeId, ask: IntentAsk) -> list[Effect]:
    """`source` lacks something of a deployment."""
    matter = ledger.matters.get(ask.deployment)
    if matter is None or not matter.told:
        return []
    return [SendLink(source, ledger.tell(ask.deployment))]


def told(ledger: Ledger, source: NodeId, tell: IntentTell, now_us: int) -> list[Effect]:
    """Merge what `source` has of a deployment."""
    name = tell.deployment
    known = name in ledger.matters
    if not known and len(ledger.matters) >= DEPLOYMENTS_MAX:
        return []
    changed, effects = False, list[Effect]()
    for record in tell.records:
        if record.name != name or misshapen(record):
            ledger.refused += 1
        else:
            changed |= ledger.registry.merge(record)
    record_now = ledger.record(name)
    if record_now is None:
        return [Report("intent.refused", name, {"from": source, "reason": "no record whose signature holds"})]
    matter = ledger.matter(name)
    for plan in tell.plans:
        if not plausible(plan, name, record_now):
            ledger.refused += 1
        elif matter.plans.merge(plan):
            changed = True
            effects.append(Report("plan.heard", name, {"epoch": plan.epoch, "planner": plan.planner, "from": source}))
    # What this node advertised is all here, or was refused: it is not asked for again.
    for node, key in [asked for asked in matter.asked if asked[0] == source]:
        matter.saw(key[:PART_BYTES])
        matter.saw(key[PART_BYTES:])
        del matter.asked[node, key]
    if changed:
        matter.problem = ""
        effects += ledger.persist(name)[1]
        ledger.note(name)
    return effects


def plausible(plan: Plan, name: str, record: Record) -> bool:
    """Whether a plan may be taken in: of this deployment, covering every layer once (P3), within the limits."""
    if plan.deployment != name or not plan.is_whole():
        return False
    if plan.deployment_record == record.digest:
        return plan.model == record.model and plan.segments[-1].end == len(record.layers)
    return plan.segments[-1].end <= LAYERS_MAX


def misshapen(asked: Deploy | Record) -> str:
    """What is wrong with the shape of a deploy; empty if nothing."""
    layers, policy = len(asked.layers), asked.policy
    if not 1 <= layers <= LAYERS_MAX:
        return f"a model of {layers} layers: 1 to {LAYERS_MAX} can be placed"
    if len(asked.crossings) != layers - 1:
        return f"{len(asked.crossings)} crossings for {layers} layers: there is one between each two"
    if not 1 <= policy.replicas <= SUCCESSION_MAX:
        return f"{policy.replicas} replicas: 1 to {SUCCESSION_MAX} are possible"
    if not 1 <= policy.segments_min <= min(layers, SEGMENTS_MAX):
        return f"at least {policy.segments_min} segments: this model has {layers} layers, and a plan {SEGMENTS_MAX} segments"
    return ""
