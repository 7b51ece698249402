//! Requests while the links followed their traces: the time of each arm's first tokens along the traces.

use std::fmt::{self, Write};

use super::{energy, number};
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape, legend};
use crate::report::latency::series_class;
use crate::report::svg::{Axis, Chart};
use crate::summary::{StudySummary, StudyTraced, StudyTracedArm};

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    let Some(traced) = &study.traced else {
        return Ok(());
    };
    writeln!(page, "<h3>On the traces</h3>")?;
    writeln!(
        page,
        "<p>After all settings the links followed their traces, which began anew for each arm. A request was due every {} ms, so that all arms met the same channel at the same requests; times count from then. {} of each arm.</p>",
        significant(traced.every_ms),
        match traced.repetitions {
            1 => "One round".to_owned(),
            several => format!("{several} rounds"),
        }
    )?;
    chart(page, traced)?;
    table(page, traced)
}

fn chart(page: &mut String, traced: &StudyTraced) -> fmt::Result {
    let points = |arm: &StudyTracedArm| -> Vec<(f64, f64)> {
        let of = arm.first_tokens_ms.iter();
        of.map(|[at_ms, took_ms]| (at_ms / 1e3, *took_ms)).collect()
    };
    let all: Vec<(f64, f64)> = traced.arms.iter().flat_map(points).collect();
    if all.len() < 2 {
        return Ok(());
    }
    let end = all.iter().map(|(at, _)| *at).fold(0.0, f64::max);
    let took = || all.iter().map(|(_, took)| *took);
    let (least, most) = (took().fold(f64::MAX, f64::min), took().fold(0.0, f64::max));
    let mut chart = Chart::new(
        (720.0, 320.0),
        Axis::linear(0.0, end, "since the traces began, s"),
        Axis::log(least, most, "first token, ms"),
        "Time of the first token along the traces, one series for each arm",
    );
    let mut entries = Vec::new();
    for (index, arm) in traced.arms.iter().enumerate() {
        let class = series_class(index);
        let own = points(arm);
        // Rounds lie over each other: a line through all of them would jump back.
        if traced.repetitions == 1 {
            chart.lines(&own, &class);
        }
        chart.crosses(&own, &class);
        entries.push((class, escape(&arm.arm)));
    }
    writeln!(page, "<figure>")?;
    legend(page, &entries)?;
    page.push_str(&chart.render());
    writeln!(
        page,
        "<figcaption>Time of the first token of each request, from when it was due, over where in the traces that was.</figcaption></figure>"
    )
}

fn table(page: &mut String, traced: &StudyTraced) -> fmt::Result {
    let head = [
        "Arm",
        "Requests",
        "First token, ms",
        "p50",
        "p95",
        "Longest",
        "Answer, ms",
        "Longest answer, ms",
        "Begun late",
        "Bytes on links",
        "Answered within",
        "Chosen",
        "Busy",
    ];
    let mut table = Table::new(&head, 1);
    for name in energy::HEAD {
        table.named_column(name);
    }
    table.named_column("J/request of whole rounds");
    for arm in &traced.arms {
        let mut row = vec![
            escape(&arm.arm),
            grouped(arm.first_token_ms.n),
            number(arm.first_token_ms.mean),
            number(arm.first_token_ms.p50),
            number(arm.first_token_ms.p95),
            number(arm.first_token_ms.max),
            number(arm.answer_ms.mean),
            number(arm.answer_ms.max),
            grouped(arm.waited),
            significant(arm.link_bytes),
            arm.hits
                .iter()
                .map(|[level_ms, share]| {
                    format!("{} ms: {:.1} %", significant(*level_ms), share * 100.0)
                })
                .collect::<Vec<_>>()
                .join(", "),
            arm.chosen
                .iter()
                .map(|(name, count)| format!("{}: {count}", escape(name)))
                .collect::<Vec<_>>()
                .join(", "),
            arm.busy
                .iter()
                .map(|share| format!("{:.0} %", share * 100.0))
                .collect::<Vec<_>>()
                .join(", "),
        ];
        row.extend(energy::columns(&arm.energy));
        row.push(energy::joules(&arm.round_j_per_request));
        table.row(row);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Means but where p50, p95 or the longest is said; a percentile that so few requests cannot carry is left out. Begun late: the request before had no answer yet; what it waited counts. Busy is the share of the time in which requests were under way in which each node computed; energy of whole rounds has the pauses between requests in it.{}{}</p>",
        energy::ABOUT,
        energy::reasons(traced.arms.iter().flat_map(|arm| {
            let under_way = energy::all(&arm.energy);
            under_way.into_iter().chain([&arm.round_j_per_request])
        }))
    )
}
