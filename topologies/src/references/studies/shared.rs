//! Several users who share an edge: who they are, and what they do.

use hexloop_workloads::study::shared::SharedSpec;
use hexloop_workloads::study::shared::policy::Policy;

use super::speculative::listed;
use super::{expect_calibrated, integers, undeclared};
use crate::check::Reporter;
use crate::experiment::{Link, Technique};
use crate::problem::quoted;
use crate::section::Section;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 9] = [
    "links",
    "users",
    "policies",
    "batches",
    "offered_percent",
    "repetitions",
    "arrive_for",
    "deadline",
    "upload",
];

/// Those of them that mean nothing where requests come in waves.
pub(super) const NOT_OF_WAVES: [&str; 6] = [
    "links",
    "users",
    "policies",
    "offered_percent",
    "arrive_for",
    "upload",
];

/// Keys of others that mean nothing to it.
pub(super) const FOREIGN: [&str; 7] = [
    "path",
    "cuts",
    "in_flight",
    "codings",
    "around_percent",
    "round_trips",
    "rates",
];

pub(super) fn technique(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Technique {
    let read = |text: &str| Policy::ALL.into_iter().find(|it| it.name() == text);
    let help = "write `fcfs`, `deadline` or `joint`";
    let policies = listed(reporter, section, ("policies", help), read);
    Technique::Shared {
        policies: policies.unwrap_or_else(|| Policy::ALL.to_vec()),
        batches: integers(section, "batches", 8),
    }
}

/// The users' links, which all lead from one node to another, and those two nodes.
pub(super) fn path(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    links: &[Link],
) -> (Vec<String>, Vec<String>) {
    let named = section.list("links");
    let mut crossed: Vec<&Link> = Vec::new();
    if named.is_empty() {
        crossed.extend(links);
        for link in links {
            expect_calibrated(reporter, link, section.origin);
        }
    }
    for (name, origin) in named {
        let Some(link) = links.iter().find(|link| link.name == name) else {
            let known = links.iter().map(|link| link.name.as_str());
            undeclared(reporter, ("link", name), origin, known);
            continue;
        };
        expect_calibrated(reporter, link, origin);
        if crossed.iter().any(|known| known.name == link.name) {
            let message = format!("link {} comes twice", quoted(name));
            reporter.report(origin, message, None);
        }
        crossed.push(link);
    }
    let Some(first) = crossed.first() else {
        return (Vec::new(), Vec::new());
    };
    if let Some(other) = crossed.iter().find(|link| link.between != first.between) {
        let message = format!(
            "links {} and {} do not lead from one node to the same other",
            quoted(&first.name),
            quoted(&other.name)
        );
        let help = "all users are on one node and share one edge: name the links between those two";
        reporter.report(section.place("links"), message, Some(help.to_owned()));
    }
    let users = integers(section, "users", 1);
    let count = u32::try_from(crossed.len()).unwrap_or(u32::MAX);
    if let Some(most) = users.into_iter().find(|users| *users > count) {
        let message = format!("{most} users need {most} links, and there are {count}");
        reporter.report(section.place("users"), message, None);
    }
    let names = crossed.iter().map(|link| link.name.clone());
    (first.between.to_vec(), names.collect())
}

/// What they do. `links` is how many there are.
pub(super) fn spec(section: &Section<'_>, links: usize) -> SharedSpec {
    let all = u32::try_from(links).unwrap_or(u32::MAX);
    SharedSpec {
        users: integers(section, "users", all),
        offered_percent: match section.written("offered_percent") {
            Some(_) => integers(section, "offered_percent", 100),
            None => vec![50, 100, 150],
        },
        repetitions: section.integer_u32("repetitions"),
        arrivals_for_ns: section.time_ns("arrive_for"),
        deadline_ns: section.time_ns("deadline"),
        upload_bytes: u32::try_from(section.size_bytes("upload")).unwrap_or(u32::MAX),
    }
}
