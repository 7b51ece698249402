//! The time of the first token over the rate of the link, beside what it should be.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::format::significant;
use crate::report::html::{escape, legend};
use crate::report::latency::series_class;
use crate::report::svg::{Axis, Chart};

/// An arm at a setting.
pub(super) struct FirstToken {
    pub(super) arm: String,
    pub(super) round_trip_ms: f64,
    pub(super) rate_mbps: f64,
    pub(super) first_token_ms: f64,
    /// `None` of an arm without a law.
    pub(super) expected_ms: Option<f64>,
}

/// The order in which arms were tried, so that colours stay.
fn series(points: &[FirstToken], round_trip_ms: f64) -> Vec<(&str, Vec<&FirstToken>)> {
    let mut arms: Vec<(&str, Vec<&FirstToken>)> = Vec::new();
    for one in points {
        if one.round_trip_ms.total_cmp(&round_trip_ms).is_ne() {
            continue;
        }
        match arms.iter_mut().find(|(arm, _)| *arm == one.arm) {
            Some((_, cells)) => cells.push(one),
            None => arms.push((&one.arm, vec![one])),
        }
    }
    arms
}

/// A chart for each round trip. `what` is what each line stands for, `besides` what else is to be said of them.
pub(super) fn charts(
    page: &mut String,
    points: &[FirstToken],
    (what, besides): (&str, &str),
) -> fmt::Result {
    let mut round_trips: BTreeMap<u64, f64> = BTreeMap::new();
    for one in points {
        round_trips.insert(one.round_trip_ms.to_bits(), one.round_trip_ms);
    }
    for round_trip_ms in round_trips.into_values() {
        let arms = series(points, round_trip_ms);
        let cells = || arms.iter().flat_map(|(_, cells)| cells.iter());
        let ends = |value: fn(&FirstToken) -> f64| {
            let values = || cells().map(|one| value(one));
            (
                values().fold(f64::MAX, f64::min),
                values().fold(0.0, f64::max),
            )
        };
        let (least_rate, most_rate) = ends(|one| one.rate_mbps);
        let (least, most) = ends(|one| one.first_token_ms);
        if arms.iter().all(|(_, cells)| cells.len() < 2) {
            continue;
        }
        let title =
            format!("Time of the first token over the rate of the link, one line for {what}");
        let mut chart = Chart::new(
            (720.0, 320.0),
            Axis::log(least_rate, most_rate, "rate, Mbit/s"),
            Axis::log(least, most, "first token, ms"),
            &title,
        );
        let mut entries = Vec::new();
        for (index, (arm, cells)) in arms.iter().enumerate() {
            let class = series_class(index);
            let measured = cells.iter().map(|one| (one.rate_mbps, one.first_token_ms));
            let measured: Vec<(f64, f64)> = measured.collect();
            let expected = cells
                .iter()
                .filter_map(|one| Some((one.rate_mbps, one.expected_ms?)));
            let expected: Vec<(f64, f64)> = expected.collect();
            // Lines are what should be, crosses what was; an adaptive arm has no law but the least of the
            // others'.
            let line = if expected.is_empty() {
                &measured
            } else {
                &expected
            };
            chart.lines(line, &class);
            chart.crosses(&measured, &class);
            entries.push((class, escape(arm)));
        }
        writeln!(page, "<figure>")?;
        legend(page, &entries)?;
        page.push_str(&chart.render());
        writeln!(
            page,
            "<figcaption>Time of the first token over the rate of the link, at a round trip of {} ms: crosses are medians of the trials, lines what bytes and costs add up to{besides}.</figcaption></figure>",
            significant(round_trip_ms)
        )?;
    }
    Ok(())
}
