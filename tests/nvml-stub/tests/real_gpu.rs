//! What a real GPU shows of itself. It runs where there is one, prints what it measured, and keeps
//! it as a recording in the directory that `HEXLOOP_RECORDINGS` names.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::process::{Child, Command, Stdio};

    use hexloop_nvml_stub::Recording;
    use hexloop_telemetry::{
        Channel, CounterTrack, GpuActivity, Meter, NvmlMeter, Origin, PowerTrack, Quantity, Scope,
        Trouble, window_energy,
    };
    use hexloop_workloads::clock;
    use nvml_wrapper::Nvml;
    use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
    use nvml_wrapper::structs::device::FieldId;

    const MS: u64 = 1_000_000;
    const SPAN_MS: u64 = 5_000;

    fn meter() -> NvmlMeter {
        let meter = NvmlMeter::find(None).unwrap();
        assert!(
            meter
                .channels()
                .iter()
                .all(|one| one.origin == Origin::Hardware),
            "a stub is no GPU"
        );
        meter
    }

    /// A moment, and what was read then.
    type Row = (u64, Vec<Option<u64>>);

    /// Reads every millisecond while `goes_on`: moments since `began`, and the readings.
    fn poll(meter: &mut NvmlMeter, began: u64, mut goes_on: impl FnMut(u64) -> bool) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut readings = Vec::new();
        for number in 0.. {
            clock::sleep_until(began + number * MS);
            let at = clock::now();
            meter.read(&mut readings);
            for reading in &readings {
                let is_looked_at = matches!(reading, Ok(_) | Err(Trouble::NotDue { .. }));
                assert!(is_looked_at, "after {} ns: {reading:?}", at - began);
            }
            let values = readings.iter().map(|one| one.as_ref().ok().copied());
            rows.push((at - began, values.collect()));
            if !goes_on(at - began) {
                break;
            }
        }
        rows
    }

    /// The energy of a window by one channel, in joules, or why it is not known.
    fn energy_j(channel: &Channel, rows: &[Row], place: usize, from: u64, to: u64) -> Found {
        let values = rows.iter().filter_map(|row| Some((row.0, row.1[place]?)));
        let energy = if channel.quantity.is_counter() {
            let mut track = CounterTrack::new("GPU", None);
            values.for_each(|(at_ns, value)| drop(track.push(at_ns, value)));
            window_energy(&track, from, to)
        } else {
            // A reading may take longer than the millisecond that is wished for.
            let mut track = PowerTrack::new("GPU", 10 * MS);
            values.for_each(|(at_ns, value)| track.push(at_ns, value));
            track.window_energy(from, to)
        };
        energy
            .map(|energy| energy.energy_j)
            .map_err(|trouble| format!("{trouble:?}"))
    }

    type Found = Result<f64, String>;

    /// The energies by the counter and by the integral of instantaneous power.
    fn counter_and_integral(meter: &NvmlMeter, rows: &[Row], from: u64, to: u64) -> [Found; 2] {
        let by = |wanted: &dyn Fn(Quantity) -> bool| {
            let mut channels = meter.channels().iter().enumerate();
            match channels.find(|(_, channel)| wanted(channel.quantity)) {
                Some((place, channel)) => energy_j(channel, rows, place, from, to),
                None => Err("no such channel".to_owned()),
            }
        };
        [
            by(&|quantity| quantity.is_counter()),
            by(&|quantity| quantity == Quantity::InstantPower),
        ]
    }

    #[test]
    #[ignore = "needs gpu"]
    fn each_quantity_of_a_gpu_is_renewed_at_a_pace_of_its_own_and_counter_and_integral_agree() {
        let mut meter = meter();
        let rows = poll(&mut meter, clock::now(), |at_ns| at_ns < SPAN_MS * MS);
        let end_ns = rows.last().unwrap().0;
        println!(
            "{} readings in {} ms, beside a wish of one a millisecond",
            rows.len(),
            end_ns / MS
        );
        for (place, channel) in meter.channels().iter().enumerate() {
            let changes = rows
                .windows(2)
                .filter(|pair| pair[0].1[place] != pair[1].1[place]);
            println!(
                "{}: {} changes, {:?} J",
                channel.describe(),
                changes.count(),
                energy_j(channel, &rows, place, 500 * MS, end_ns - 500 * MS)
            );
        }
        let found = counter_and_integral(&meter, &rows, 500 * MS, end_ns - 500 * MS);
        if let [Ok(counter_j), Ok(integral_j)] = found {
            let gap = (integral_j - counter_j) / counter_j;
            println!(
                "idle: the integral is {:+.2} % off the counter",
                gap * 100.0
            );
            assert!(gap.abs() < 0.5, "{integral_j} J against {counter_j} J");
        }
        keep(&meter, &rows, "idle");
    }

    /// The engine's measurement of batches, which the variables `HEXLOOP_ENGINE_CUDA` (the program)
    /// and `HEXLOOP_ENGINE_MODEL` (the model's directory) name; `None`, said by name, where they do not.
    fn engine_s_bench() -> Option<Child> {
        let named = ["HEXLOOP_ENGINE_CUDA", "HEXLOOP_ENGINE_MODEL"].map(std::env::var);
        let [Ok(engine), Ok(model)] = named else {
            println!("SKIPPED(engine-cuda) HEXLOOP_ENGINE_CUDA or HEXLOOP_ENGINE_MODEL is not set");
            return None;
        };
        let precision = std::env::var("HEXLOOP_ENGINE_PRECISION");
        let asked = serde_json::json!({
            "model_directory": model,
            "device": "cuda:0",
            "precision": precision.unwrap_or_else(|_| "bf16".to_owned()),
            "threads": 8,
            "prompt_tokens": 512,
            "output_tokens": 256,
            "batches": [1, 16],
            "window_ns": 4_000 * MS,
        });
        let mut child = Command::new(engine)
            .arg("bench")
            .env("RAYON_NUM_THREADS", "8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{asked}").unwrap();
        Some(child)
    }

    /// Reads the GPU while the engine on it is measured.
    #[test]
    #[ignore = "needs gpu"]
    fn counter_and_integral_agree_while_a_model_is_loaded_reads_prompts_and_makes_tokens() {
        let Some(mut child) = engine_s_bench() else {
            return;
        };
        let mut meter = meter();
        let told = child.stdout.take().unwrap();
        let told = std::thread::spawn(move || std::io::read_to_string(told).unwrap());
        let began = clock::now();
        let rows = poll(&mut meter, began, |_| child.try_wait().unwrap().is_none());
        let told = told.join().unwrap();
        assert!(child.wait().unwrap().success(), "{told}");
        let mut windows = 0;
        for line in told.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let Some(window) = event.get("window") else {
                println!("{line}");
                continue;
            };
            let number = |name: &str| window[name].as_u64().unwrap();
            let (from, to) = (number("start_ns") - began, number("end_ns") - began);
            let [counter, integral] = counter_and_integral(&meter, &rows, from, to);
            println!(
                "{} batch {}: {} tokens in {} ms, counter {counter:?} J, integral {integral:?} J",
                window["phase"],
                window["batch"],
                window["tokens"],
                (to - from) / MS
            );
            if let (Ok(counter_j), Ok(integral_j)) = (counter, integral) {
                windows += 1;
                let gap = (integral_j - counter_j) / counter_j;
                println!("  the integral is {:+.2} % off the counter", gap * 100.0);
                assert!(gap.abs() < 0.25, "{integral_j} J against {counter_j} J");
            }
        }
        assert!(windows > 0, "no window had both: {told}");
        keep(&meter, &rows, "bench");
    }

    /// The time that `call` takes, a hundred times over.
    fn cost(name: &str, mut call: impl FnMut()) {
        let mut costs: Vec<u64> = (0..100)
            .map(|_| {
                let before = clock::now();
                call();
                clock::now() - before
            })
            .collect();
        costs.sort_unstable();
        println!("{name}: {} ns, p99 {} ns", costs[50], costs[98]);
    }

    /// Which of the calls is the dear one. A call that is refused costs too.
    fn cost_of_each_call() {
        let nvml = Nvml::init().unwrap();
        cost("device_by_index", || drop(nvml.device_by_index(0)));
        let device = nvml.device_by_index(0).unwrap();
        cost("total_energy_consumption", || {
            drop(device.total_energy_consumption());
        });
        cost("power_usage", || drop(device.power_usage()));
        for fields in [
            &[186][..],
            &[185],
            &[83],
            &[186, 185],
            &[83, 186, 185],
            &[83, 186, 185, 82],
        ] {
            let ids: Vec<FieldId> = fields.iter().map(|id| FieldId(*id)).collect();
            cost(&format!("field_values_for {fields:?}"), || {
                drop(device.field_values_for(&ids));
            });
        }
        cost("utilization_rates", || drop(device.utilization_rates()));
        cost("memory_info", || drop(device.memory_info()));
        cost("clock_info", || drop(device.clock_info(Clock::SM)));
        cost("temperature", || {
            drop(device.temperature(TemperatureSensor::Gpu));
        });
        cost("current_throttle_reasons", || {
            drop(device.current_throttle_reasons());
        });
        cost("performance_state", || drop(device.performance_state()));
        cost("running_compute_processes", || {
            drop(device.running_compute_processes());
        });
        cost("mps_running_compute_processes", || {
            drop(device.mps_running_compute_processes());
        });
        cost("process_utilization_stats", || {
            drop(device.process_utilization_stats(0));
        });
        cost("enforced_power_limit", || {
            drop(device.enforced_power_limit());
        });
        cost("mig_mode", || drop(device.mig_mode()));
        cost("gpm_sample", || drop(device.gpm_sample()));
    }

    /// Looks at the performance counters five times a second while `goes_on`: of the first GPU, or
    /// why it has none.
    fn activities(
        meter: &mut NvmlMeter,
        mut goes_on: impl FnMut(u64) -> bool,
    ) -> Result<Vec<(u64, GpuActivity)>, String> {
        let began = clock::now();
        let mut found = Vec::new();
        for number in 0.. {
            clock::sleep_until(began + number * 200 * MS);
            let at = clock::now() - began;
            let mut states = meter.gpu_states();
            let (uuid, state) = states.remove(0);
            let state = state.unwrap_or_else(|trouble| panic!("{uuid}: {trouble}"));
            if let Some(why) = state.without_activity {
                assert_eq!(state.activity, None, "not there, and yet a value");
                return Err(why);
            }
            // The first look has nothing before it.
            assert_eq!(state.activity.is_some(), number > 0, "look {number}");
            found.extend(state.activity.map(|activity| (at / MS, activity)));
            if !goes_on(at) {
                break;
            }
        }
        Ok(found)
    }

    /// The highest value of one counter.
    fn highest(
        found: &[(u64, GpuActivity)],
        counter: impl Fn(&GpuActivity) -> Option<u32>,
    ) -> Option<u32> {
        found.iter().filter_map(|(_, one)| counter(one)).max()
    }

    /// Performance counters (GPM, Hopper and later), idle and beside the engine's measurement.
    #[test]
    #[ignore = "needs gpu"]
    fn performance_counters_follow_the_load_or_say_why_there_are_none() {
        let idle = match activities(&mut meter(), |at_ns| at_ns < 2_000 * MS) {
            Ok(found) => found,
            Err(why) => {
                assert!(!why.is_empty());
                println!("no performance counters (GPM): {why}");
                return;
            }
        };
        println!("at_ms,sm,occupancy,tensor,memory_bandwidth (hundredths of a percent)");
        let show = |found: &[(u64, GpuActivity)]| {
            for (at_ms, one) in found {
                let cells = [one.sm, one.occupancy, one.tensor, one.memory_bandwidth];
                let cells =
                    cells.map(|cell| cell.map_or_else(String::new, |cell| cell.to_string()));
                println!("{at_ms},{}", cells.join(","));
            }
        };
        show(&idle);
        let Some(mut child) = engine_s_bench() else {
            return;
        };
        let told = child.stdout.take().unwrap();
        let told = std::thread::spawn(move || std::io::read_to_string(told).unwrap());
        let loaded = activities(&mut meter(), |_| child.try_wait().unwrap().is_none()).unwrap();
        assert!(child.wait().unwrap().success(), "{}", told.join().unwrap());
        show(&loaded);
        for (name, counter) in [
            ("sm", (|one| one.sm) as fn(&GpuActivity) -> Option<u32>),
            ("tensor", |one| one.tensor),
            ("memory_bandwidth", |one| one.memory_bandwidth),
        ] {
            let (before, after) = (highest(&idle, counter), highest(&loaded, counter));
            println!("{name}: highest {before:?} idle, {after:?} loaded");
            assert!(after > before, "{name}: {before:?} idle, {after:?} loaded");
        }
    }

    /// Writes what was polled as a recording that the stub plays back: the rows in which something
    /// had changed. A quantity that was not looked at is as it was.
    fn keep(meter: &NvmlMeter, rows: &[Row], load: &str) {
        let names = meter
            .channels()
            .iter()
            .map(|channel| match channel.quantity {
                Quantity::EnergyCounter { .. } => "counter_mj",
                Quantity::InstantPower => "instant_mw",
                Quantity::AveragePower { .. } => "average_mw",
            });
        let names: Vec<&str> = names.collect();
        let first = |name| names.iter().position(|one| *one == name);
        let kept = ["counter_mj", "instant_mw", "average_mw"].map(first);
        let mut text = format!(
            "# source: recorded\n# gpu: {}\n# driver: {}\n# date: {} s since 1970\n# load: {load}\n\
             # rate_hz: 1000\nat_ms,counter_mj,instant_mw,average_mw\n",
            meter.channels()[0].device,
            meter.driver(),
            clock::wall_clock_ns() / 1_000_000_000,
        );
        let mut last = String::new();
        let mut known = vec![None; meter.channels().len()];
        for (at_ns, values) in rows {
            for (known, value) in known.iter_mut().zip(values) {
                *known = value.or(*known);
            }
            let cells = kept.map(|place| {
                // Channels are in millionths, the recording in thousandths.
                let value = place.and_then(|place| known[place]);
                value.map_or_else(String::new, |value| (value / 1_000).to_string())
            });
            let cells = cells.join(",");
            if cells != last {
                writeln!(text, "{},{cells}", at_ns / MS).unwrap();
                last = cells;
            }
        }
        let recording = Recording::parse(&text).unwrap();
        assert_eq!(recording.about["source"], "recorded");
        if let Some(directory) = std::env::var_os("HEXLOOP_RECORDINGS") {
            let path = std::path::Path::new(&directory).join(format!("recorded-{load}.csv"));
            std::fs::write(&path, text).unwrap();
            println!("kept {}", path.display());
        }
    }

    /// Keeps the GPU busy for two seconds of every four, and tells when on `CLOCK_MONOTONIC`.
    const STEPS: &str = r"
import time, torch
a = torch.randn(8192, 8192, device='cuda', dtype=torch.bfloat16)
for _ in range(20): a @ a
torch.cuda.synchronize()
time.sleep(2)
for step in range(4):
    began = time.monotonic_ns()
    while time.monotonic_ns() - began < 2_000_000_000:
        for _ in range(5): a @ a
        torch.cuda.synchronize()
    print(began, time.monotonic_ns(), flush=True)
    time.sleep(2)
";

    /// The first moment from `from` to `to` at which a channel was above the middle of what it
    /// showed in between.
    fn rise(rows: &[Row], place: usize, from: u64, to: u64) -> Option<u64> {
        let within = rows.iter().filter(|row| (from..to).contains(&row.0));
        let values = within.filter_map(|row| Some((row.0, row.1[place]?)));
        let values: Vec<(u64, u64)> = values.collect();
        let low = values.first()?.1;
        let high = values.iter().map(|value| value.1).max()?;
        let middle = low.midpoint(high);
        let above = values.iter().find(|value| value.1 >= middle)?;
        Some(above.0)
    }

    /// How long after a step of load each power shows it: the window of its averaging. The Python
    /// with PyTorch is named by `HEXLOOP_TORCH_PYTHON`.
    #[test]
    #[ignore = "needs gpu"]
    fn steps_of_load_show_over_what_window_each_power_is_averaged() {
        let Ok(python) = std::env::var("HEXLOOP_TORCH_PYTHON") else {
            println!("SKIPPED(torch) HEXLOOP_TORCH_PYTHON is not set");
            return;
        };
        let mut meter = meter();
        let mut child = Command::new(python)
            .args(["-c", STEPS])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let began = clock::now();
        let rows = poll(&mut meter, began, |_| child.try_wait().unwrap().is_none());
        let told = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        let steps: Vec<(u64, u64)> = told
            .lines()
            .map(|line| {
                let (from, to) = line.split_once(' ').unwrap();
                let since = |at: &str| at.parse::<u64>().unwrap() - began;
                (since(from), since(to))
            })
            .collect();
        println!(
            "{} readings in {} ms",
            rows.len(),
            rows.last().unwrap().0 / MS
        );
        let mut lags = Vec::new();
        for (place, channel) in meter.channels().iter().enumerate() {
            if channel.quantity.is_counter() {
                continue;
            }
            let lag =
                |(from, to): &(u64, u64)| rise(&rows, place, *from, *to).map(|at| (at - from) / MS);
            let found: Vec<u64> = steps.iter().filter_map(lag).collect();
            println!(
                "{}: half of a step of load shows after {found:?} ms",
                channel.describe()
            );
            if channel.scope == Scope::Gpu {
                let mut sorted = found;
                sorted.sort_unstable();
                lags.push((channel.quantity, sorted[sorted.len() / 2]));
            }
        }
        let of = |wanted: &dyn Fn(Quantity) -> bool| {
            let found = lags.iter().find(|(quantity, _)| wanted(*quantity));
            found.map(|(_, lag_ms)| *lag_ms)
        };
        let instant = of(&|quantity| quantity == Quantity::InstantPower);
        let average = of(&|quantity| matches!(quantity, Quantity::AveragePower { .. }));
        if let (Some(instant_ms), Some(average_ms)) = (instant, average) {
            assert!(instant_ms < average_ms, "{instant_ms} {average_ms}");
        }
        keep(&meter, &rows, "steps");
    }

    #[test]
    #[ignore = "needs gpu"]
    fn a_call_to_a_gpu_costs_what_a_hundred_a_second_can_bear() {
        let mut meter = meter();
        let mut readings = Vec::new();
        let mut costs: Vec<u64> = (0..1_000)
            .map(|_| {
                let before = clock::now();
                meter.read(&mut readings);
                clock::now() - before
            })
            .collect();
        costs.sort_unstable();
        let gpus: std::collections::BTreeSet<&str> = meter
            .channels()
            .iter()
            .map(|channel| channel.device.as_str())
            .collect();
        println!(
            "{} GPUs: {} ns per reading, p99 {} ns",
            gpus.len(),
            costs[500],
            costs[990]
        );
        cost_of_each_call();
        let before = clock::now();
        let states = meter.gpu_states();
        println!("{} ns per look at the slow things", clock::now() - before);
        for (uuid, state) in &states {
            println!("{uuid}: {state:?}");
        }
        // The median of all GPUs a hundred times a second takes less than a whole CPU.
        assert!(costs[500] < 10 * MS, "{} ns", costs[500]);
    }
}
