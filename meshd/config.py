"""Every timer and limit, with its reason. Frozen values; no I/O.

Times are integer microseconds (`_us`), sizes integer bytes (`_bytes`), limits end in `_max`. A profile is a
`Timers` value; everything else is the same on every node, or two nodes could refuse each other's messages.
"""

from dataclasses import dataclass, replace
from typing import Final

MS: Final = 1_000
S: Final = 1_000_000
MINUTE: Final = 60 * S
HOUR: Final = 60 * MINUTE
KIB: Final = 1024
MIB: Final = 1024 * KIB

PROTOCOL_VERSION: Final = 1
"""Raised when two versions cannot share a mesh; carried in every datagram header, Hello and mDNS TXT record."""

# Ports: clients expect Triton's, gossip expects memberlist's.
PORT_GOSSIP: Final = 7946
PORT_HTTP: Final = 8000
PORT_GRPC: Final = 8001
PORT_METRICS: Final = 8002

# What one message may be.
DATAGRAM_BODY_BYTES_MAX: Final = 1_152
"""IPv6's minimum MTU of 1,280 less headers, seal and tag: no fragment is ever needed."""
REPLAY_WINDOW: Final = 256
"""Counts remembered of one (source, boot): a mesh that reorders by more than a batch of datagrams has lost them."""
SECRETS_MAX: Final = 4
"""Keys in a mesh key file: one that seals, and old or coming ones; each costs a stranger's datagram one more try."""
CONTROL_FRAME_BYTES_MAX: Final = 1 * MIB
"""A plan of 256 segments and a sync of 10,000 members both fit; a stranger cannot make us buffer more."""
DATA_FRAME_BYTES_MAX: Final = 64 * MIB
"""A batch of 64 images at 512x512x3 float32 is 192 MiB and is split; one activation of the models we serve is under 16."""
HEADER_BYTES_MAX: Final = 16 * KIB
"""A Lost of 256 legs and a Forward whose route has 63 segments of 4 candidates both fit."""
WRITE_PIECE_BYTES: Final = 64 * KIB
"""Large frames leave in pieces of this size; an Ack waits at most for one piece."""

# Links between peers.
LINK_CONNECT_US: Final = 2 * S
LINK_GREETING_US: Final = 5 * S
"""From the first byte to a Hello: a handshake takes a slow board 50 ms; a stranger may hold a thread this long."""
LINK_SILENT_US: Final = 10 * S
"""TCP gives up on bytes nobody took in, or an echo nobody answered. Requests do not wait for it (ack time)."""
LINK_ECHO_US: Final = 2 * S
"""An idle link measures its round trip this often."""
LINK_UNHEARD_US: Final = 100 * MS
"""A connection the peer has not answered yet is looked at this often: it may be closed, which a writer cannot read."""
LINK_BACK_OFF_MIN_US: Final = 100 * MS
LINK_BACK_OFF_MAX_US: Final = 5 * S
"""Between dials of a link that should stand: a peer that comes back dials itself, so this seldom delays anything."""
LINK_UNSENT_BYTES: Final = 128 * KIB
"""What may lie unsent in the kernel: more, and an Ack waits behind it; less, and a fast link idles between wakes."""
LINKS_MAX: Final = 256
"""Peers one node has links to: segments and alternates of its deployments; each costs two threads."""
GREETINGS_MAX: Final = 32
"""Connections that have not shown who they are yet; strangers beyond it are closed."""
GREETINGS_A_HOST_MAX: Final = 12
"""Of which from one address, so that one machine cannot take all."""
LANE_SMALL_FRAMES_MAX: Final = 4_096
"""Acks of all that may be in flight; a peer that does not take even these in is gone."""
LANE_LARGE_FRAMES_MAX: Final = 256
LANE_LARGE_BYTES_MAX: Final = 2 * DATA_FRAME_BYTES_MAX
"""Payloads waiting for one link: beyond it the sender is told at once and asks somebody else."""

CONTROL_QUEUE_FRAMES_MAX: Final = 256
CONTROL_QUEUE_BYTES_MAX: Final = 8 * MIB
"""Messages waiting for one control link: a few syncs of a large mesh; a peer further behind is closed."""
CONTROL_IDLE_US: Final = 60 * S
"""A control link nobody used for this long closes: four sync periods."""
CONTROL_LINGER_US: Final = 5 * S
"""Two control links opened within this time were dialled at once; the one that is not used is read this long."""
CONTROL_LINKS_MAX: Final = 512
"""Open at once; the one used longest ago makes room."""

BLOB_CHUNK_BYTES: Final = 1 * MIB
"""What is asked of one holder at a time and verified at once: 0.3 s of a 25 Mbit/s link."""
BULK_SOURCES_MAX: Final = 3
"""Holders asked at once for one blob: more would not fill one receiver's link faster."""
BULK_AHEAD_MAX: Final = 8
"""Chunks fetched ahead of the one the disk waits for: memory for one fetch."""
BULK_SERVED_MAX: Final = 8
"""Peers served blobs at once."""
BULK_SHARE_PERCENT: Final = 25
"""Of a link's measured rate that blobs may take while requests cross links of this node."""
BULK_QUIET_US: Final = 500 * MS
"""No request crossed a link for this long: blobs may take all of it."""

DISCOVERY_POLL_US: Final = 5 * S
"""Interfaces that came or went are noticed within this time."""
DISCOVERY_AGAIN_US: Final = 1 * S
"""The same sighting is told at most this often: an announcement is repeated three times."""

# Tensors and models that come from outside.
TENSOR_RANK_MAX: Final = 8
TENSOR_BYTES_MAX: Final = DATA_FRAME_BYTES_MAX
TENSORS_PER_REQUEST_MAX: Final = 256
MODEL_OPERATIONS_MAX: Final = 20_000
MODEL_TENSORS_MAX: Final = 100_000
MODEL_BYTES_MAX: Final = 2 * 1024 * MIB
BLOB_BYTES_MAX: Final = 512 * MIB
TOPOLOGY_BYTES_MAX: Final = 16 * MIB
NAME_CHARS_MAX: Final = 256
LAYERS_MAX: Final = 512
"""Units between cuts a deployment may have: the solver is quadratic in them; longer models have neighbours merged."""
ENGINE_CALLS_MAX: Final = 8
"""Calls of one segment at once, each in an arena of its own; more than cores only wait for each other."""

# Core tables.
MEMBERS_MAX: Final = 16_384
"""The largest mesh simulated is 10,000; past this a Join is refused and counted."""
ADDRESSES_MAX: Final = 4
"""Addresses a member names: IPv4 and IPv6 of two interfaces; more would not fit beside a certificate."""
CERTIFICATE_BYTES_MAX: Final = 768
"""A self-signed P-256 certificate with two names is about 500; it must fit a datagram beside two nonces."""
NEWS_A_DATAGRAM_MAX: Final = 64
"""Rumours (deltas, intents) in one datagram: more cannot fit in its bytes, so a greater count is an attack."""
NEWS_BYTES_MAX: Final = DATAGRAM_BODY_BYTES_MAX - 64
"""What news may take of a datagram; the rest holds the body it rides on."""
PROBES_MAX: Final = 256
"""Probes running at once, suspects included: a mesh of which more is silent is not helped by probing faster."""
RELAYS_MAX: Final = 256
"""Pings sent for others: over it a PingReq is dropped, which its sender takes as loss."""
CHALLENGES_MAX: Final = 1_024
"""Strangers and new boots waiting to return a number; the oldest is forgotten first."""
JOINS_MAX: Final = 64
"""Addresses being joined at once, and as many waiting: a whole mesh sighted by mDNS at once is joined in turns."""
SYNCS_SERVED_MAX: Final = 4
"""A node that everyone joins at once answers the rest at their next try."""
SYNC_ITEMS_A_FRAME_MAX: Final = 256
"""Members in one SyncItems frame; with a certificate and ordinary facts each, half a control frame."""
SYNC_FACTS_BYTES_A_FRAME_MAX: Final = 512 * KIB
PEERS_KEPT_MAX: Final = 256
"""Peers remembered on disk: a few that still live are enough to find the mesh again."""
BUCKETS: Final = 256
"""Of anti-entropy: at 10,000 members a difference costs about forty digests, not ten thousand."""
DELTAS_REMEMBERED_MAX: Final = 2_048
"""Deltas of facts, as read, by their bytes: each comes from many peers. At most a datagram's worth each, a few kB as values."""
FACT_TOMBSTONES_MAX: Final = 64
"""Facts gone that a store still tells about; a reader further behind gets the facts whole."""
TOMBSTONES_MIN: Final = 256
INTENT_KEY_BYTES_MAX: Final = 96
LABELS_MAX: Final = 16
LABEL_CHARS_MAX: Final = 64
RATES_MAX: Final = 16
"""Cost classes a node may state."""
FACT_ENTRIES_MAX: Final = 512
FACT_BYTES_MAX: Final = 64 * KIB
DEPLOYMENTS_MAX: Final = 4_096
VECTOR_ENTRIES_MAX: Final = 256
HEADS_MAX: Final = 16
"""Concurrent deploys of one name: more people at once are not told apart."""
PLANS_PER_DEPLOYMENT_MAX: Final = 4
OFFERS_REMEMBERED_MAX: Final = 64
"""Offers a node bid on whose award may still come."""
PLANNERS_MAX: Final = 4
"""Nodes that try to plan, by rank, before a matter rests until the mesh changes."""
LOAD_RETRY_US: Final = 1 * S
LOAD_RETRY_MAX_US: Final = 60 * S
"""A load that failed is tried again after 1 s, then twice as long each time, up to this."""
RATE_UNKNOWN: Final = 50_000_000
"""Multiply-accumulates a second assumed of a cost class that a node did not measure: slow, so that others go first."""
BID_WINDOW_US: Final = 400 * MS
"""A planner waits so long for bids: a round trip on a bad link; the dead and the deaf are left out."""
AWARD_WINDOW_US: Final = 500 * MS
ROUNDS_MAX: Final = 3
"""Of one negotiation, each without those who refused."""
TOLD_AT_ONCE_MAX: Final = 16
"""Nodes told of a new record or plan by link at once; the rest hear the rumour."""
COMMANDS_MAX: Final = 256
"""Operators' commands that wait for their answer at once: somebody typed each."""
CANDIDATES_MAX: Final = 256
"""Nodes asked for a bid at once: in a larger mesh three quarters of these by their facts, the rest by chance."""
FLAPS_MAX: Final = 3
FLAP_US: Final = 10 * MINUTE
"""A node that came back so often within this time is flapping: it keeps what it holds, and gets more only in need."""
FLAPPING_TIMES: Final = 8
"""So many times slower a flapping node counts for what it does not hold: more than two boards of one mesh usually differ."""
DEPLOY_ANSWER_US: Final = 60 * S
DRAIN_ANSWER_US: Final = 120 * S
DISKS_MIN: Final = 3
"""Nodes that keep a live deployment's blobs: two may die at once."""
FETCH_AGAIN_US: Final = 10 * S
PLAN_AGAIN_US: Final = 30 * S
"""A planner that found no way tries again after this, or at once when the mesh changed."""
SHORT_AGAIN_US: Final = 60 * S
"""A plan with fewer copies than asked for is looked at again so often: who did not answer when it was made may be well."""
READY_YOUNG_US: Final = 60 * S
"""A holder READY for less stands behind its neighbour: it may be flapping."""
SEGMENTS_MAX: Final = 64
SUCCESSION_MAX: Final = 16
TIMERS_MAX: Final = 65_536
CORE_EVENTS_QUEUE_MAX: Final = 4_096
"""Inputs waiting for the driver. A full queue refuses datagrams (they are lossy anyway) and blocks threads."""

# Requests.
REQUEST_DEADLINE_US: Final = 30 * S
"""When the client gave none."""
REQUESTS_IN_FLIGHT_MAX: Final = 1_024
REQUEST_BYTES_KEPT_MAX: Final = 256 * MIB
"""Inputs kept at the entry until answered, over all requests."""
TRIES_MAX: Final = 3
"""Attempts at one request for which nobody else is to blame: hedges, and what comes after an error."""
ATTEMPTS_MAX: Final = 8
"""Those, and repeats for holders known to be gone: a split takes several at once, and each is suspected in its own time."""
HOPS_MAX: Final = 64
ROUTES_REMEMBERED_MAX: Final = 4_096
SEEN_US: Final = 10 * S
"""How long a holder drops a (request, attempt, segment) it saw, and remembers a cancel."""
POISON_US: Final = 10 * MINUTE
POISON_DIGEST_BYTES: Final = 16
POISONS_TOLD_MAX: Final = 16
"""Newest ones that a peer is told of when its link comes up: whoever died of one starts again, and may be asked for it."""

# The shell of one daemon.
SETTINGS_BYTES_MAX: Final = 64 * KIB
"""meshd.toml has some twenty keys."""
DATAGRAMS_A_WAKE_MAX: Final = 256
"""Drained before timers fire; more would let a flood starve the timers."""
INPUTS_A_WAKE_MAX: Final = 256
"""From threads and links, for the same reason."""
PERSISTS_A_BATCH_MAX: Final = 512
"""One transaction, one fsync; a burst larger than this takes several."""
SOLVES_AT_ONCE_MAX: Final = 1
"""A small device has one core to spare for planning."""
EVENTS_KEPT_MAX: Final = 1_024
"""What `meshctl events` can look back on; a reader further behind is told how many it missed."""
WATCHERS_MAX: Final = 16
"""Admin streams open at once: each holds a thread."""
PIECE_BYTES_MAX: Final = 1 * MIB
"""Of a blob, in one message of the admin API."""
DATA_LINKS_MAX: Final = 128
"""Peers one node keeps data links to: four threads and two TLS connections each."""
DIAGNOSE_STRANGERS_MAX: Final = 64
"""Nodes the doctor looks at in one visit, two seconds each, eight at once."""
HEARD_MAX: Final = 1_024
"""Nodes remembered from mDNS; a LAN segment with more has other troubles."""
METRICS_CALLERS_MAX: Final = 16
"""Scrapers come one at a time; more is no scraper."""
PORT_OFF: Final = -1
"""A port that is not served."""
MODELS_KEPT_MAX: Final = 256
"""Topologies on one disk; a listing parses each."""
TOKENS_MAX: Final = 1_024
"""Client tokens; looked up on each remote call."""
STORE_VALUE_BYTES_MAX: Final = 1 * MIB
"""One kept core value: as much as one control frame."""
DRAIN_US: Final = 10 * S
"""On SIGTERM: systemd's patience is longer, a person's is not."""

# A request's journey (DESIGN section 4); each value's reason stands with the rule that uses it, in `core/journey`.
ACK_WAIT_MIN_US: Final = 50 * MS
ACK_WAIT_MAX_US: Final = 500 * MS
"""A hop that shows no progress for clamp(4 x p99 ack, these) has failed: below 50 ms a busy Python thread looks dead."""
LATE_MIN_US: Final = 50 * MS
LATE_MAX_US: Final = 1 * S
"""A request is late past clamp(3 x p99 of first successes, these)."""
SKIP_US: Final = 2 * S
SKIP_MAX_US: Final = 30 * S
"""A next hop that was down or stalled is skipped this long, doubling."""
HEDGE_CREDIT_MIN: Final = 5
HEDGE_CREDIT_MAX: Final = 50
"""Repeats saved up at most: what is in flight at one stalled owner at 50 requests/s, until it turns suspect."""
RETRY_AFTER_US: Final = 100 * MS
"""First pause before an attempt when nobody could be reached; four times longer before the next."""
RETRY_SPACE_US: Final = 20 * MS
"""Views come in bursts when a network heals: news shortens a pause, but not below this."""
UNREACHABLE_US: Final = 1_500 * MS
"""So long a request waits for a holder that can be reached; then that there is none is its answer."""
STRIKES_MAX: Final = 3
"""Late attempts in a row without an answer between, after which a node is asked last."""
VERDICT_US: Final = 4 * S
"""How long a request that lost two holders waits for membership to say whether they died."""
POISONS_MAX: Final = 1_024
SEEN_MAX: Final = 16_384
CANCELS_REMEMBERED_MAX: Final = 4_096
PASSAGES_MAX: Final = 2_048
"""Frames on their way to a next hop and not yet acknowledged; each keeps its payload."""
QUEUE_JOBS_MAX: Final = 1_024
BATCH_PARTS_MAX: Final = 8
PART_US_MIN: Final = 10 * MS
"""A part of a split batch computes at least this long: a trip costs about one."""
INLINE_LINK_US: Final = 500
INLINE_LINK_BYTES_MAX: Final = 64 * KIB
"""A link's reader itself runs what is this short and small: it is away from its socket no longer than for a large frame."""
INLINE_US: Final = 2 * MS
"""A segment shorter than this runs on the thread that brought the request: two thread switches cost a quarter of it."""
QUEUE_SLACK_US: Final = 50 * MS
"""A short job may wait this long at a holder, a long one three quarters of what it takes itself; then the holder is busy."""
ADMISSION_START: Final = 32
ADMISSION_MIN: Final = 2
ADMISSION_IDLE: Final = 8
ADMISSION_SLACK_US: Final = 75 * MS
"""Twice the unloaded latency is overload only where it is also this much more: a 1 ms model may take 20 ms for once."""
ADMISSION_MEMORY_US: Final = 60 * S
"""The unloaded latency is the least of the last one to two of these."""

# Client gRPC.
CLIENT_MESSAGE_BYTES_MAX: Final = TENSOR_BYTES_MAX + 1 * MIB
"""One request: the largest tensor, and what is written around it."""
CLIENT_THREADS: Final = 64
"""Calls that may wait for the mesh at once; they start when they are needed. Admission refuses long before."""
STREAMS_MAX: Final = 16
"""Open ModelStreamInfer and Watch calls; each keeps a thread."""
STREAM_WINDOW: Final = 8
"""Requests of one stream in flight; reading stops there, and gRPC's flow control stops the client."""

# Client HTTP.
HTTP_HEAD_BYTES_MAX: Final = 16 * KIB
"""A request's line and headers; a token and a traceparent are under one."""
HTTP_JSON_BYTES_MAX: Final = 2 * MIB
"""Parsed in one go with the GIL held (25 ms a MiB on a small board) into thirty times as much; 200 x 200 x 3 numbers fit."""
HTTP_JSON_NUMBERS_MAX: Final = 131_072
"""In an answer: what the largest JSON would hold."""
HTTP_CONNECTIONS_MAX: Final = 128
"""Each costs some 60 KiB and a task; clients keep theirs open, a few each. More are closed at once."""
HTTP_CALLS_MAX: Final = CLIENT_THREADS
"""Calls at once, those still being read included; more are told to come again."""
HTTP_BODIES_BYTES_MAX: Final = REQUEST_BYTES_KEPT_MAX
"""Bodies being read, over all calls."""
HTTP_IDLE_US: Final = 30 * S
"""From a connection's start, or its last answer, to the end of the next request's headers."""
HTTP_BODY_US: Final = 60 * S
"""From the headers to the last byte: the largest request over 10 Mbit/s."""
HTTP_STALL_US: Final = 10 * S
"""A client that takes in no 64 KiB of its answer for so long is gone."""

SWITCH_INTERVAL_S: Final = 0.0005
"""sys.setswitchinterval: at the default 5 ms sixteen busy threads delay a ping's answer by 152 ms (median)."""


@dataclass(frozen=True, slots=True)
class Timers:
    """The control plane's timers. Defaults are the `default` profile."""

    probe_period_us: int = 500 * MS
    ping_offsets_us: tuple[int, ...] = (0, 75 * MS, 150 * MS, 225 * MS)
    """NB one ping at 20 % loss suspects a healthy peer in 36 % of probes; four, stopping at the first ack, in 0.1 %."""
    ack_window_min_us: int = 100 * MS
    ack_window_max_us: int = 400 * MS
    indirect_peers: int = 3
    suspicion_min_periods: int = 6
    suspicion_max_factor: int = 6
    watch_suspects: bool = True
    """NB while it accuses one, a node probes it every period; False only in the baselines."""
    health_max: int = 7
    """Lifeguard's multiplier, less one, of the probe period of a node that seems unwell; 0 is plain SWIM."""
    last_pings: int = 4
    last_pings_us: int = 300 * MS
    gossip_period_us: int = 200 * MS
    gossip_fanout: int = 3
    gossip_all_below: int = 8
    """Up to this many members news goes to all at once."""
    rumour_sends_factor: int = 3
    sync_period_us: int = 15 * S
    contact_dead_us: int = 5 * S
    contact_dead_for_us: int = 24 * HOUR
    contact_seeds_us: int = 60 * S
    contact_alone_us: int = 2 * S
    """Seeds and remembered peers while this node knows nobody: it has nothing better to do."""
    join_retry_us: int = 250 * MS
    join_tries: int = 8
    hint_gap_us: int = 500 * MS
    """A failing link hints with every request; two probes a second say all there is to say."""
    facts_gap_us: int = 2 * S
    """Between two publications of capacity; stretched with N so that facts stay near 1 kB/s a node."""
    boot_raise_gap_us: int = 10 * S
    tombstone_left_us: int = 1 * HOUR
    tombstone_dead_us: int = 24 * HOUR
    planner_step_us: int = 2 * S
    """The node at rank i plans if nothing settled the matter after i of these."""
    reservation_us: int = 10 * S
    clone_after_us: int = 5 * S
    """Two boots of one id that both answer for this long are two machines, not one that restarted."""
    replace_after_us: int = 10 * S
    """From DEAD to the making of a missing replica (a missing segment is made at once)."""
    unload_after_us: int = 10 * S
    unload_surplus_after_us: int = 10 * MINUTE
    overdue_us: int = 60 * S
    optimise_after_us: int = 120 * S
    """Of quiet before a plan may be bettered, and the span over which the moment is drawn."""
    optimise_again_us: int = 30 * MINUTE


_MEMBERLIST: Final = replace(
    Timers(),
    probe_period_us=1 * S,
    ping_offsets_us=(0,),
    ack_window_min_us=500 * MS,
    ack_window_max_us=500 * MS,
    suspicion_min_periods=4,
    watch_suspects=False,
    last_pings=0,
    gossip_all_below=0,
    sync_period_us=30 * S,
)

PROFILES: Final = {
    "default": Timers(),
    "fast": replace(Timers(), suspicion_min_periods=4),
    "lowpower": replace(Timers(), probe_period_us=1 * S, gossip_period_us=500 * MS),
    # Baselines to compare with, never to run: memberlist's LAN settings, and SWIM without Lifeguard.
    "memberlist": _MEMBERLIST,
    "swim": replace(_MEMBERLIST, suspicion_min_periods=5, suspicion_max_factor=1, health_max=0),
}
