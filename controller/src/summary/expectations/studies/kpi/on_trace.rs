//! The claim about rows of the KPI tables on their link's trace.

use std::collections::BTreeMap;

use hexloop_topologies::plan::Plan;
use hexloop_traces::Trace;

use super::super::{Evidence, Judgement, unjudged, with_numbers};
use super::{LEAST_SENT, MOST, share_that_shows};
use crate::format::{count_to_f64, length};
use crate::results::Results;
use crate::summary::studies::Findings;
use crate::summary::studies::kpi::on_trace::{
    ENOUGH_PERCENT, LinkTrace, RowSent, SHORT_PERCENT, Says, sent,
};

/// Fewest transmissions on each side, over all rows, that the claim is judged by.
const LEAST_ON_A_SIDE: u64 = 6;

/// The transmissions of a row of which the trace says the same.
struct Group {
    name: &'static str,
    sent: u64,
    /// Those that came as the trace says.
    agreeing: u64,
}

/// The rows with enough transmissions of which the trace says that.
fn groups(rows: &[RowSent], says: Says) -> Vec<Group> {
    let group = |row: &RowSent| {
        let (sent, in_time) = row.count(says);
        Group {
            name: row.row.use_case,
            sent,
            agreeing: match says {
                Says::Late => sent - in_time,
                Says::InTime | Says::Nothing => in_time,
            },
        }
    };
    let is_enough =
        |group: &Group| usize::try_from(group.sent).is_ok_and(|sent| sent >= LEAST_SENT);
    rows.iter().map(group).filter(is_enough).collect()
}

/// Transmissions of all groups, and those that came as the trace says.
fn sums(groups: &[Group]) -> (u64, u64) {
    let all = groups.iter();
    all.fold((0, 0), |sums, group| {
        (sums.0 + group.sent, sums.1 + group.agreeing)
    })
}

/// Rows of which too few came as the trace says, in words.
fn wrong(groups: &[Group], word: &str) -> Vec<String> {
    let differs = |group: &&Group| count_to_f64(group.agreeing) / count_to_f64(group.sent) < MOST;
    let told = |group: &Group| {
        format!(
            "{}: {} of {} {word}",
            group.name, group.agreeing, group.sent
        )
    };
    groups.iter().filter(differs).map(told).collect()
}

/// What the trace carries with a quarter to spare is in time, and what it is a tenth short of is late, row by row.
pub(in super::super) fn holds_by_trace(
    (plan, traces): (&Plan, &BTreeMap<String, Trace>),
    findings: &Findings<'_>,
    results: &Results,
) -> Judgement {
    let study = findings.plan;
    let by_others = |link: &str| results.was_changed_by_others(&study.name, link);
    if study.hops.iter().any(|hop| by_others(&hop.link)) {
        let detail =
            "the link was changed while it played: its trace does not tell what it carries";
        return unjudged(&[], detail.to_owned());
    }
    let Some(trace) = LinkTrace::of(plan, traces, study) else {
        return unjudged(&[], "the link's trace is not recorded".to_owned());
    };
    let rows = sent(findings, Some(&trace));
    let (enough, short) = (groups(&rows, Says::InTime), groups(&rows, Says::Late));
    let ((carried, in_time), (not_carried, late)) = (sums(&enough), sums(&short));
    let between: u64 = rows.iter().map(|row| row.count(Says::Nothing).0).sum();
    let mut differing = wrong(&enough, "in time");
    differing.extend(wrong(&short, "late"));
    let mut detail = format!(
        "{in_time} of {carried} transmissions, in {} rows, that the trace carries with {} % to spare are in time, and {late} of \
         {not_carried}, in {} rows, that it is {} % short of are late; {between} between are not judged; {} rows are not as \
         the trace says",
        enough.len(),
        ENOUGH_PERCENT - 100,
        short.len(),
        100 - SHORT_PERCENT,
        differing.len()
    );
    if !differing.is_empty() {
        detail = format!("{detail} ({})", differing.join("; "));
    }
    let numbers = [
        ("carried", carried),
        ("carried_in_time", in_time),
        ("not_carried", not_carried),
        ("not_carried_late", late),
        ("between", between),
        ("differing", length(&differing)),
    ];
    if carried.min(not_carried) < LEAST_ON_A_SIDE {
        let few = format!(
            "{detail}; {LEAST_ON_A_SIDE} of either kind are needed, of rows with {LEAST_SENT} or more of it"
        );
        return unjudged(&numbers, few);
    }
    let fewest = enough.iter().chain(&short).map(|group| group.sent).min();
    let fewest = fewest.unwrap_or(0);
    let effect = format!(
        "at 95 % a share of {:.0} % that the trace does not foretell",
        share_that_shows(fewest) * 100.0
    );
    let evidence = Evidence::new(
        fewest,
        "transmissions of a row of one kind at least",
        effect,
    );
    let numbers = numbers.map(|(name, value)| (name, count_to_f64(value)));
    with_numbers(Some(differing.is_empty()), &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
