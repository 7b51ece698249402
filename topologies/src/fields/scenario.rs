//! A trace that is generated: its scenario and what is scripted on top.

use super::Need::{Default as Usually, Optional, Required};
use super::{DAY, Field, Kind, SECOND, field, time};

/// Keys that mean something only beside `scenario`.
pub(crate) const WITH_SCENARIO: &[&str] = &["duration", "step", "user", "set"];

pub(crate) const TRACE_EVENT: &[Field] = &[
    field(
        "name",
        Kind::Identifier,
        Required,
        "Its name, which the trace tells where it begins.",
    ),
    field(
        "kind",
        Kind::Choice(&["outage", "maintenance", "load"]),
        Usually("outage"),
        "Nothing gets through; part of the capacity is gone and packets take a detour; others take \
         part of the capacity.",
    ),
    field("at", time(0, DAY), Required, "When it begins."),
    field("length", time(1_000, DAY), Required, "How long it lasts."),
    field(
        "every",
        time(1_000, DAY),
        Optional,
        "After how long it begins again; without it, once.",
    ),
    field(
        "direction",
        Kind::Choice(&["both", "down", "up"]),
        Usually("both"),
        "Which directions.",
    ),
    field(
        "share",
        Kind::Share { zero: false },
        Optional,
        "The share of the capacity that is gone, for `load` and `maintenance`.",
    ),
    field(
        "delay",
        time(0, 60 * SECOND),
        Optional,
        "What is added to the one-way delay, for `maintenance`.",
    ),
];
