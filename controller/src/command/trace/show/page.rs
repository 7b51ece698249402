//! Charts as an SVG file, and as a page that needs neither network nor scripts.

use std::fmt::Write as _;

use super::overview::{Group, Overview, Series};
use crate::format::{grouped, ns_to_s, trimmed};
use crate::report::html::escape;
use crate::report::svg::{Axis, Chart};

const STYLE: &str = include_str!("../../../report/style.css");

/// What the charts need beyond the report's style.
const OWN_STYLE: &str = "svg.trace > rect { fill: var(--paper); } .area.band { opacity: .28; } \
.key.outage { background: var(--outage); } \
.note { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; } .line.event { stroke: var(--ink); }";

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 190.0;

/// One chart and its name.
struct Drawn {
    title: String,
    svg: String,
}

// Writing to a String cannot fail; the results of `write!` are dropped for that reason.

fn charts(overview: &Overview) -> Vec<Drawn> {
    let duration_s = ns_to_s(overview.metadata.duration_ns);
    let groups = overview.groups();
    let last = groups.len() - 1;
    let mut drawn = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let Group { series, alike } = group;
        let Some(first) = series.first() else {
            continue;
        };
        let quantity = first.name.split(' ').next().unwrap_or(first.name);
        let both = if *alike {
            ", the same in both directions"
        } else {
            ""
        };
        let x = Axis::linear(0.0, duration_s, if index == last { "time (s)" } else { "" });
        let (low, high) = bounds(series);
        let y = Axis::linear(low, high, &format!("{quantity} ({})", first.unit));
        let title = format!("{quantity} over time{both}");
        let mut chart = Chart::new((WIDTH, HEIGHT), x, y, &title);
        // Shaded only where neither direction carries anything.
        for (from, to) in silent(overview, duration_s) {
            chart.band(from, to, "outage");
        }
        for series in series {
            draw(&mut chart, series, duration_s);
        }
        if index == 0 {
            events(&mut chart, overview, (duration_s, high));
        }
        drawn.push(Drawn {
            title,
            svg: chart.render(),
        });
    }
    drawn
}

/// A delay that never falls below this share of its largest value is drawn without the way to 0.
const FLAT: f64 = 0.6;

/// From 0, or from the smallest value for what has no zero, with room above.
fn bounds(group: &[&Series]) -> (f64, f64) {
    let known = group.iter().filter_map(|series| series.bounds());
    let (low, high) = known.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), bounds| {
        (low.min(bounds.0), high.max(bounds.1))
    });
    let from_low = match group.first().map(|series| series.unit) {
        Some("dB") => true,
        // What a delay drifts by would be lost beside the way to 0.
        Some("ms") => low > FLAT * high && high > low,
        _ => false,
    };
    let from = if from_low { low } else { 0.0 };
    let room = (high - from).abs().max(1e-9) * 0.05;
    (if from_low { low - room } else { 0.0 }, high + room)
}

fn draw(chart: &mut Chart, series: &Series, duration_s: f64) {
    let step = duration_s / crate::format::count_to_f64(crate::format::length(&series.points));
    let mut ranges = Vec::new();
    let mut means: Vec<(f64, f64)> = Vec::new();
    let mut begin = 0.0;
    let class = format!("s{}", series.kind);
    for point in &series.points {
        match point {
            Some(range) => {
                ranges.push((begin, begin + step, range.smallest, range.largest));
                means.push((begin, range.mean()));
            }
            // A line breaks where nothing is known.
            None if !means.is_empty() => {
                chart.steps(&means, begin, &format!("thin {class}"));
                means.clear();
            }
            None => {}
        }
        begin += step;
    }
    chart.ranges(&ranges, &format!("band {class}"));
    if !means.is_empty() {
        chart.steps(&means, begin, &format!("thin {class}"));
    }
}

/// Stretches in which some time of every point passes without any rate in both directions.
fn silent(overview: &Overview, duration_s: f64) -> Vec<(f64, f64)> {
    let [down, up] = &overview.outages;
    let step = duration_s / crate::format::count_to_f64(crate::format::length(down));
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    let mut begin = 0.0;
    let mut open = false;
    for (down, up) in down.iter().zip(up) {
        let is_silent = *down && *up;
        match stretches.last_mut() {
            Some(last) if open && is_silent => last.1 = begin + step,
            _ if is_silent => stretches.push((begin, begin + step)),
            _ => {}
        }
        open = is_silent;
        begin += step;
    }
    stretches
}

/// What a letter of an event's name takes, and what lies between two names, in pixels.
const LETTER: f64 = 6.2;
const SPACE: f64 = 12.0;

/// Every event gets a mark at the top, and its name where that covers no other one.
fn events(chart: &mut Chart, overview: &Overview, (duration_s, top): (f64, f64)) {
    let marks: Vec<(f64, f64)> = overview
        .events
        .iter()
        .map(|(at_s, _)| (*at_s, top))
        .collect();
    chart.marks(&marks, 16.0, "thin event");
    // What happens seldom is named first.
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for (_, name) in &overview.events {
        *counts.entry(name).or_default() += 1;
    }
    let mut named: Vec<&(f64, String)> = overview.events.iter().collect();
    named.sort_by_key(|(_, name)| counts.get(name.as_str()));
    let mut taken: Vec<(f64, f64)> = Vec::new();
    for (at_s, name) in named {
        let begins = at_s / duration_s * WIDTH;
        let letters = crate::format::count_to_f64(u64::try_from(name.len()).unwrap_or(0));
        let ends = begins + letters * LETTER;
        let is_free = taken
            .iter()
            .all(|(from, to)| ends + SPACE <= *from || begins >= to + SPACE);
        if is_free && ends <= WIDTH {
            chart.note(*at_s, name);
            taken.push((begins, ends));
        }
    }
}

/// The charts in one SVG file, with its own style for light and dark.
pub(super) fn svg(overview: &Overview) -> String {
    let drawn = charts(overview);
    let head = 34.0;
    let count = crate::format::count_to_f64(crate::format::length(&drawn));
    let height = trimmed(head + HEIGHT * count, 1);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"trace\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\">\n<title>{}</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"name\" x=\"12\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(&overview.metadata.scenario),
        escape(&headline(overview))
    );
    let mut top = head;
    for chart in &drawn {
        let place = format!(
            "<svg x=\"0\" y=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox",
            trimmed(top, 1)
        );
        text.push_str(&chart.svg.replacen("<svg viewBox", &place, 1));
        top += HEIGHT;
    }
    text.push_str("</svg>\n");
    text
}

fn headline(overview: &Overview) -> String {
    format!(
        "{}: {} rows over {} s",
        overview.metadata.scenario,
        grouped(overview.rows),
        trimmed(ns_to_s(overview.metadata.duration_ns), 3)
    )
}

/// The charts with what the trace says about itself.
pub(super) fn html(overview: &Overview) -> String {
    let metadata = &overview.metadata;
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{name} - hexloop trace</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{name}</h1>\n<p class=\"sub\">{headline}</p>\n",
        name = escape(&metadata.scenario),
        headline = escape(&headline(overview))
    );
    page.push_str(&legend(overview));
    for chart in charts(overview) {
        let _ = writeln!(
            page,
            "<figure><figcaption>{1}</figcaption>{0}</figure>",
            chart.svg,
            escape(&chart.title)
        );
    }
    about(overview, &mut page);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// What colours and marks mean, as far as there are any.
fn legend(overview: &Overview) -> String {
    let drawn: Vec<usize> = overview
        .groups()
        .iter()
        .flat_map(|group| &group.series)
        .map(|series| series.kind)
        .collect();
    let mut text = "<p class=\"legend\">".to_owned();
    for (kind, name) in ["downlink", "uplink", "SINR"].iter().enumerate() {
        if drawn.contains(&kind) {
            let _ = write!(text, "<span><i class=\"key s{kind}\"></i>{name}</span>");
        }
    }
    if !silent(overview, 1.0).is_empty() {
        text.push_str(
            "<span><i class=\"key fill outage\"></i>nothing carried in either direction</span>",
        );
    }
    text.push_str(
        "</p>\n<p class=\"small\">Lines are the mean of each point, bands go from the smallest to \
         the largest value in it.",
    );
    if overview.event_count > 0 {
        text.push_str(" Marks at the top of the first chart are events.");
    }
    text.push_str("</p>\n");
    text
}

fn about(overview: &Overview, page: &mut String) {
    let metadata = &overview.metadata;
    let mut facts: Vec<(String, String)> = vec![
        (
            "status".to_owned(),
            format!("{:?}", metadata.status).to_lowercase(),
        ),
        ("made by".to_owned(), metadata.generator.clone()),
        (
            "at its end".to_owned(),
            format!("{:?}", metadata.end).to_lowercase(),
        ),
    ];
    if let Some(seed) = metadata.seed {
        facts.push(("seed".to_owned(), seed.to_string()));
    }
    let provenance = &metadata.provenance;
    facts.extend(provenance.spec_versions.clone());
    for source in &provenance.sources {
        let licence = source.licence.as_deref().unwrap_or("licence not told");
        let told = format!("{}, {licence}, SHA-256 {}", source.file, source.sha256);
        facts.push(("source".to_owned(), told));
    }
    facts.extend(metadata.configuration.clone());
    page.push_str("<h2>About this trace</h2>\n<table class=\"facts\">\n");
    for (name, value) in facts {
        let (name, value) = (escape(&name), escape(&value));
        let _ = writeln!(page, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    page.push_str("</table>\n");
    for note in &metadata.notes {
        let _ = writeln!(page, "<p>{}</p>", escape(note));
    }
    if overview.event_count > 0 {
        let _ = writeln!(
            page,
            "<h2>Events</h2>\n<p class=\"small\">{} in all.</p>\n<p>",
            grouped(overview.event_count)
        );
        for (at_s, name) in &overview.events {
            let _ = writeln!(page, "{} at {} s<br>", escape(name), trimmed(*at_s, 3));
        }
        page.push_str("</p>\n");
    }
}
