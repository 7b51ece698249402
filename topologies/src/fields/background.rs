//! Traffic beside the phases.

use super::Need::{Default as Usually, Optional, Required};
use super::{DAY, Field, Kind, field, time};

pub(super) const BACKGROUND: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "job",
        Kind::Choice(&["tcp", "udp"]),
        Required,
        "What is sent: as much as a TCP connection takes, or UDP at a constant `rate`.",
    ),
    field(
        "link",
        Kind::Identifier,
        Optional,
        "The link that it crosses, if there is more than one.",
    ),
    field(
        "direction",
        Kind::Choice(&["up", "down"]),
        Required,
        "Which way: up goes from the link's first end to its second.",
    ),
    field(
        "congestion_control",
        Kind::Choice(&["cubic", "bbr", "reno"]),
        Optional,
        "With job `tcp`: how the connection is controlled; cubic unless given. Where the kernel \
         lacks it or keeps jobs from it, the run does not begin.",
    ),
    field(
        "rate",
        Kind::Rate,
        Optional,
        "With job `udp`: bits of IP packets per second.",
    ),
    field(
        "packet",
        Kind::Size {
            least: 64,
            most: 8_952,
        },
        Optional,
        "With job `udp`: payload of a packet; 1200 B unless given.",
    ),
    field(
        "on",
        time(1_000_000, DAY),
        Optional,
        "With `off`: how long it is on at a time; it is on all the time without.",
    ),
    field(
        "off",
        time(1_000_000, DAY),
        Optional,
        "With `on`: how long it is off in between.",
    ),
    field(
        "law",
        Kind::Choice(&["fixed", "exponential"]),
        Optional,
        "With `on` and `off`: whether these are the lengths, or means that lengths are drawn with; fixed \
         unless given.",
    ),
    field(
        "phases",
        Kind::List {
            of: &Kind::Identifier,
            least: 1,
        },
        Optional,
        "The phases that it is beside; all unless given.",
    ),
    field(
        "family",
        Kind::Choice(&["ipv4", "ipv6"]),
        Usually("ipv4"),
        "The address family.",
    ),
];
