//! What a real GPU shows of itself. It runs where there is one, prints what it measured, and keeps
//! it as a recording in the directory that `HEXLOOP_RECORDINGS` names.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use hexloop_nvml_stub::Recording;
    use hexloop_telemetry::{
        CounterTrack, Meter, NvmlMeter, Origin, PowerTrack, Quantity, window_energy,
    };
    use hexloop_workloads::clock;

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

    /// Reads every millisecond for a while: moments since the first, and the readings.
    fn poll(meter: &mut NvmlMeter) -> Vec<(u64, Vec<Option<u64>>)> {
        let began = clock::now();
        let mut rows = Vec::new();
        let mut readings = Vec::new();
        for number in 0..SPAN_MS {
            clock::sleep_until(began + number * MS);
            let at = clock::now();
            meter.read(&mut readings);
            let values = readings.iter().map(|one| one.as_ref().ok().copied());
            rows.push((at - began, values.collect()));
        }
        rows
    }

    #[test]
    #[ignore = "needs gpu"]
    fn each_quantity_of_a_gpu_is_renewed_at_a_pace_of_its_own_and_counter_and_integral_agree() {
        let mut meter = meter();
        let rows = poll(&mut meter);
        let channels = meter.channels().to_vec();
        let end_ns = rows.last().unwrap().0;
        let mut energies = Vec::new();
        for (place, channel) in channels.iter().enumerate() {
            let values = rows.iter().filter_map(|row| Some((row.0, row.1[place]?)));
            let energy = if channel.quantity.is_counter() {
                let mut track = CounterTrack::new("GPU", None);
                values.for_each(|(at_ns, value)| drop(track.push(at_ns, value)));
                window_energy(&track, 500 * MS, end_ns - 500 * MS)
            } else {
                let mut track = PowerTrack::new("GPU", MS);
                values.for_each(|(at_ns, value)| track.push(at_ns, value));
                println!(
                    "{}: renewed every {:?} ns",
                    channel.describe(),
                    track.refresh_period_ns()
                );
                track.window_energy(500 * MS, end_ns - 500 * MS)
            };
            println!("{}: {energy:?}", channel.describe());
            energies.push(energy);
        }
        let of = |wanted: &dyn Fn(Quantity) -> bool| {
            let place = channels
                .iter()
                .position(|channel| wanted(channel.quantity))?;
            energies[place].as_ref().ok().map(|energy| energy.energy_j)
        };
        let counter = of(&|quantity| quantity.is_counter());
        let integral = of(&|quantity| quantity == Quantity::InstantPower);
        if let (Some(counter_j), Some(integral_j)) = (counter, integral) {
            let gap = (integral_j - counter_j) / counter_j;
            println!(
                "idle: the integral is {:+.2} % off the counter",
                gap * 100.0
            );
            assert!(gap.abs() < 0.5, "{integral_j} J against {counter_j} J");
        }
        keep(&meter, &rows);
        println!(
            "SKIPPED(engine on a GPU) counter against integral at prefill and decode, and joules per \
             token of an 8B shape: this version's engine computes on CPUs"
        );
    }

    /// Writes what was polled as a recording that the stub plays back.
    fn keep(meter: &NvmlMeter, rows: &[(u64, Vec<Option<u64>>)]) {
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
            "# source: recorded\n# gpu: {}\n# driver: {}\n# date: {} s since 1970\n# load: idle\n\
             # rate_hz: 1000\nat_ms,counter_mj,instant_mw,average_mw\n",
            meter.channels()[0].device,
            meter.driver(),
            clock::wall_clock_ns() / 1_000_000_000,
        );
        for (at_ns, values) in rows {
            let cells = kept.map(|place| {
                // Channels are in millionths, the recording in thousandths.
                let value = place.and_then(|place| values[place]);
                value.map_or_else(String::new, |value| (value / 1_000).to_string())
            });
            writeln!(text, "{},{}", at_ns / MS, cells.join(",")).unwrap();
        }
        let recording = Recording::parse(&text).unwrap();
        assert_eq!(recording.about["source"], "recorded");
        if let Some(directory) = std::env::var_os("HEXLOOP_RECORDINGS") {
            let path = std::path::Path::new(&directory).join("recorded-idle.csv");
            std::fs::write(&path, text).unwrap();
            println!("kept {}", path.display());
        }
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
