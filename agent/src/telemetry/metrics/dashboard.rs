//! The dashboard against what an agent shows: every query parses, and finds samples.

use std::collections::BTreeMap;

use hexloop_telemetry::{ExternalFeed, ExternalSpec};

use super::tests::{Files, sources};
use super::*;

const DASHBOARD: &str = include_str!("../../../telemetry/grafana/hexloop.json");

/// A selector of a query: a name and what its labels must be.
#[derive(Debug, PartialEq)]
struct Selector {
    name: String,
    /// Label, values of which it must be one.
    matchers: Vec<(String, Vec<String>)>,
    ranged: bool,
}

/// The part of PromQL that the dashboard needs: numbers, `*`, `/`, `+`, `-`, `rate`, aggregations by
/// labels, and selectors with `=` and with `=~` of alternatives.
struct Query<'a> {
    rest: &'a str,
    selectors: Vec<Selector>,
}

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Result<Vec<Selector>, String> {
        let mut query = Query {
            rest: text,
            selectors: Vec::new(),
        };
        query.expression()?;
        query.skip_space();
        if query.rest.is_empty() {
            Ok(query.selectors)
        } else {
            Err(format!("`{}` is left over", query.rest))
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, word: &str) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn need(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) {
            Ok(())
        } else {
            Err(format!("`{word}` is missing before `{}`", self.rest))
        }
    }

    fn while_is(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        self.skip_space();
        let end = self.rest.find(|character| !is(character));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn name(&mut self) -> &'a str {
        self.while_is(|character| character.is_ascii_alphanumeric() || "_:".contains(character))
    }

    fn expression(&mut self) -> Result<(), String> {
        self.term()?;
        while ["*", "/", "+", "-"].iter().any(|sign| self.take(sign)) {
            self.term()?;
        }
        Ok(())
    }

    fn term(&mut self) -> Result<(), String> {
        if self.take("(") {
            self.expression()?;
            return self.need(")");
        }
        let word = self.name();
        match word {
            "" => Err(format!("neither a number nor a name: `{}`", self.rest)),
            _ if word.parse::<f64>().is_ok() => Ok(()),
            "sum" | "avg" | "max" | "min" => {
                self.need("by")?;
                self.need("(")?;
                while !self.take(")") {
                    if self.name().is_empty() {
                        return Err(format!("no label before `{}`", self.rest));
                    }
                    self.take(",");
                }
                self.need("(")?;
                self.expression()?;
                self.need(")")
            }
            "rate" => {
                self.need("(")?;
                let name = self.name().to_owned();
                self.selector(name)?;
                self.need("[$__rate_interval]")?;
                if let Some(last) = self.selectors.last_mut() {
                    last.ranged = true;
                }
                self.need(")")
            }
            name => self.selector(name.to_owned()),
        }
    }

    fn selector(&mut self, name: String) -> Result<(), String> {
        let mut matchers = Vec::new();
        if self.take("{") {
            while !self.take("}") {
                let label = self.name().to_owned();
                let is_pattern = self.take("=~");
                if !is_pattern {
                    self.need("=")?;
                }
                self.need("\"")?;
                let text = self.while_is(|character| character != '"');
                self.need("\"")?;
                let is_plain = |character: char| {
                    character.is_ascii_alphanumeric() || " _-".contains(character)
                };
                let values: Vec<String> = match is_pattern {
                    true => text.split('|').map(str::to_owned).collect(),
                    false => vec![text.to_owned()],
                };
                if is_pattern && !values.iter().all(|value| value.chars().all(is_plain)) {
                    return Err(format!("`{text}` is no list of alternatives"));
                }
                matchers.push((label, values));
                self.take(",");
            }
        }
        self.selectors.push(Selector {
            name,
            matchers,
            ranged: false,
        });
        Ok(())
    }
}

/// Names and labels of every sample of a page.
fn series(page: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let labels = labels
            .split("\",")
            .filter_map(|pair| pair.split_once("=\""))
            .map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()));
        (name.to_owned(), labels.collect())
    });
    series.collect()
}

/// What an agent shows of a machine that has everything, while a plan plays.
fn page_of_everything() -> String {
    let files: Files<'_> = &[
        ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
        ("sys/class/powercap/intel-rapl:0/energy_uj", "77\n"),
        (
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
            "262143328850\n",
        ),
        ("sys/class/hwmon/hwmon0/name", "ina3221\n"),
        ("sys/class/hwmon/hwmon0/in1_label", "VDD_IN\n"),
        ("sys/class/hwmon/hwmon0/in1_input", "5000\n"),
        ("sys/class/hwmon/hwmon0/curr1_input", "2000\n"),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
            "2400000\n",
        ),
        ("proc/stat", "cpu0 1 2 3 4 5 6 7 8 0 0\nctxt 99\n"),
        (
            "proc/pressure/cpu",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=42\n",
        ),
        (
            "usr/bin/vcgencmd",
            "#!/bin/sh\necho 'A_A current(0)=2.0A'\necho 'A_V volt(1)=5.0V'\n",
        ),
    ];
    let (root, mut sources) = sources(files);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.path().join("usr/bin/vcgencmd"), mode).unwrap();
    let feed = ExternalFeed::new(ExternalSpec {
        name: "plug".to_owned(),
        scope: Scope::Machine,
        counted: None,
    });
    let clock = hexloop_workloads::clock::now;
    feed.take("- 41.5", clock(), hexloop_workloads::clock::wall_clock_ns())
        .unwrap();
    sources.feeds.push(feed);
    let board = sources.board.clone().unwrap();
    let mut meters = sources.find();
    board.begin_sampling(&meters);
    let mut readings = Vec::new();
    meters.read(&mut readings);
    board.show(clock(), &readings);
    let gpu = GpuState {
        memory_used_bytes: Some(1),
        memory_total_bytes: Some(2),
        busy_percent: Some(50),
        memory_busy_percent: Some(25),
        sm_clock_mhz: Some(1_980),
        memory_clock_mhz: Some(2_619),
        temperature_c: Some(40),
        throttle_reasons: Some(4),
        processes: Some(vec![hexloop_telemetry::GpuProcess {
            pid: 41,
            memory_bytes: Some(1),
            sm_percent: Some(50),
        }]),
        activity: Some(hexloop_telemetry::GpuActivity {
            sm: Some(5_000),
            ..hexloop_telemetry::GpuActivity::default()
        }),
        ..GpuState::default()
    };
    board.show_gpus(&[("GPU-1".to_owned(), Ok(gpu))]);
    board.show_phase(Some("split"));
    let usage = NodeUsage {
        cpu_ns: 7,
        memory_bytes: 8,
        throttled_periods: Some(1),
    };
    board.show_node("device", usage);
    expose(&sources)
}

/// Every query of the dashboard, with the panel that it is in.
fn queries() -> Vec<(String, String)> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().unwrap() {
            let text = target["expr"].as_str().unwrap();
            queries.push((title.to_owned(), text.to_owned()));
        }
    }
    queries
}

#[test]
fn every_query_of_the_dashboard_parses_and_finds_samples_with_the_labels_that_it_shows() {
    let page = page_of_everything();
    let series = series(&page);
    let queries = queries();
    assert!(queries.len() > 20);
    for (panel, text) in &queries {
        let selectors = Query::parse(text).unwrap_or_else(|why| panic!("{panel}: {text}: {why}"));
        assert!(!selectors.is_empty(), "{panel}: {text}");
        for selector in selectors {
            let fits = |labels: &BTreeMap<String, String>| {
                let mut matchers = selector.matchers.iter();
                matchers.all(|(label, values)| {
                    labels
                        .get(label)
                        .is_some_and(|value| values.contains(value))
                })
            };
            let found = series
                .iter()
                .any(|(name, labels)| *name == selector.name && fits(labels));
            assert!(found, "{panel}: {text} finds nothing in\n{page}");
            let is_counter = ALL
                .iter()
                .find(|family| family.name == selector.name)
                .is_some_and(|family| family.name.ends_with("_total"));
            assert_eq!(is_counter, selector.ranged, "{text}: rates are of counters");
        }
    }
    for label in legends() {
        let known = series.iter().any(|(_, labels)| labels.contains_key(&label));
        assert!(
            known || label == "instance",
            "no sample has the label {label}"
        );
    }
}

/// The labels that legends name.
fn legends() -> Vec<String> {
    let words = DASHBOARD.split("{{").skip(1);
    let labels = words.filter_map(|rest| rest.split_once("}}"));
    labels.map(|(label, _)| label.to_owned()).collect()
}

#[test]
fn what_is_no_query_does_not_parse() {
    for text in [
        "",
        "rate(x)",
        "sum(x)",
        "x{a=b}",
        "x y",
        "x{a=~\".*\"}",
        "(x",
    ] {
        assert!(Query::parse(text).is_err(), "{text}");
    }
    let parsed = Query::parse("1 - sum by (a, b) (rate(x{m=~\"i|j\"}[$__rate_interval]))").unwrap();
    let expected = Selector {
        name: "x".to_owned(),
        matchers: vec![("m".to_owned(), vec!["i".to_owned(), "j".to_owned()])],
        ranged: true,
    };
    assert_eq!(parsed, [expected]);
}
