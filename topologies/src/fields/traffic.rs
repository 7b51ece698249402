//! Phases without a model, and the plain traces that suit them.

use super::Need::{Default as Usually, Optional, Required};
use super::{DAY, Field, Kind, SECOND, field, time};

pub(super) const STEPS: &[Field] = &[
    field(
        "rates",
        Kind::List {
            of: &Kind::Rate,
            least: 1,
        },
        Required,
        "The rates, the same in both directions.",
    ),
    field(
        "step",
        time(1_000_000, DAY),
        Usually("500 ms"),
        "How long each one lasts.",
    ),
    field(
        "delay",
        time(0, 60 * SECOND),
        Usually("0 ms"),
        "One-way delay, the same all the time.",
    ),
    field(
        "duration",
        time(1_000_000, DAY),
        Usually("20 s"),
        "Length of the trace; its last rate holds after it.",
    ),
];

pub(super) const TRAFFIC: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "job",
        Kind::Choice(&["bulk", "ping"]),
        Required,
        "What is sent: as much as TCP takes (bulk), or UDP packets that are sent back (ping).",
    ),
    field(
        "link",
        Kind::Identifier,
        Optional,
        "The link that it crosses, if there is more than one.",
    ),
    field(
        "beside",
        Kind::List {
            of: &Kind::Identifier,
            least: 1,
        },
        Optional,
        "Further links that are filled or probed at the same time in the same way, such as those \
         that share a cell with `link`.",
    ),
    field(
        "direction",
        Kind::Choice(&["both", "up", "down"]),
        Optional,
        "With job `bulk`: which direction is filled; both unless given.",
    ),
    field(
        "gap",
        time(1_000_000, 60 * SECOND),
        Optional,
        "With job `ping`: time between packets; 20 ms unless given.",
    ),
    field(
        "load",
        Kind::Boolean,
        Usually("false"),
        "Burn all CPU time of both nodes meanwhile.",
    ),
    field(
        "family",
        Kind::Choice(&["ipv4", "ipv6"]),
        Usually("ipv4"),
        "The address family.",
    ),
    field(
        "duration",
        time(1_000_000_000, DAY),
        Required,
        "Length of the phase.",
    ),
];
