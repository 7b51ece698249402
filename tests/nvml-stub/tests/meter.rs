//! The meter of NVML against a library that follows a script. One process, one library: the tests
//! take turns.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use hexloop_nvml_stub::{GpuScript, Script};
    use hexloop_telemetry::{
        Channel, CounterStep, CounterTrack, EnergyBook, GpuState, MachineMeters, Meter, NvmlMeter,
        Origin, Places, PowerTrack, Quantity, Reading, Trouble, WindowEnergy, window_energy,
    };

    const MS: u64 = 1_000_000;

    static TURN: Mutex<()> = Mutex::new(());

    /// The library is built beside this test.
    fn library() -> PathBuf {
        let test = std::env::current_exe().unwrap();
        let directory = test.parent().unwrap();
        let path = directory.join("libhexloop_nvml_stub.so");
        assert!(path.exists(), "cargo did not build {}", path.display());
        path
    }

    struct Stub {
        _turn: MutexGuard<'static, ()>,
        _directory: tempfile::TempDir,
        set_time: nvml_stub_time::SetTime,
    }

    impl Stub {
        fn at_ms(&self, at_ms: u64) {
            self.set_time.call(at_ms * MS);
        }
    }

    /// The function of the loaded library that puts time somewhere.
    mod nvml_stub_time {
        use std::ffi::{CString, c_char};
        use std::os::unix::ffi::OsStrExt as _;
        use std::path::Path;

        pub(super) struct SetTime {
            library: libloading::Library,
        }

        impl SetTime {
            #[expect(unsafe_code, reason = "the library under test is loaded by hand")]
            pub(super) fn load(path: &Path, script: &Path) -> SetTime {
                // SAFETY: it is our own library, without initialisers.
                let library = unsafe { libloading::Library::new(path) }.unwrap();
                let script = CString::new(script.as_os_str().as_bytes()).unwrap();
                {
                    // SAFETY: the function has this type.
                    let function: libloading::Symbol<'_, extern "C" fn(*const c_char)> =
                        unsafe { library.get(b"hexloop_stub_set_script") }.unwrap();
                    function(script.as_ptr());
                }
                SetTime { library }
            }

            #[expect(unsafe_code, reason = "the library under test is called by hand")]
            pub(super) fn call(&self, at_ns: u64) {
                // SAFETY: the function has this type.
                let function: libloading::Symbol<'_, extern "C" fn(u64)> =
                    unsafe { self.library.get(b"hexloop_stub_set_time_ns") }.unwrap();
                function(at_ns);
            }
        }
    }

    fn stub(gpus: Vec<GpuScript>) -> (Stub, Result<NvmlMeter, Trouble>) {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("script.json");
        let script = Script {
            gpus,
            ..Script::default()
        };
        std::fs::write(&path, serde_json::to_vec(&script).unwrap()).unwrap();
        let set_time = nvml_stub_time::SetTime::load(&library(), &path);
        let meter = NvmlMeter::find(Some(&library()));
        let stub = Stub {
            _turn: turn,
            _directory: directory,
            set_time,
        };
        (stub, meter)
    }

    fn power_track() -> PowerTrack {
        PowerTrack::new("GPU", 10 * MS)
    }

    fn channel(meter: &NvmlMeter, wanted: impl Fn(&Channel) -> bool) -> usize {
        meter.channels().iter().position(wanted).unwrap()
    }

    fn read(meter: &mut NvmlMeter) -> Vec<Reading> {
        let mut readings = Vec::new();
        meter.read(&mut readings);
        assert_eq!(readings.len(), meter.channels().len());
        readings
    }

    #[test]
    fn every_channel_says_which_quantity_it_is_and_that_it_is_a_stub() {
        let (stub, meter) = stub(vec![GpuScript::default()]);
        let mut meter = meter.unwrap();
        stub.at_ms(5_000);
        let found: Vec<(&str, bool)> = meter
            .channels()
            .iter()
            .map(|channel| (channel.source.as_str(), channel.counted))
            .collect();
        assert_eq!(
            found,
            [
                ("NVML total energy", true),
                ("NVML field 186 (POWER_INSTANT), GPU", false),
                ("NVML field 185 (POWER_AVERAGE), GPU", false)
            ]
        );
        assert!(
            meter
                .channels()
                .iter()
                .all(|channel| channel.origin == Origin::Stub)
        );
        // 1000 J at the start and 70 W for 5 s.
        assert_eq!(
            read(&mut meter),
            [Ok(1_350_000_000), Ok(70_000_000), Ok(70_000_000)]
        );
    }

    #[test]
    fn counter_and_integral_agree_on_a_step_load_and_the_average_lags() {
        let script = GpuScript {
            power_mw: vec![(0, 70_000), (2_000, 600_000), (6_000, 70_000)],
            ..GpuScript::default()
        };
        let (stub, meter) = stub(vec![script]);
        let mut meter = meter.unwrap();
        let mut counter = CounterTrack::new("GPU", None);
        let (mut instant, mut average) = (power_track(), power_track());
        for at_ms in (0..=8_000).step_by(10) {
            stub.at_ms(at_ms);
            let readings = read(&mut meter);
            counter.push(at_ms * MS, *readings[0].as_ref().unwrap());
            instant.push(at_ms * MS, *readings[1].as_ref().unwrap());
            average.push(at_ms * MS, *readings[2].as_ref().unwrap());
        }
        let truth_j = 2.0 * 70.0 + 4.0 * 600.0 + 2.0 * 70.0;
        let window = window_energy(&counter, 0, 8_000 * MS).unwrap();
        assert!(
            (window.energy_j - truth_j).abs() <= window.uncertainty_j + 1e-6,
            "{window:?}"
        );
        assert_eq!(window.refresh_period_ns, 100 * MS);
        let integral_j = instant.window_energy(0, 8_000 * MS).unwrap().energy_j;
        // The instant is renewed every 25 ms: each edge may be late by that.
        assert!((integral_j - truth_j).abs() < 530.0 * 0.03, "{integral_j}");
        assert_eq!(
            instant.refresh_period_ns(),
            None,
            "two changes tell no period"
        );
        // Over the second after the rise, the one-second average has seen about half of it.
        let (from_ns, to_ns) = (2_000 * MS, 3_000 * MS);
        let average_j = average.window_energy(from_ns, to_ns).unwrap().energy_j;
        let instant_j = instant.window_energy(from_ns, to_ns).unwrap().energy_j;
        assert!((instant_j - 600.0).abs() < 20.0, "{instant_j}");
        assert!((average_j - 335.0).abs() < 20.0, "{average_j}");
        let rise = window_energy(&counter, 1_000 * MS, 3_000 * MS).unwrap();
        assert!(
            (rise.energy_j - 670.0).abs() <= rise.uncertainty_j + 1e-6,
            "{rise:?}"
        );
    }

    #[test]
    fn a_load_in_step_with_the_sensor_makes_the_integral_a_lie_that_the_counter_gives_away() {
        // 400 W for 25 ms of every 100 ms, else 10 W: 322.5 J in 3 s. The power is looked at once in 100 ms, always then.
        let pulses = |first_ms: u64| {
            let pulse = |number: u64| {
                let at_ms = first_ms + number * 100;
                [(at_ms, 400_000), (at_ms + 25, 10_000)]
            };
            let mut power_mw = vec![(0, 10_000)];
            power_mw.extend((0..40).flat_map(pulse));
            GpuScript {
                power_mw,
                instant_period_ms: 100,
                ..GpuScript::default()
            }
        };
        let gap = |script: GpuScript| {
            let (stub, meter) = stub(vec![script]);
            let mut meter = meter.unwrap();
            let channels = meter.channels().to_vec();
            let mut book = EnergyBook::new(&channels, 10 * MS);
            for at_ms in (0..=4_000).step_by(10) {
                stub.at_ms(at_ms);
                book.push(at_ms * MS, &read(&mut meter));
            }
            let window = book.window(500 * MS, 3_500 * MS);
            let gaps = book.counters_against_integrals(&window);
            assert_eq!(gaps.len(), 1, "{window:?}");
            gaps[0].clone()
        };
        // Seen at the height of each pulse: 1200 J. Between them: 30 J.
        let seen = gap(pulses(100));
        assert!((seen.counter_j - 322.5).abs() < 11.0, "{seen:?}");
        assert!((seen.integral_j - 1_200.0).abs() < 1.0, "{seen:?}");
        let unseen = gap(pulses(150));
        assert!((unseen.counter_j - 322.5).abs() < 11.0, "{unseen:?}");
        assert!((unseen.integral_j - 30.0).abs() < 1.0, "{unseen:?}");
        assert!(seen.relative_gap > 2.5 && unseen.relative_gap < -0.85);
    }

    #[test]
    fn a_counter_that_is_reset_is_noticed_and_never_wraps_silently() {
        let script = GpuScript {
            reset_at_ms: Some(1_000),
            ..GpuScript::default()
        };
        let (stub, meter) = stub(vec![script]);
        let mut meter = meter.unwrap();
        let mut track = CounterTrack::new("GPU", None);
        let mut broken = 0;
        for at_ms in (0..=2_000).step_by(50) {
            stub.at_ms(at_ms);
            let energy_uj = *read(&mut meter)[0].as_ref().unwrap();
            if let CounterStep::Broken(trouble) = track.push(at_ms * MS, energy_uj) {
                assert!(matches!(trouble, Trouble::Reset { .. }), "{trouble}");
                broken += 1;
            }
        }
        assert_eq!(broken, 1);
        let across = window_energy(&track, 500 * MS, 2_000 * MS).unwrap_err();
        assert!(matches!(across, Trouble::Failed { .. }), "{across}");
    }

    #[test]
    fn without_fields_the_usage_is_read_and_named_by_the_architecture() {
        let unsupported = vec!["fields".to_owned()];
        let gpu = |name: &str, architecture| GpuScript {
            name: name.to_owned(),
            architecture,
            not_supported: unsupported.clone(),
            ..GpuScript::default()
        };
        // nvmlDeviceArchitecture: 6 Turing, 7 Ampere, 9 Hopper.
        for (name, architecture, is_average) in [
            ("T4", 6, false),
            ("A100-SXM4-80GB", 7, false),
            ("A10", 7, true),
            ("H100", 9, true),
        ] {
            let (_stub, meter) = stub(vec![gpu(name, architecture)]);
            let meter = meter.unwrap();
            let index = channel(&meter, |channel| !channel.quantity.is_counter());
            let quantity = meter.channels()[index].quantity;
            let average = matches!(quantity, Quantity::AveragePower { window_ns: Some(_) });
            assert_eq!(average, is_average, "{name}: {quantity:?}");
        }
    }

    #[test]
    fn a_gpu_without_a_counter_is_counted_by_its_power() {
        let script = GpuScript {
            not_supported: vec!["energy".to_owned()],
            ..GpuScript::default()
        };
        let (_stub, meter) = stub(vec![script]);
        let meter = meter.unwrap();
        let counted: Vec<&Channel> = meter
            .channels()
            .iter()
            .filter(|channel| channel.counted)
            .collect();
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].quantity, Quantity::InstantPower);
    }

    #[test]
    fn what_a_gpu_withholds_is_told_for_each_thing_and_nothing_of_one_that_tells_everything() {
        let withheld = |script: GpuScript| {
            let (_stub, meter) = stub(vec![script]);
            let meter = meter.unwrap();
            let told = meter.withheld().iter().map(|(_, why)| why.to_string());
            told.collect::<Vec<String>>()
        };
        assert!(withheld(GpuScript::default()).is_empty());
        let told = withheld(GpuScript {
            no_permission: vec!["energy".to_owned(), "gpm".to_owned()],
            not_supported: vec!["fields".to_owned()],
            ..GpuScript::default()
        });
        let uuid = GpuScript::default().uuid;
        let expected = [
            format!("no permission to read the energy counter of {uuid}; run as root"),
            format!("no permission to read performance counters (GPM) of {uuid}; run as root"),
            format!("{uuid} does not support the field 186 (POWER_INSTANT)"),
            format!("{uuid} does not support the field 185 (POWER_AVERAGE)"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_gpu_that_falls_off_the_bus_is_lost_and_the_other_goes_on() {
        let lost = GpuScript {
            uuid: "GPU-lost".to_owned(),
            lost_at_ms: Some(1_000),
            ..GpuScript::default()
        };
        let (stub, meter) = stub(vec![lost, GpuScript::default()]);
        let mut meter = meter.unwrap();
        stub.at_ms(500);
        assert!(read(&mut meter).iter().all(Result::is_ok));
        stub.at_ms(1_500);
        let readings = read(&mut meter);
        for reading in &readings[..3] {
            assert!(
                matches!(reading, Err(Trouble::Lost { device, .. }) if device == "GPU-lost"),
                "{reading:?}"
            );
        }
        assert!(readings[3..].iter().all(Result::is_ok));
    }

    #[test]
    fn foreign_processes_and_throttling_are_seen() {
        let script = GpuScript {
            processes: vec![(0, 0, 41, 1 << 30), (1_000, 2_000, 4_242, 2 << 30)],
            throttle: vec![(0, 0x1), (1_000, 0x4)],
            mig: true,
            ..GpuScript::default()
        };
        let (stub, meter) = stub(vec![script]);
        let mut meter = meter.unwrap();
        let mut state = |at_ms| {
            stub.at_ms(at_ms);
            meter.gpu_states().remove(0).1.unwrap()
        };
        let pids = |state: GpuState| -> Vec<u32> {
            let processes = state.processes.unwrap();
            processes.iter().map(|process| process.pid).collect()
        };
        assert_eq!(pids(state(500)), [41]);
        assert_eq!(pids(state(1_500)), [41, 4_242]);
        assert_eq!(state(1_500).memory_used_bytes, Some(3 << 30));
        assert_eq!(
            state(500).is_throttled(),
            Some(false),
            "idle is no throttling"
        );
        assert_eq!(state(1_500).is_throttled(), Some(true));
        assert_eq!(state(0).mig, Some(true));
    }

    #[test]
    fn performance_counters_and_the_use_of_processes_are_told_between_two_looks() {
        let script = GpuScript {
            power_mw: vec![(0, 70_000), (1_000, 600_000)],
            processes: vec![(0, 0, 41, 1 << 30), (0, 0, 42, 2 << 30)],
            ..GpuScript::default()
        };
        let (stub, meter) = stub(vec![script]);
        let mut meter = meter.unwrap();
        let mut look = |at_ms| {
            stub.at_ms(at_ms);
            meter.gpu_states().remove(0).1.unwrap()
        };
        let first = look(500);
        assert_eq!(first.activity, None, "one sample tells nothing");
        assert_eq!(first.without_activity, None);
        let of = |state: &GpuState| -> Vec<Option<u32>> {
            let processes = state.processes.as_ref().unwrap().iter();
            processes.map(|process| process.sm_percent).collect()
        };
        assert_eq!(of(&first), [Some(0), Some(0)], "nobody has used it yet");
        // Busy for half of the second until 1500 ms.
        let activity = look(1_500).activity.unwrap();
        assert_eq!(activity.sm, Some(5_000));
        assert_eq!(activity.tensor, Some(2_500));
        assert_eq!(activity.memory_bandwidth, Some(1_250));
        assert_eq!(of(&look(2_000)), [Some(100), Some(0)]);
    }

    #[test]
    fn before_hopper_there_are_no_performance_counters_and_instances_have_no_use_of_processes() {
        let script = GpuScript {
            architecture: 7,
            mig: true,
            processes: vec![(0, 0, 41, 1 << 30)],
            ..GpuScript::default()
        };
        let (_stub, meter) = stub(vec![script]);
        let state = meter.unwrap().gpu_states().remove(0).1.unwrap();
        assert_eq!(state.activity, None);
        let why = state.without_activity.unwrap();
        assert!(why.contains("not available on the target device"), "{why}");
        let processes = state.processes.unwrap();
        assert_eq!(processes[0].sm_percent, None, "not told, rather than 0");
    }

    #[test]
    fn slow_calls_cost_time_and_change_no_value() {
        let script = GpuScript {
            latency_us: 2_000,
            ..GpuScript::default()
        };
        let (stub, meter) = stub(vec![script]);
        let mut meter = meter.unwrap();
        stub.at_ms(5_000);
        let began = hexloop_workloads::clock::now();
        let readings = read(&mut meter);
        let took_ns = hexloop_workloads::clock::now() - began;
        assert!(took_ns >= 2 * 2 * MS, "two calls: {took_ns} ns");
        assert_eq!(readings[0], Ok(1_350_000_000));
    }

    /// Reads a recording to its end: the energy by its counter and the integral of its power, over
    /// all of it but half a second at either end.
    fn played_back(recording: &str, end_ms: u64) -> (NvmlMeter, WindowEnergy, f64) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
        let script = GpuScript {
            recording: Some(directory.join(recording)),
            ..GpuScript::default()
        };
        let (stub, meter) = stub(vec![script]);
        let mut meter = meter.unwrap();
        let mut counter = CounterTrack::new("GPU", None);
        let mut instant = power_track();
        for at_ms in (0..=end_ms).step_by(10) {
            stub.at_ms(at_ms);
            let readings = read(&mut meter);
            counter.push(at_ms * MS, *readings[0].as_ref().unwrap());
            instant.push(at_ms * MS, *readings[1].as_ref().unwrap());
        }
        let (from_ns, to_ns) = (500 * MS, (end_ms - 500) * MS);
        let window = window_energy(&counter, from_ns, to_ns).unwrap();
        let integral = instant.window_energy(from_ns, to_ns).unwrap();
        (meter, window, integral.energy_j)
    }

    #[test]
    fn a_real_gpu_that_was_recorded_is_metered_alike_by_its_counter_and_its_power() {
        // An H200 that did nothing, and one that loaded a model, read prompts and made tokens: a
        // gap of 0.9 and 1.2 % at most was found in their windows when they were recorded.
        for (recording, end_ms) in [
            ("h200-idle.csv", 5_000),
            ("h200-bench.csv", 50_000),
            ("h200-steps.csv", 23_000),
        ] {
            let (_, window, integral_j) = played_back(recording, end_ms);
            let refresh_ms = window.refresh_period_ns / MS;
            assert!(
                (90..=110).contains(&refresh_ms),
                "{recording}: {refresh_ms}"
            );
            let gap = (integral_j - window.energy_j).abs() / window.energy_j;
            assert!(gap < 0.03, "{recording}: {integral_j} against {window:?}");
        }
    }

    #[test]
    fn recorded_samples_are_played_back_and_named_with_their_source() {
        let (meter, window, integral_j) = played_back("synthetic-h100-step.csv", 9_000);
        assert_eq!(window.refresh_period_ns, 100 * MS);
        let gap = (integral_j - window.energy_j).abs() / window.energy_j;
        assert!(gap < 0.02, "{integral_j} against {window:?}");
        assert!(
            meter
                .channels()
                .iter()
                .all(|one| one.origin == Origin::Stub)
        );
    }

    #[test]
    fn a_recording_that_cannot_be_read_is_no_gpu() {
        let script = GpuScript {
            recording: Some("/nowhere/recording.csv".into()),
            ..GpuScript::default()
        };
        let (_stub, meter) = stub(vec![script]);
        assert!(meter.is_err());
    }

    #[test]
    fn a_library_that_does_not_start_is_a_finding_and_no_zero() {
        let (_stub, meter) = stub(Vec::new());
        let trouble = meter.unwrap_err().to_string();
        assert!(trouble.contains("NVML with 0 GPUs"), "{trouble}");
        let nowhere = tempfile::tempdir().unwrap();
        let places = Places {
            root: nowhere.path().to_path_buf(),
            nvml: Some("/nowhere/libnvidia-ml.so.1".into()),
            with_nvml: true,
            origin: Origin::Stub,
        };
        let why = MachineMeters::find(&places).why_nothing().unwrap();
        assert!(why.contains("NVML: cannot read NVML"), "{why}");
    }
}
