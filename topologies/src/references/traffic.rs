//! Phases without a model.

use hexloop_traces::Direction;

use super::{phases, undeclared};
use crate::check::Reporter;
use crate::experiment::{Link, Phase, Traffic};
use crate::plan::TrafficJob;
use crate::problem::quoted;
use crate::section::Section;

/// Time between the packets of a ping unless it is given.
const USUAL_GAP_NS: u64 = 20_000_000;

/// Reads the traffic phases.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    links: &[Link],
    others: &[Phase],
) -> Vec<Traffic> {
    let mut traffic = Vec::new();
    for section in file.array("traffic") {
        let link = phases::crossed_link(reporter, &section, links);
        let name = section.text("name");
        if let Some(written) = section.written("name")
            && others.iter().any(|phase| phase.name == name)
        {
            let message = format!("there is a phase named {} already", quoted(&name));
            reporter.report(&written.origin, message, None);
        }
        traffic.push(Traffic {
            name,
            job: job(reporter, &section),
            link: link.map(|link| link.name.clone()).unwrap_or_default(),
            beside: beside(reporter, &section, links),
            ipv6: section.text("family") == "ipv6",
            load: section.boolean("load"),
            duration_ns: section.time_ns("duration"),
        });
    }
    traffic
}

/// The links that are filled beside the one that the phase names.
fn beside(reporter: &mut Reporter<'_>, section: &Section<'_>, links: &[Link]) -> Vec<String> {
    let mut found = vec![section.text("link")];
    for (name, origin) in section.list("beside") {
        match links.iter().find(|link| link.name == name) {
            None => {
                let known = links.iter().map(|link| link.name.as_str());
                undeclared(reporter, ("link", name), origin, known);
            }
            Some(_) if found.iter().any(|link| link == name) => {
                let message = format!("the phase crosses link {} already", quoted(name));
                let help = "name every further link once".to_owned();
                reporter.report(origin, message, Some(help));
            }
            Some(link) => {
                phases::expect_calibrated(reporter, link, origin);
                found.push(name.to_owned());
            }
        }
    }
    found.split_off(1)
}

fn job(reporter: &mut Reporter<'_>, section: &Section<'_>) -> TrafficJob {
    let job = section.text("job");
    for (key, of) in [("direction", "bulk"), ("gap", "ping")] {
        if let Some(written) = section.written(key)
            && section.sound("job").is_some()
            && job != of
        {
            let message = format!("`{key}` means nothing for job `{job}`");
            let help = format!("it goes with job `{of}`");
            reporter.report(&written.origin, message, Some(help));
        }
    }
    if job == "ping" {
        let gap_ns = section.optional_time_ns("gap").unwrap_or(USUAL_GAP_NS);
        return TrafficJob::Ping { gap_ns };
    }
    let directions = match section.optional_text("direction").as_deref() {
        Some("up") => vec![Direction::Up],
        Some("down") => vec![Direction::Down],
        _ => Direction::BOTH.to_vec(),
    };
    TrafficJob::Bulk { directions }
}
