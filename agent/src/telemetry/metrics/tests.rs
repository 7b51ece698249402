use std::fs;
use std::sync::Arc;

use hexloop_telemetry::{ExternalFeed, ExternalSpec, FamilyKind, Places};

use super::*;
use crate::telemetry::board::Board;

/// Files of a root: name and text.
pub(super) type Files<'a> = &'a [(&'a str, &'a str)];

pub(super) fn sources(files: Files<'_>) -> (tempfile::TempDir, MeterSources) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let places = Places {
        root: root.path().to_path_buf(),
        nvml: None,
        with_nvml: false,
        origin: Origin::Stub,
    };
    let mut sources = MeterSources::at(places);
    sources.board = Some(Arc::new(Board::default()));
    (root, sources)
}

const ZONE: &str = "sys/class/powercap/intel-rapl:0";

#[test]
fn every_name_has_its_unit_or_says_that_it_has_none_and_counters_say_total() {
    const UNITS: [&str; 5] = ["joules", "watts", "bytes", "hertz", "celsius"];
    const BARE: [&str; 8] = [
        "hexloop_unavailable_info",
        "hexloop_build_info",
        "hexloop_phase_active",
        "hexloop_meter_reads_total",
        "hexloop_external_lines_total",
        "hexloop_gpu_throttled",
        "hexloop_gpu_performance_state",
        "hexloop_gpu_processes",
    ];
    for family in ALL {
        let name = family.name;
        let base = name.trim_end_matches("_total");
        let is_count = name.ends_with("_switches_total") || name.ends_with("_periods_total");
        let has_unit = UNITS.iter().any(|unit| base.ends_with(unit))
            || base.ends_with("seconds")
            || base.ends_with("ratio");
        assert!(has_unit || is_count || BARE.contains(&name), "{name}");
        let is_counter = family.kind == FamilyKind::Counter;
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
    }
    let mut names: Vec<&str> = ALL.iter().map(|family| family.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len(), "two families of one name");
}

#[test]
fn a_counter_goes_on_across_its_wrap_around_and_what_is_missing_says_why() {
    let range = "1000000000";
    let (root, sources) = sources(&[
        (&format!("{ZONE}/name"), "package-0\n"),
        (&format!("{ZONE}/energy_uj"), "999000000\n"),
        (&format!("{ZONE}/max_energy_range_uj"), range),
    ]);
    let line = |page: &str| {
        let line = page
            .lines()
            .find(|line| line.starts_with("hw_energy_joules_total{"));
        line.unwrap().to_owned()
    };
    let first = line(&expose(&sources));
    assert!(first.ends_with(" 0"), "{first}");
    assert!(
        first.contains("hw_id=\"package-0\",hw_type=\"cpu\""),
        "{first}"
    );
    assert!(first.contains("origin=\"stub\""), "{first}");
    // 1 J until it turns over, and 2 J more.
    fs::write(root.path().join(ZONE).join("energy_uj"), "2000000\n").unwrap();
    let page = expose(&sources);
    let second = line(&page);
    assert!(second.ends_with(" 3"), "{second}");
    for part in [
        "of=\"board sensors (hwmon)\"",
        "metric=\"system_cpu_time_seconds_total\"",
        "metric=\"hexloop_pressure_stall_seconds_total\",of=\"memory\"",
    ] {
        assert!(page.contains(part), "{part}:\n{page}");
    }
    assert!(
        !page.contains("\nsystem_cpu_time"),
        "absent, not 0:\n{page}"
    );
    fs::write(root.path().join(ZONE).join("energy_uj"), "broken\n").unwrap();
    let page = expose(&sources);
    assert!(!page.contains("\nhw_energy_joules_total{"), "{page}");
    assert!(page.contains("metric=\"hw_energy_joules_total\",of=\"package-0, energy counter"));
}

#[test]
fn estimated_figures_have_other_names_than_measured_ones() {
    let (root, sources) = sources(&[("usr/bin/vcgencmd", "")]);
    let program = root.path().join("usr/bin/vcgencmd");
    let script = "#!/bin/sh\necho 'A_A current(0)=2.0A'\necho 'A_V volt(1)=5.0V'\n";
    fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    let page = expose(&sources);
    // 10 W x 1.1451 + 0.5879 W.
    let line = page
        .lines()
        .find(|line| line.starts_with("hexloop_estimated_power_watts{"));
    assert!(line.unwrap().ends_with(" 12.0389"), "{page}");
    assert!(!page.contains("\nhw_host_power_watts"), "{page}");
}

#[test]
fn an_external_meter_is_an_average_of_its_scope_and_its_refused_lines_are_counted() {
    let (_root, mut sources) = sources(&[]);
    let feed = ExternalFeed::new(ExternalSpec {
        name: "plug".to_owned(),
        scope: Scope::Machine,
        counted: None,
    });
    let now = hexloop_workloads::clock::now();
    let wall = hexloop_workloads::clock::wall_clock_ns();
    feed.take("- 41.5", now, wall).unwrap();
    feed.take("hello", now, wall).unwrap_err();
    sources.feeds.push(feed);
    let page = expose(&sources);
    for part in [
        "hexloop_average_power_watts{hw_id=\"plug\",hw_type=\"host\",scope=\"machine\",\
         source=\"external meter\",counted=\"true\"} 41.5\n",
        "hexloop_external_lines_total{meter=\"plug\",outcome=\"taken\"} 1\n",
        "hexloop_external_lines_total{meter=\"plug\",outcome=\"refused\"} 1\n",
    ] {
        assert!(page.contains(part), "{part}:\n{page}");
    }
}

#[test]
fn without_anybody_looking_nothing_is_shown_of_meters() {
    let (_root, mut sources) = sources(&[]);
    sources.board = None;
    assert!(!expose(&sources).contains("hw_energy_joules_total{"));
}
