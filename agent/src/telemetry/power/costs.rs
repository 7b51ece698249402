//! What reading the meters costs: everything, each meter, and the slow things about GPUs.

use std::collections::BTreeSet;

use hexloop_proto::{MeterCost, MeteringCost};
use hexloop_telemetry::{MachineMeters, Reading};
use hexloop_workloads::clock;

use super::super::board::GpuLook;
use crate::link::histogram::NanosecondHistogram;

/// Reads meters and keeps how long that took.
pub(super) struct Costs {
    all: NanosecondHistogram,
    states: NanosecondHistogram,
    meters: Vec<(MeterCost, NanosecondHistogram)>,
}

impl Costs {
    pub(super) fn new(meters: &MachineMeters) -> Costs {
        let mut channels = meters.channels().iter();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let meters = meters.meters().into_iter().map(|(meter, number)| {
            let devices: BTreeSet<&str> = channels
                .by_ref()
                .take(number)
                .map(|channel| channel.device.as_str())
                .collect();
            let cost = MeterCost {
                meter,
                channels: count(number),
                devices: count(devices.len()),
                ..MeterCost::default()
            };
            (cost, NanosecondHistogram::new())
        });
        Costs {
            all: NanosecondHistogram::new(),
            states: NanosecondHistogram::new(),
            meters: meters.collect(),
        }
    }

    /// Reads energy and power of all meters.
    pub(super) fn read(&mut self, meters: &mut MachineMeters, readings: &mut Vec<Reading>) {
        let began = clock::now();
        let mut before = began;
        let each = &mut self.meters;
        meters.read_each(readings, |place, is_before| {
            let now = clock::now();
            if is_before {
                before = now;
            } else if let Some((_, histogram)) = each.get_mut(place) {
                histogram.record(now.saturating_sub(before));
            }
        });
        self.all.record(clock::now().saturating_sub(began));
    }

    /// Reads the slow things about GPUs.
    pub(super) fn states(&mut self, meters: &mut MachineMeters) -> Vec<GpuLook> {
        let began = clock::now();
        let states = meters.gpu_states();
        if !states.is_empty() {
            self.states.record(clock::now().saturating_sub(began));
        }
        states
    }

    /// Puts it into the record.
    pub(super) fn tell(self, cost: &mut MeteringCost) {
        cost.read_p50_ns = self.all.at_share(0.5).unwrap_or(0);
        cost.read_p99_ns = self.all.at_share(0.99).unwrap_or(0);
        cost.state_p50_ns = self.states.at_share(0.5);
        cost.meters = self
            .meters
            .into_iter()
            .map(|(meter, histogram)| MeterCost {
                read_p50_ns: histogram.at_share(0.5).unwrap_or(0),
                read_p99_ns: histogram.at_share(0.99).unwrap_or(0),
                read_mean_ns: histogram.mean().unwrap_or(0),
                ..meter
            })
            .collect();
    }
}
