//! One user's link slot by slot: fading, SINR in each subband, and what is carried.

use super::fader::Fader;
use super::sites::PathGain;
use crate::phy::{GROUPS, Grant, Groups, LinkAdapter, SharedCell, SlotService, scheduling_rate};
use crate::scenario::settings::RadioLink;
use crate::units::Ratio;
use crate::{CounterRng, Direction, TraceError};

/// Subbands of the carrier, in which fading differs.
pub(super) const SUBBANDS: usize = 18;

/// Subbands of each part of the band that the scheduler gives away.
const SUBBANDS_PER_GROUP: usize = SUBBANDS / GROUPS;

/// Thermal noise in mW per Hz at 290 K: -174 dBm.
const NOISE_MW_PER_HZ: f64 = 3.981_071_705_534_969e-18;

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn error(problem: impl ToString) -> TraceError {
    TraceError::Generator {
        setting: "radio",
        problem: problem.to_string(),
    }
}

/// What arrives at one moment of the serving cell, without fading, in mW over the whole carrier.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Powers {
    /// By the direct way.
    pub(super) direct_mw: f64,
    /// And by others.
    pub(super) scattered_mw: f64,
}

/// The link between a user and its serving cell.
#[derive(Debug, Clone)]
pub(super) struct Link {
    fader: Fader,
    down: LinkAdapter,
    up: LinkAdapter,
    noise_mw: f64,
    uplink_noise_mw: f64,
    /// The user's power over the cell's.
    uplink_share: f64,
    sinr: [[f64; SUBBANDS]; 2],
    report_slots: u32,
}

/// What a slot carried, and what it was like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) down: SlotService,
    pub(super) up: SlotService,
    /// Mean SINR of the downlink's subbands, linear.
    pub(super) sinr: f64,
}

fn power_of(ratio: Ratio) -> f64 {
    libm::exp10(ratio.as_db_f64() / 10.0)
}

impl Link {
    /// The link of that user by the path that fades so. `round_trip_ns` is the time of flight that
    /// every exchange takes, where that is long.
    pub(super) fn new(
        radio: &RadioLink,
        fader: Fader,
        round_trip_ns: u64,
        (seed, user): (u64, &str),
    ) -> Result<Link, TraceError> {
        let bandwidth_hz = radio.bandwidth.as_ghz_f64() * 1e9;
        let slot_ns = radio.numerology().map_err(error)?.slot_ns();
        let report_slots = (radio.report_period.ns / slot_ns).clamp(1, 100_000);
        let report_slots = u32::try_from(report_slots).unwrap_or(1);
        let adapter = |direction: Direction| {
            let mut settings = radio.adapter_settings(direction).map_err(error)?;
            settings.timing.round_trip_ns = round_trip_ns;
            LinkAdapter::new(settings, CounterRng::new(seed, user, direction.name())).map_err(error)
        };
        let noise_mw = NOISE_MW_PER_HZ * bandwidth_hz;
        let difference_db = radio.user_power.as_dbm_f64() - radio.base_power.as_dbm_f64();
        Ok(Link {
            fader,
            down: adapter(Direction::Down)?,
            up: adapter(Direction::Up)?,
            noise_mw: noise_mw * power_of(radio.user_noise_figure),
            uplink_noise_mw: noise_mw
                * power_of(radio.base_noise_figure)
                * power_of(radio.uplink_interference),
            uplink_share: libm::exp10(difference_db / 10.0),
            sinr: [[0.0; SUBBANDS]; 2],
            report_slots,
        })
    }

    /// Slots from one channel report to the next.
    pub(super) const fn report_slots(&self) -> u32 {
        self.report_slots
    }

    /// Noise of the user's receiver over the carrier.
    pub(super) const fn noise_mw(&self) -> f64 {
        self.noise_mw
    }

    /// How the path to the serving cell fades.
    pub(super) const fn fader(&mut self) -> &mut Fader {
        &mut self.fader
    }

    /// Forgets what was known of the channel: another cell serves.
    pub(super) fn reset(&mut self) {
        self.down.reset();
        self.up.reset();
    }

    /// Plays one slot. `way_m` is how far user and surroundings have moved, `interference` what
    /// arrives of other cells in each subband, `cell` the scheduler that gives the user a part of the
    /// band; without one nothing is sent.
    pub(super) fn step(
        &mut self,
        slot: u64,
        way_m: f64,
        (powers, interference): (&Powers, &[f64; SUBBANDS]),
        mut cell: Option<&mut SharedCell>,
    ) -> Slot {
        let mut signal = [0.0; SUBBANDS];
        let powers = [powers.direct_mw, powers.scattered_mw];
        self.fader.add(way_m, powers, &mut signal);
        // The uplink's power lies in the user's share of the band alone: what is measured is as if
        // that were an equal one.
        let equal = cell
            .as_deref()
            .map_or(1.0, |cell| 1.0 / (f64::from(cell.active()) + 1.0));
        let up_gain = self.uplink_share / (self.uplink_noise_mw * equal);
        let mut sum = 0.0;
        let [down, up] = &mut self.sinr;
        let subbands = signal.iter().zip(interference);
        for ((signal_mw, interference_mw), (down, up)) in
            subbands.zip(down.iter_mut().zip(up.iter_mut()))
        {
            *down = signal_mw / (self.noise_mw + interference_mw);
            *up = signal_mw * up_gain;
            sum += *down;
        }
        if let Some(cell) = &mut cell {
            cell.advance(slot);
            if slot.is_multiple_of(u64::from(self.report_slots)) {
                cell.report(Direction::Down, rates(&self.sinr[0]));
                cell.report(Direction::Up, rates(&self.sinr[1]));
            }
        }
        let mut groups = |adapter: &LinkAdapter, direction| match &mut cell {
            Some(cell) if adapter.carries(slot) => cell.grant(direction),
            _ => Groups::default(),
        };
        let (of_down, of_up) = (
            groups(&self.down, Direction::Down),
            groups(&self.up, Direction::Up),
        );
        Slot {
            down: serve(&mut self.down, slot, &self.sinr[0], of_down, |_| 1.0),
            up: serve(&mut self.up, slot, &self.sinr[1], of_up, |share| {
                equal / share
            }),
            sinr: sum / SUBBANDS as f64,
        }
    }
}

/// What the scheduler is told of each part of the band.
fn rates(sinr: &[f64; SUBBANDS]) -> [f64; GROUPS] {
    core::array::from_fn(|group| {
        let subbands = &sinr[group * SUBBANDS_PER_GROUP..(group + 1) * SUBBANDS_PER_GROUP];
        scheduling_rate(subbands.iter().sum::<f64>() / SUBBANDS_PER_GROUP as f64)
    })
}

/// Plays a slot of which the user gets `groups`.
fn serve(
    adapter: &mut LinkAdapter,
    slot: u64,
    sinr: &[f64; SUBBANDS],
    groups: Groups,
    density: impl Fn(f64) -> f64,
) -> SlotService {
    let mut given = [0.0; SUBBANDS];
    let mut count = 0;
    for (group, subbands) in sinr.chunks_exact(SUBBANDS_PER_GROUP).enumerate() {
        if groups.contains(group) {
            given[count..count + SUBBANDS_PER_GROUP].copy_from_slice(subbands);
            count += SUBBANDS_PER_GROUP;
        }
    }
    let share = groups.share();
    let grant = Grant {
        share,
        sinr: &given[..count],
        density: if count > 0 { density(share) } else { 1.0 },
    };
    adapter.step_in(slot, sinr, &grant)
}

/// The powers of a path with `gain` for a transmitter of `power_mw` with antennas, when `blocked`
/// (linear, 1 for nothing in the way) and `leak` (what arrives all the same) act on its direct way.
pub(super) fn powers_of(gain: &PathGain, power_mw: f64, blocked: f64, leak: f64) -> [f64; 2] {
    let direct = gain.direct * (blocked + leak).min(1.0);
    [power_mw * direct, power_mw * gain.scattered]
}
