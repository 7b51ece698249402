//! The sampler on meters of a test's own root.

use super::*;
use std::fs;
use std::path::Path;

fn sources(root: &Path) -> MeterSources {
    MeterSources::at(hexloop_telemetry::Places {
        root: root.to_path_buf(),
        nvml: None,
        with_nvml: false,
        origin: Origin::Stub,
    })
}

#[test]
fn a_machine_without_a_meter_has_a_reason_and_no_number() {
    let root = tempfile::tempdir().unwrap();
    let sampler = PowerSampler::start(&sources(root.path())).unwrap();
    assert!(!sampler.can_sum() && sampler.channels().is_empty());
    let window = sampler.window(0, u64::MAX);
    let Measurement::Unavailable { why } = window.energy_j else {
        panic!("unavailable");
    };
    assert!(why.starts_with("no sensor ("), "{why}");
    assert!(window.uncertainty_j.is_none() && window.channels.is_empty());
    assert_eq!(sampler.finish(), None);
}

/// A board whose one rail draws 10 W.
fn board() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let chip = root.path().join("sys/class/hwmon/hwmon0");
    fs::create_dir_all(&chip).unwrap();
    for (name, text) in [
        ("name", "ina3221"),
        ("in1_label", "VDD_IN"),
        ("in1_input", "5000"),
        ("curr1_input", "2000"),
    ] {
        fs::write(chip.join(name), text).unwrap();
    }
    root
}

#[test]
fn readings_that_fill_no_event_are_told_when_their_phase_ends() {
    // Without a meter no thread reads: the moments are the test's own.
    let root = tempfile::tempdir().unwrap();
    let sampler = PowerSampler::start(&sources(root.path())).unwrap();
    let (sender, mut told) = tokio::sync::mpsc::channel(100);
    let t0 = 1_000;
    sampler.begin_phase(t0, &Arc::new(EventSink::new(sender)), Vec::new());
    for at in 990..1_025 {
        let mut phase = held(&sampler.shared.phase);
        phase.as_mut().unwrap().push(at, &[Ok(at)], 10);
    }
    sampler.end_phase();
    let mut batches = Vec::new();
    while let Ok(event) = told.try_recv() {
        let EventBody::Meters(readings) = event.body else {
            panic!("readings: {event:?}");
        };
        let values = readings.values.iter().map(|values| values[0].unwrap());
        assert!(values.eq(readings.at_ns.iter().map(|at_ns| at_ns + t0)));
        batches.push(readings.at_ns);
    }
    assert_eq!(
        batches.iter().map(Vec::len).collect::<Vec<usize>>(),
        [10, 10, 5]
    );
    assert!(
        batches.concat().into_iter().eq(0..25),
        "from T0 on: {batches:?}"
    );
}

#[test]
fn a_rail_is_integrated_and_named_a_stub() {
    let root = board();
    let sampler = PowerSampler::start(&sources(root.path())).unwrap();
    let channels = sampler.channels();
    assert!(channels[0].stub && channels[0].counted, "{channels:?}");
    let from = clock::now() + 20_000_000;
    let to = from + 200_000_000;
    clock::sleep_until(to + 30_000_000);
    let window = sampler.window(from, to);
    let Measurement::Derived { value, source } = window.energy_j else {
        panic!("derived from power: {window:?}");
    };
    assert!((value - 2.0).abs() < 1e-6, "10 W for 0.2 s: {value}");
    assert!(source.ends_with("(stub)"), "{source}");
    assert_eq!(window.channels.len(), 1);
    assert!(
        matches!(window.power.power_w, Measurement::Derived { value, .. } if (value - 10.0).abs() < 1e-5)
    );
    let cost = sampler.finish().unwrap();
    assert!(cost.reads > 0 && cost.read_p99_ns >= cost.read_p50_ns);
    assert_eq!(cost.period_ns, 10_000_000);
    let [of_rails] = cost.meters.as_slice() else {
        panic!("one meter: {:?}", cost.meters);
    };
    assert_eq!((of_rails.channels, of_rails.devices), (1, 1));
    assert!(of_rails.read_p50_ns > 0 && of_rails.read_p50_ns <= of_rails.read_p99_ns);
}

#[test]
fn readings_of_an_idle_span_are_kept_from_its_beginning_until_they_are_taken() {
    let root = board();
    let sampler = PowerSampler::start(&sources(root.path())).unwrap();
    let from = clock::now() + 20_000_000;
    sampler.keep_readings(from);
    let to = from + 200_000_000;
    clock::sleep_until(to);
    let readings = sampler.take_readings();
    let idle = sampler.window(from, to).idle("before", to - from, readings);
    let readings = idle.readings.unwrap();
    assert!(!readings.at_ns.is_empty() && readings.at_ns.len() == readings.values.len());
    assert!(readings.values.iter().all(|row| row == &[Some(10_000_000)]));
    let mean_w: Vec<Option<f64>> = idle.channels_w.iter().map(Measurement::value).collect();
    assert!(
        matches!(mean_w.as_slice(), [Some(watts)] if (watts - 10.0).abs() < 1e-5),
        "{mean_w:?}"
    );
    assert_eq!(sampler.take_readings(), MeterReadings::default());
}

#[test]
fn processes_that_descend_from_no_node_are_foreign() {
    let state = GpuState {
        processes: Some(vec![
            hexloop_telemetry::GpuProcess {
                pid: std::process::id(),
                memory_bytes: None,
                sm_percent: None,
            },
            hexloop_telemetry::GpuProcess {
                pid: 1,
                memory_bytes: None,
                sm_percent: None,
            },
        ]),
        ..GpuState::default()
    };
    let sample = gpu_sample("GPU".to_owned(), 0, Ok(state), &[std::process::id()]);
    assert_eq!(sample.foreign_processes, Some(vec![1]));
}
