//! Links: what they join, what they follow, and what they are set to beside their trace.

use super::Need::{Default as Usually, Optional, Required};
use super::{DAY, Field, Kind, Need, SECOND, field, time};

const fn queue(need: Need) -> Field {
    field(
        "queue",
        Kind::Queue,
        need,
        "Queue before the bottleneck where the trace leaves it open, in bytes of IP packets or in \
         packets.",
    )
}

const fn discipline(need: Need) -> Field {
    field(
        "discipline",
        Kind::Choice(&["drop-tail", "drop-head", "codel", "pie"]),
        need,
        "Which packet is dropped, and when: what comes to a full queue (drop-tail), the oldest for \
         it (drop-head), or early, to keep the delay low (codel: RFC 8289; pie: RFC 8033).",
    )
}

const QUEUE_TARGET: Field = field(
    "queue_target",
    time(100_000, SECOND),
    Optional,
    "With discipline `codel` or `pie`: the queueing delay aimed at; 5 ms and 15 ms unless given.",
);

const CODEL_INTERVAL: Field = field(
    "codel_interval",
    time(1_000_000, 10 * SECOND),
    Optional,
    "With discipline `codel`: how long the delay may exceed the target before the first drop; \
     100 ms unless given.",
);

const PIE_UPDATE: Field = field(
    "pie_update",
    time(1_000_000, SECOND),
    Optional,
    "With discipline `pie`: how often the drop probability is computed; 15 ms unless given.",
);

const fn ecn(need: Need) -> Field {
    field(
        "ecn",
        Kind::Boolean,
        need,
        "With discipline `codel` or `pie`: mark packets that can carry it (RFC 3168) where they \
         would be dropped.",
    )
}

const fn reorder(need: Need) -> Field {
    field(
        "reorder",
        Kind::Boolean,
        need,
        "Let jitter reorder packets. Otherwise they stay in order.",
    )
}

pub(super) const LINK: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "between",
        Kind::List {
            of: &Kind::Name,
            least: 2,
        },
        Required,
        "The two nodes it joins; `up` goes from the first to the second.",
    ),
    field("trace", Kind::Identifier, Required, "The trace it follows."),
    field(
        "datapath",
        Kind::Choice(&["auto", "relay", "tc", "edt"]),
        Usually("auto"),
        "How packets are shaped: in userspace (relay), by the kernel (tc, edt), or whatever works best.",
    ),
    field(
        "mode",
        Kind::Choice(&["auto", "low-latency", "exact", "bulk"]),
        Usually("auto"),
        "How the relay works, if it carries the link: every packet at its due time (exact), or \
         passed on at once (low-latency) or in blocks (bulk), which needs a trace that leaves \
         packets alone; auto: low-latency where nothing acts on packets, else exact.",
    ),
    field(
        "cell",
        Kind::Identifier,
        Optional,
        "The cell that it shares with other links: `trace` is then what it could carry if it had \
         every slot of the cell to itself.",
    ),
    field(
        "weight",
        Kind::Integer {
            least: 1,
            most: 1000,
        },
        Optional,
        "With a cell of policy `fixed-share`: its part of every slot, in proportion; 1 unless \
         given.",
    ),
    field(
        "mtu",
        Kind::Integer {
            least: 1280,
            most: 9000,
        },
        Usually("1500"),
        "Largest IP packet, in bytes (IPv6 needs 1280).",
    ),
    field(
        "calibrate",
        Kind::Boolean,
        Usually("true"),
        "Measure it before anything runs over it, which takes some seconds. Phases need links that \
         are measured.",
    ),
    queue(Usually("300 kB")),
    discipline(Usually("drop-tail")),
    QUEUE_TARGET,
    CODEL_INTERVAL,
    PIE_UPDATE,
    ecn(Usually("false")),
    reorder(Usually("false")),
    field(
        "service",
        Kind::Choice(&["fluid", "opportunities"]),
        Usually("fluid"),
        "How the bottleneck serves: bit by bit at the trace's rate (fluid), or in delivery \
         opportunities at the end of each slot, as mahimahi does; what nobody uses is lost.",
    ),
    field(
        "slot",
        time(62_500, SECOND),
        Optional,
        "With service `opportunities`: length of a slot; 1 ms unless given.",
    ),
];

pub(super) const CELL: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "trace",
        Kind::Identifier,
        Optional,
        "What the cell carries at most, all links together, by the rates of a trace. Without it, \
         the traces of the links are the only limit.",
    ),
    field(
        "policy",
        Kind::Choice(&["proportional-fair", "round-robin", "fixed-share"]),
        Usually("proportional-fair"),
        "Who gets a slot: the link whose rate is best compared with what it got of late \
         (proportional-fair), one after the other (round-robin), or all, by weight (fixed-share). \
         What one does not need goes to the others.",
    ),
    field(
        "averaging",
        time(1_000_000, 60 * SECOND),
        Optional,
        "With policy `proportional-fair`: time constant of what a link got of late; 1 s unless \
         given.",
    ),
    field(
        "slot",
        time(62_500, SECOND),
        Usually("1 ms"),
        "Length of a slot. What waits at its start is through at its end.",
    ),
];

pub(crate) const EVENT: &[Field] = &[
    field(
        "name",
        Kind::Identifier,
        Required,
        "Its name in the record.",
    ),
    field(
        "at",
        time(0, DAY),
        Required,
        "When, from the start of the phase.",
    ),
    field(
        "phase",
        Kind::Identifier,
        Optional,
        "The phase; every phase unless given.",
    ),
    field(
        "link",
        Kind::Identifier,
        Optional,
        "The link that changes, if there is more than one.",
    ),
    field(
        "direction",
        Kind::Choice(&["both", "up", "down"]),
        Usually("both"),
        "Which direction of it; settings are those of both.",
    ),
    field(
        "action",
        Kind::Choice(&["set", "override", "clear", "pause", "resume", "jump"]),
        Required,
        "What happens: `set` changes queue, discipline, ecn or reorder; `override` puts values in \
         the place of the trace's, `clear` gives the trace's back; `pause` lets the trace stand \
         still, `resume` go on, `jump` go on from the place `to`.",
    ),
    field(
        "to",
        time(0, DAY),
        Optional,
        "With `jump`: the place in the trace, from its start.",
    ),
    field(
        "rate",
        Kind::Rate,
        Optional,
        "With `override`: bits per second of IP packets; 0 is an outage.",
    ),
    field(
        "delay",
        time(0, 60 * SECOND),
        Optional,
        "With `override`: one-way delay.",
    ),
    field(
        "jitter",
        time(0, SECOND),
        Optional,
        "With `override`: half-width of the uniform jitter.",
    ),
    field(
        "loss",
        Kind::Share { zero: true },
        Optional,
        "With `override`: packet loss.",
    ),
    field(
        "loss_burst",
        Kind::Integer {
            least: 1,
            most: 1000,
        },
        Optional,
        "With `override`: mean burst length of lost packets; 1 is independent loss.",
    ),
    field(
        "duplication",
        Kind::Share { zero: true },
        Optional,
        "With `override`: duplicated packets.",
    ),
    field(
        "corruption",
        Kind::Share { zero: true },
        Optional,
        "With `override`: packets with a flipped bit.",
    ),
    queue(Optional),
    discipline(Optional),
    QUEUE_TARGET,
    CODEL_INTERVAL,
    PIE_UPDATE,
    ecn(Optional),
    reorder(Optional),
];
