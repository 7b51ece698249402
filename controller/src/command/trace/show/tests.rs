use super::*;
use hexloop_traces::format::TraceRows;
use hexloop_traces::generate::control::{self, Link};
use hexloop_traces::{Direction, Trace};

const MS: u64 = 1_000_000;

fn trace() -> Trace {
    let steps = [
        (400 * MS, 10_000_000),
        (100 * MS, 0),
        (500 * MS, 20_000_000),
    ];
    let plain = control::step(Link::new(0, 5 * MS, 0), &steps).unwrap();
    let mut metadata = plain.metadata().clone();
    metadata.scenario = "a <b>\u{1b}[31m & \"c\"".to_owned();
    metadata.notes = vec!["<script>".to_owned()];
    let mut rows = plain.rows().to_vec();
    for (row, sinr) in rows.iter_mut().zip([1000, -500, 2000]) {
        row.diagnostics.sinr_cdb = Some(sinr);
        row.up.delay_ns = 7 * MS;
        row.up.loss_ppb = 10_000_000;
    }
    rows[1].diagnostics.event = Some("outage".to_owned());
    Trace::new(metadata, rows).unwrap()
}

fn overview(points: usize) -> Overview {
    Overview::of(TraceRows::new(&trace()), points).unwrap()
}

#[test]
fn a_point_holds_the_smallest_the_largest_and_the_mean() {
    let overview = overview(2);
    let first = overview.series[0].points[0].unwrap();
    assert!((first.smallest, first.largest) == (0.0, 10.0));
    assert!((first.mean() - 8.0).abs() < 1e-9, "{}", first.mean());
    assert_eq!(overview.outages[0], [true, false]);
    assert_eq!(overview.events, [(0.4, "outage".to_owned())]);
    let names: Vec<Vec<&str>> = overview
        .groups()
        .iter()
        .map(|group| group.series.iter().map(|series| series.name).collect())
        .collect();
    let expected: [&[&str]; 4] = [
        &["rate down"],
        &["delay down", "delay up"],
        &["loss up"],
        &["SINR"],
    ];
    assert_eq!(names, expected);
}

#[test]
fn terminal_charts_fit_their_width_and_are_plain_unless_colour_is_wanted() {
    for width in [terminal::NARROWEST, 80, 200] {
        let drawn = terminal::draw(&overview(terminal::points(width)), width, false);
        assert!(!drawn.contains('\u{1b}'), "{drawn}");
        let longest = drawn.lines().map(|line| line.chars().count()).max();
        assert!(
            longest.is_some_and(|longest| longest <= width),
            "{width}:\n{drawn}"
        );
        for part in [
            "rate in both directions (Mbit/s)",
            "delay up (ms)",
            "out up",
            "events: outage",
            "1 s",
        ] {
            assert!(drawn.contains(part), "{part} is not in:\n{drawn}");
        }
    }
    let drawn = terminal::draw(&overview(terminal::points(80)), 80, true);
    assert!(drawn.contains("\u{1b}[36m") && !drawn.contains("\u{1b}[31m"));
}

#[test]
fn the_page_is_self_contained_and_what_the_trace_says_is_escaped() {
    for page in [page::html(&overview(300)), page::svg(&overview(300))] {
        assert!(
            !page.contains("<script") && !page.contains("<b>"),
            "not escaped"
        );
        assert!(!page.contains("href") && !page.contains("src=") && !page.contains("url("));
        assert!(page.contains("a &lt;b&gt;") && page.contains("prefers-color-scheme: dark"));
        let charts = page.matches("aria-label").count();
        assert_eq!(charts, 4);
        let opened = page.matches("<svg").count();
        assert_eq!(opened, page.matches("</svg>").count());
    }
}

#[test]
fn small_losses_are_told_in_parts_per_million() {
    let plain = trace();
    let mut rows = plain.rows().to_vec();
    for row in &mut rows {
        row.up.loss_ppb = 2000;
    }
    let small = Trace::new(plain.metadata().clone(), rows).unwrap();
    let overview = Overview::of(TraceRows::new(&small), 10).unwrap();
    let loss = &overview.series[5];
    assert_eq!((loss.unit, loss.bounds()), ("ppm", Some((2.0, 2.0))));
    assert!(terminal::draw(&overview, 80, false).contains("loss up (ppm)"));
}

#[test]
fn names_of_events_that_would_cover_each_other_are_left_to_the_list() {
    let plain = trace();
    let mut rows = plain.rows().to_vec();
    for (row, name) in rows.iter_mut().zip(["first", "second", "third"]) {
        row.diagnostics.event = Some(name.to_owned());
    }
    // The second is 20 ms after the first, the third 400 ms.
    rows[1].t_ns = 20 * MS;
    let named = Trace::new(plain.metadata().clone(), rows).unwrap();
    let page = page::svg(&Overview::of(TraceRows::new(&named), 300).unwrap());
    let names: Vec<&str> = page
        .matches(">first<")
        .chain(page.matches(">third<"))
        .collect();
    assert_eq!(names.len(), 2);
    assert!(!page.contains(">second<"));
}

#[test]
fn what_happens_seldom_is_named_before_what_happens_often() {
    let plain = trace();
    let mut rows = plain.rows().to_vec();
    for (row, name) in rows.iter_mut().zip(["often", "seldom", "often"]) {
        row.diagnostics.event = Some(name.to_owned());
    }
    rows[1].t_ns = 20 * MS;
    let named = Trace::new(plain.metadata().clone(), rows).unwrap();
    let page = page::svg(&Overview::of(TraceRows::new(&named), 300).unwrap());
    assert!(page.contains(">seldom<"));
    assert_eq!(
        page.matches(">often<").count(),
        1,
        "the first is in its way"
    );
}

#[test]
fn a_legend_tells_of_what_is_drawn() {
    let overview = overview(300);
    let page = page::html(&overview);
    for part in ["SINR</span>", "uplink</span>", "nothing carried", "events."] {
        assert!(page.contains(part), "{part}");
    }
    let plain = control::constant(1_000_000, MS, 0, 1_000_000_000).unwrap();
    let page = page::html(&Overview::of(TraceRows::new(&plain), 300).unwrap());
    for part in ["SINR</span>", "uplink</span>", "nothing carried", "events."] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("delay over time, the same in both directions"));
}

#[test]
fn notes_of_any_length_are_told_in_full() {
    let plain = trace();
    let mut metadata = plain.metadata().clone();
    metadata.notes = vec!["word ".repeat(60), "x".repeat(300)];
    let told = Trace::new(metadata, plain.rows().to_vec()).unwrap();
    let overview = Overview::of(TraceRows::new(&told), terminal::points(80)).unwrap();
    let drawn = terminal::draw(&overview, 80, false);
    assert_eq!(drawn.matches("word").count(), 60);
    assert!(drawn.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_trace_without_limits_can_be_drawn() {
    let free = control::constant(u64::MAX, 0, 0, 1_000_000_000).unwrap();
    let overview = Overview::of(TraceRows::new(&free), terminal::points(60)).unwrap();
    assert!(terminal::draw(&overview, 60, false).contains("delay in both directions"));
    assert!(page::html(&overview).contains("</html>"));
    assert_eq!(free.rows()[0].direction(Direction::Up).delay_ns, 0);
}
