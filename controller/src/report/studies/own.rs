//! Answers of the device as long as it was sure enough: quality over what was left to the edge, and over
//! what crossed the link.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::energy;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape, legend};
use crate::report::svg::{Axis, Chart};
use crate::summary::{StudyOwn, StudySummary};

/// Colours of families that the style sheet has.
const COLOURS: usize = 4;

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    if study.own.is_empty() {
        return Ok(());
    }
    let mut families: BTreeMap<&str, Vec<&StudyOwn>> = BTreeMap::new();
    for own in &study.own {
        families.entry(&own.family).or_default().push(own);
    }
    // One threshold over several cuts draws no curve.
    if families.values().any(|arms| arms.len() > 2) {
        charts(page, study, &families)?;
    }
    table(page, study)
}

/// Where an arm stands along the horizontal axis.
type Place = fn(&StudyOwn) -> f64;

fn charts(
    page: &mut String,
    study: &StudySummary,
    families: &BTreeMap<&str, Vec<&StudyOwn>>,
) -> fmt::Result {
    let lowest = study.own.iter().filter_map(|own| own.agreement);
    let lowest = lowest.map(|[_, low, _]| low).fold(1.0, f64::min);
    let from = (lowest * 20.0).floor() / 20.0;
    let most = study.own.iter().map(|own| own.up_bytes_per_token);
    let most = most.fold(1.0, f64::max);
    let of_share: Place = |own| own.asked * 100.0;
    let of_bytes: Place = |own| own.up_bytes_per_token;
    let charts: [(&str, f64, Place); 2] = [
        ("tokens that the edge was asked for, %", 100.0, of_share),
        ("bytes up for each token", most * 1.05, of_bytes),
    ];
    writeln!(page, "<figure><div class=\"row\">")?;
    for (label, end, place) in charts {
        let x = Axis::linear(0.0, end, label);
        let y = Axis::linear(from * 100.0, 100.0, "agreement, %");
        let description = format!(
            "Agreement with the whole model in {} over {label}",
            study.study
        );
        let mut chart = Chart::new((430.0, 230.0), x, y, &description);
        for (colour, arms) in families.values().enumerate() {
            let class = format!("s{}", colour % COLOURS);
            let points = arms.iter().filter_map(|own| {
                let [share, low, high] = own.agreement?;
                Some((place(own), share * 100.0, low * 100.0, high * 100.0))
            });
            let points: Vec<(f64, f64, f64, f64)> = points.collect();
            let half = end / 200.0;
            let boxes: Vec<_> = points
                .iter()
                .map(|(x, _, low, high)| (x - half, x + half, *low, *high))
                .collect();
            chart.ranges(&boxes, &class);
            let crosses: Vec<(f64, f64)> = points.iter().map(|point| (point.0, point.1)).collect();
            chart.crosses(&crosses, &class);
        }
        page.push_str("<div>");
        page.push_str(&chart.render());
        page.push_str("</div>\n");
    }
    writeln!(page, "</div>")?;
    let entries = families.keys().enumerate();
    let entries: Vec<(String, String)> = entries
        .map(|(colour, name)| (format!("s{}", colour % COLOURS), escape(name)))
        .collect();
    legend(page, &entries)?;
    writeln!(
        page,
        "<figcaption>Each cross is a threshold, from everything kept on the device to everything left to \
         the edge; boxes are intervals of 95 %. Agreement is with the whole model's token after the same \
         text.</figcaption></figure>"
    )
}

fn table(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Kept if as sure as",
        "Prompts",
        "Asked of the edge",
        "Agreement",
        "95 %",
        "Compared",
        "Bytes up a token",
        "Token, ms",
        "For want of an answer",
        "In the outage",
    ];
    let mut table = Table::new(&head, 1);
    for name in energy::HEAD {
        table.named_column(name);
    }
    for own in &study.own {
        let interval = own.agreement.map_or_else(
            || "-".to_owned(),
            |[_, low, high]| format!("{:.1} to {:.1} %", low * 100.0, high * 100.0),
        );
        let share = |share: f64| format!("{:.1} %", share * 100.0);
        let mut row = vec![
            escape(&own.arm),
            grouped(own.prompts),
            share(own.asked),
            own.agreement
                .map_or_else(|| "-".to_owned(), |[value, ..]| share(value)),
            interval,
            grouped(own.compared),
            significant(own.up_bytes_per_token),
            own.token_ms.map_or_else(|| "-".to_owned(), significant),
            grouped(own.fallback_tokens),
            own.tokens_in_outage.map_or_else(|| "-".to_owned(), grouped),
        ];
        row.extend(energy::columns(&own.energy));
        table.row(row);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Of each prompt all tokens are compared up to the first that differs, since \
         those after it follow another text. Time and bytes are of all trials, the prompt's included. In \
         the outage: tokens that were there before the links came back.{}</p>",
        energy::about(study.own.iter().map(|own| &own.energy))
    )
}
