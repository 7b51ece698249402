//! The books of a run: every channel's readings, and what a window of them amounts to.

use serde::{Deserialize, Serialize};

use crate::{
    Channel, CounterStep, CounterTrack, PowerTrack, Reading, Trouble, WindowEnergy, window_energy,
};

/// Follows every channel of a machine.
#[derive(Debug, Clone)]
pub struct EnergyBook {
    channels: Vec<Channel>,
    tracks: Vec<Track>,
    /// The first and the last moment that was read.
    reach: Option<(u64, u64)>,
}

#[derive(Debug, Clone)]
struct Track {
    follows: Follows,
    /// From when to when there was trouble, and which.
    troubles: Vec<(u64, u64, Trouble)>,
    /// Whether the last reading was trouble.
    fails: bool,
}

#[derive(Debug, Clone)]
enum Follows {
    Counter(CounterTrack),
    Power(PowerTrack),
}

/// The energy of one channel over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelEnergy {
    /// Which channel, as an index into [`EnergyBook::channels`].
    pub channel: usize,
    /// Its energy, or why there is none.
    pub energy: Result<WindowEnergy, Trouble>,
}

/// A counter and the integral of the same device's instantaneous power, over one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterAgainstIntegral {
    /// The device.
    pub device: String,
    /// By the counter, in joules.
    pub counter_j: f64,
    /// By the integral, in joules.
    pub integral_j: f64,
    /// (integral - counter) / counter.
    pub relative_gap: f64,
}

impl EnergyBook {
    /// Books for these channels, read about every `period_ns`.
    #[must_use]
    pub fn new(channels: &[Channel], period_ns: u64) -> EnergyBook {
        let follow = |channel: &Channel| match channel.quantity {
            crate::Quantity::EnergyCounter { wraps_at_uj } => {
                Follows::Counter(CounterTrack::new(channel.device.clone(), wraps_at_uj))
            }
            _ => Follows::Power(PowerTrack::new(channel.device.clone(), period_ns)),
        };
        EnergyBook {
            channels: channels.to_vec(),
            tracks: channels
                .iter()
                .map(|channel| Track {
                    follows: follow(channel),
                    troubles: Vec::new(),
                    fails: false,
                })
                .collect(),
            reach: None,
        }
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Takes the readings of one moment, in the order of the channels.
    pub fn push(&mut self, at_ns: u64, readings: &[Reading]) {
        let first_ns = self.reach.map_or(at_ns, |(first_ns, _)| first_ns);
        self.reach = Some((first_ns, at_ns));
        for (track, reading) in self.tracks.iter_mut().zip(readings) {
            let trouble = match (reading, &mut track.follows) {
                (Ok(value), Follows::Counter(counter)) => match counter.push(at_ns, *value) {
                    CounterStep::Broken(trouble) => Some(trouble),
                    _ => None,
                },
                (Ok(value), Follows::Power(power)) => {
                    power.push(at_ns, *value);
                    None
                }
                // Nobody looked: that is no hole.
                (Err(Trouble::NotDue { .. }), _) => continue,
                (Err(trouble), _) => Some(trouble.clone()),
            };
            track.note(at_ns, trouble);
        }
    }

    /// The first and the last moment that was read: the longest window there is.
    #[must_use]
    pub const fn reach(&self) -> Option<(u64, u64)> {
        self.reach
    }

    /// The energy of every channel over a window.
    #[must_use]
    pub fn window(&self, from_ns: u64, to_ns: u64) -> Vec<ChannelEnergy> {
        let energy = |track: &Track| {
            // A reading that failed within the window leaves a hole in it.
            let mut troubles = track.troubles.iter();
            if let Some((.., trouble)) =
                troubles.find(|(begin_ns, end_ns, _)| *begin_ns <= to_ns && *end_ns >= from_ns)
            {
                return Err(trouble.clone());
            }
            match &track.follows {
                Follows::Counter(counter) => window_energy(counter, from_ns, to_ns),
                Follows::Power(power) => power.window_energy(from_ns, to_ns),
            }
        };
        self.tracks
            .iter()
            .enumerate()
            .map(|(channel, track)| ChannelEnergy {
                channel,
                energy: energy(track),
            })
            .collect()
    }

    /// The sum of the channels that the machine's sum may count, and its uncertainty; `None` of
    /// them is a reason, and one that failed makes the sum fail: a sum without a part would look
    /// like a saving.
    ///
    /// # Errors
    /// Which part has no value, and why.
    pub fn sum(&self, window: &[ChannelEnergy]) -> Result<WindowEnergy, Trouble> {
        let mut total: Option<WindowEnergy> = None;
        for one in window {
            let Some(channel) = self.channels.get(one.channel) else {
                continue;
            };
            if !channel.counted {
                continue;
            }
            let energy = one.energy.as_ref().map_err(Trouble::clone)?;
            let so_far = total.get_or_insert(WindowEnergy {
                energy_j: 0.0,
                uncertainty_j: 0.0,
                refreshes: u64::MAX,
                refresh_period_ns: 0,
                power_w: 0.0,
                power_uncertainty_w: 0.0,
                ticks: None,
            });
            so_far.energy_j += energy.energy_j;
            so_far.uncertainty_j += energy.uncertainty_j;
            so_far.power_w += energy.power_w;
            so_far.power_uncertainty_w += energy.power_uncertainty_w;
            so_far.refreshes = so_far.refreshes.min(energy.refreshes);
            so_far.refresh_period_ns = so_far.refresh_period_ns.max(energy.refresh_period_ns);
        }
        total.ok_or_else(|| Trouble::NotSupported {
            source_name: "this machine".to_owned(),
            what: "any meter that its sum could count".to_owned(),
        })
    }

    /// Every device that has both a counter and instantaneous power: how far they are apart.
    #[must_use]
    pub fn counters_against_integrals(
        &self,
        window: &[ChannelEnergy],
    ) -> Vec<CounterAgainstIntegral> {
        let value = |wanted: &dyn Fn(&Channel) -> bool| {
            let one = window
                .iter()
                .find(|one| self.channels.get(one.channel).is_some_and(wanted))?;
            Some(one.energy.as_ref().ok()?.energy_j)
        };
        let counters = self
            .channels
            .iter()
            .filter(|channel| channel.quantity.is_counter());
        counters
            .filter_map(|counter| {
                let same = |channel: &Channel| {
                    channel.device == counter.device && channel.scope == counter.scope
                };
                let counter_j = value(&|channel| same(channel) && channel.quantity.is_counter())?;
                let integral_j = value(&|channel| {
                    same(channel) && channel.quantity == crate::Quantity::InstantPower
                })?;
                (counter_j > 0.0).then(|| CounterAgainstIntegral {
                    device: counter.device.clone(),
                    counter_j,
                    integral_j,
                    relative_gap: (integral_j - counter_j) / counter_j,
                })
            })
            .collect()
    }

    /// Forgets what lies before a moment, so that a long run stays small.
    pub fn forget_before(&mut self, at_ns: u64) {
        for track in &mut self.tracks {
            track.troubles.retain(|(_, end_ns, _)| *end_ns >= at_ns);
            match &mut track.follows {
                Follows::Counter(counter) => counter.forget_before(at_ns),
                Follows::Power(power) => power.forget_before(at_ns),
            }
        }
    }
}

impl Track {
    /// Notes how a reading went. Readings that fail one after the other are one trouble.
    fn note(&mut self, at_ns: u64, trouble: Option<Trouble>) {
        let failed_before = std::mem::replace(&mut self.fails, trouble.is_some());
        match (trouble, self.troubles.last_mut()) {
            (Some(_), Some((_, end_ns, _))) if failed_before => *end_ns = at_ns,
            (Some(trouble), _) => self.troubles.push((at_ns, at_ns, trouble)),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, Quality, Quantity, Scope};

    const MS: u64 = 1_000_000;

    fn channel(device: &str, quantity: Quantity, counted: bool) -> Channel {
        Channel {
            device: device.to_owned(),
            scope: Scope::Gpu,
            quantity,
            quality: Quality::Measured,
            source: "a test".to_owned(),
            counted,
            origin: Origin::Stub,
        }
    }

    /// Two GPUs of 100 W and 50 W; the first one's integral reads `bias` too much.
    fn book(bias: u64) -> EnergyBook {
        let counter = Quantity::EnergyCounter { wraps_at_uj: None };
        let channels = [
            channel("a", counter, true),
            channel("a", Quantity::InstantPower, false),
            channel("b", counter, true),
        ];
        let mut book = EnergyBook::new(&channels, 10 * MS);
        for at_ms in (0..=5_000).step_by(10) {
            let renewed_ms = at_ms / 100 * 100;
            let readings = [
                Ok(renewed_ms * 100_000),
                Ok(100_000_000 + bias),
                Ok(renewed_ms * 50_000),
            ];
            book.push(at_ms * MS, &readings);
        }
        book
    }

    #[test]
    fn the_sum_counts_each_device_once() {
        let book = book(0);
        let window = book.window(1_000 * MS, 4_000 * MS);
        let sum = book.sum(&window).unwrap();
        assert_eq!(book.reach(), Some((0, 5_000 * MS)));
        assert!((sum.energy_j - 450.0).abs() < 1e-6, "{sum:?}");
    }

    #[test]
    fn counter_and_integral_are_compared_per_device() {
        let book = book(20_000_000);
        let window = book.window(1_000 * MS, 4_000 * MS);
        let gaps = book.counters_against_integrals(&window);
        assert_eq!(gaps.len(), 1, "b has no instantaneous power: {gaps:?}");
        assert!((gaps[0].relative_gap - 0.2).abs() < 1e-6, "{gaps:?}");
    }

    #[test]
    fn a_part_that_failed_within_the_window_makes_the_sum_fail_and_the_others_stand() {
        let mut book = book(0);
        let lost = Trouble::Lost {
            device: "b".to_owned(),
            reason: "a test".to_owned(),
        };
        book.push(5_010 * MS, &[Ok(500_000_000), Ok(1), Err(lost.clone())]);
        let window = book.window(1_000 * MS, 5_010 * MS);
        assert_eq!(book.sum(&window), Err(lost.clone()));
        assert!(window[0].energy.is_ok());
        // It is still lost when the next window has begun.
        book.push(6_000 * MS, &[Ok(600_000_000), Ok(1), Err(lost.clone())]);
        let window = book.window(1_000 * MS, 5_010 * MS);
        assert_eq!(window[2].energy, Err(lost));
        let before = book.window(1_000 * MS, 4_000 * MS);
        assert!(book.sum(&before).is_ok(), "what came before is not touched");
    }
}
