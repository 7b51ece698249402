//! Traffic beside the phases.

use hexloop_traces::Direction;
use hexloop_workloads::traffic::{Carrier, Periods};

use super::{phases, undeclared};
use crate::check::Reporter;
use crate::experiment::{Background, Link, PhaseSpan};
use crate::problem::quoted;
use crate::section::Section;

/// Payload of a datagram unless it is given.
const USUAL_PACKET_BYTES: u32 = 1200;

/// IPv6 and UDP headers, the larger of both families.
const UDP_HEADER_BYTES: u32 = 48;

/// Reads it.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    links: &[Link],
    spans: &[PhaseSpan],
) -> Vec<Background> {
    let mut background = Vec::new();
    for section in file.array("background") {
        let link = phases::crossed_link(reporter, &section, links);
        for (name, origin) in section.list("phases") {
            if !spans.iter().any(|span| span.name == name) {
                let known = spans.iter().map(|span| span.name.as_str());
                undeclared(reporter, ("phase", name), origin, known);
            }
        }
        background.push(Background {
            name: section.text("name"),
            link: link.map(|link| link.name.clone()).unwrap_or_default(),
            direction: match section.text("direction").as_str() {
                "down" => Direction::Down,
                _ => Direction::Up,
            },
            carrier: carrier(reporter, &section, link),
            periods: periods(reporter, &section),
            phases: section.texts("phases"),
            ipv6: section.text("family") == "ipv6",
        });
    }
    background
}

fn carrier(reporter: &mut Reporter<'_>, section: &Section<'_>, link: Option<&Link>) -> Carrier {
    let job = section.text("job");
    for (key, of) in [
        ("congestion_control", "tcp"),
        ("rate", "udp"),
        ("packet", "udp"),
    ] {
        if let Some(written) = section.written(key)
            && section.sound("job").is_some()
            && job != of
        {
            let message = format!("`{key}` means nothing for job `{job}`");
            let help = format!("it goes with job `{of}`");
            reporter.report(&written.origin, message, Some(help));
        }
    }
    if job != "udp" {
        let control = section.optional_text("congestion_control");
        return Carrier::Tcp {
            congestion_control: control.unwrap_or_else(|| "cubic".to_owned()),
        };
    }
    let rate = section.optional_rate_bps("rate");
    if section.written("rate").is_none() {
        let message = "`rate` is missing for job `udp`".to_owned();
        reporter.report(section.origin, message, None);
    } else if rate.is_some_and(|rate| rate == 0 || rate == hexloop_traces::UNLIMITED_RATE_BPS) {
        let message = format!("{} is no constant rate", quoted(&section.text("rate")));
        reporter.report(section.place("rate"), message, None);
    }
    let packet_bytes = match section.sound("packet") {
        Some(_) => u32::try_from(section.size_bytes("packet")).unwrap_or(u32::MAX),
        None => USUAL_PACKET_BYTES,
    };
    if let Some(link) = link
        && packet_bytes > link.mtu.saturating_sub(UDP_HEADER_BYTES)
    {
        let message = format!(
            "a packet of {packet_bytes} B does not fit link {} with mtu {}",
            quoted(&link.name),
            link.mtu
        );
        reporter.report(section.place("packet"), message, None);
    }
    Carrier::Udp {
        rate_bps: rate.unwrap_or(0),
        packet_bytes,
    }
}

fn periods(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Option<Periods> {
    let (on, off) = (
        section.optional_time_ns("on"),
        section.optional_time_ns("off"),
    );
    let written = ["on", "off"].map(|key| section.written(key).is_some());
    if written[0] != written[1] {
        let [there, missing] = if written[0] {
            ["on", "off"]
        } else {
            ["off", "on"]
        };
        let message = format!("`{there}` needs `{missing}`");
        reporter.report(section.place(there), message, None);
    }
    if let Some(law) = section.written("law")
        && written == [false, false]
    {
        let message = "`law` means nothing without `on` and `off`".to_owned();
        reporter.report(&law.origin, message, None);
    }
    Some(Periods {
        on_ns: on?,
        off_ns: off?,
        exponential: section.text("law") == "exponential",
    })
}
