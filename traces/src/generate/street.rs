//! An urban street canyon in FR3: a user walks past a base station, and a blocker stands in the
//! way for a while.
//!
//! **Standard:** the path loss formula ([`super::path_loss`], TR 38.901 table 7.4.1-1) and the
//! exponential correlation of shadowing ([`super::shadowing`]). **Assumed:** everything else, as
//! the notes in the trace's metadata say. It is *not* a checked UMi model, and the trace does
//! not carry a 3GPP scenario's name.
//!
//! rate = bandwidth x share x min(cap, efficiency x log2(1 + SINR)), SINR = transmit power -
//! path loss - shadowing - blocker - (thermal noise + noise figure + interference), and 0 in
//! both directions while either direction's SINR is below the lowest: a link whose grants or
//! acknowledgements do not get through carries nothing.

mod settings;

use crate::generate::path_loss::{Geometry, line_of_sight_db, obstructed_db};
use crate::generate::shadowing::Shadowing;
use crate::units::{Ratio, Share};
use crate::{
    Diagnostics, LinkState, TRACE_SCHEMA, Trace, TraceError, TraceMetadata, TraceRow, TraceStatus,
    stream,
};

pub use settings::{Sight, StreetSettings};

/// The scenario's name in the trace's metadata.
pub const SCENARIO: &str = "street-fr3-blockage";

/// The generator's name and version; the version changes when its output does.
const GENERATOR: &str = "hexloop street v1";

/// Thermal noise at 290 K, in dBm per Hz.
const THERMAL_NOISE_DBM_PER_HZ: f64 = -174.0;

const NOTES: [&str; 6] = [
    "standard: path loss is TR 38.901 v19.4.0 table 7.4.1-1, UMi-StreetCanyon (breakpoint with \
     c = 299792458 m/s)",
    "standard: shadowing is lognormal with correlation exp(-d/dcorr), TR 38.901 clause 7.4.4; \
     its sigma and distance are settings",
    "assumed: the user walks on a straight line, one condition of sight for the whole walk (no \
     LOS probability), no small-scale fading, beams as gains within the transmit powers",
    "assumed: the blocker is scripted: a loss in dB with linear edges, no diffraction; an outage \
     in one direction takes both",
    "assumed: rate = bandwidth x share x min(cap, efficiency x log2(1 + SINR)) over the whole \
     bandwidth, a constant interference, no HARQ, no other users; delay is constant",
    "simplified: not a checked UMi model and not calibrated; FR3 in 6G is extrapolated from 5G \
     NR-like links",
];

/// Makes the trace of one walk.
///
/// # Errors
/// A setting outside of what the model can do; the error names it.
pub fn generate(settings: &StreetSettings, seed: u64) -> Result<Trace, TraceError> {
    settings.check()?;
    let radio = Radio::new(settings);
    let mut shadowing = Shadowing::new(
        stream(seed, "street shadowing"),
        settings.shadowing.as_db_f64(),
        settings.shadowing_distance.as_metres_f64(),
    );
    let step_m = settings.speed.as_metres_per_second_f64() * settings.step.as_seconds_f64();
    let mut rows = Vec::new();
    let mut was_out = false;
    let mut t_ns: u64 = 0;
    while t_ns < settings.duration.ns {
        let blocker_db = blocker_db(settings, t_ns);
        let loss_db = path_loss_db(settings, t_ns)? + shadowing.current_db() + blocker_db;
        let (down_db, up_db) = (radio.down.sinr_db(loss_db), radio.up.sinr_db(loss_db));
        let lowest_db = settings.lowest_sinr.as_db_f64();
        let out = down_db < lowest_db || up_db < lowest_db;
        let state = |path: &Path, sinr_db: f64, delay_ns: u64| LinkState {
            rate_bps: if out {
                0
            } else {
                radio.rate_bps(path, sinr_db)
            },
            delay_ns,
            jitter_ns: narrow(settings.jitter.ns),
            queue_bytes: narrow(settings.queue.bytes),
            ..LinkState::TRANSPARENT
        };
        let event = match (was_out, out) {
            (false, true) => Some("outage"),
            (true, false) => Some("recovered"),
            _ => None,
        };
        rows.push(TraceRow {
            t_ns,
            down: state(&radio.down, down_db, settings.downlink_delay.ns),
            up: state(&radio.up, up_db, settings.uplink_delay.ns),
            diagnostics: Diagnostics {
                sinr_cdb: Some(centi_db(down_db)),
                los: Some(settings.sight == Sight::Clear),
                blocked: Some(blocker_db > 0.0),
                event: event.map(str::to_owned),
                ..Diagnostics::default()
            },
        });
        was_out = out;
        shadowing.advance(step_m);
        match t_ns.checked_add(settings.step.ns) {
            Some(next_ns) => t_ns = next_ns,
            None => break,
        }
    }
    Trace::new(metadata(settings, seed), rows)
}

fn metadata(settings: &StreetSettings, seed: u64) -> TraceMetadata {
    TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: SCENARIO.to_owned(),
        status: TraceStatus::Simplified,
        duration_ns: settings.duration.ns,
        end: settings.end,
        seed: Some(seed),
        generator: GENERATOR.to_owned(),
        configuration: settings.resolved(),
        notes: NOTES.map(str::to_owned).to_vec(),
        provenance: crate::Provenance::default(),
    }
}

/// One direction's link budget.
struct Path {
    power_dbm: f64,
    /// Noise and interference at the receiver.
    floor_dbm: f64,
    share: Share,
}

impl Path {
    fn sinr_db(&self, loss_db: f64) -> f64 {
        self.power_dbm - loss_db - self.floor_dbm
    }
}

struct Radio {
    bandwidth_hz: f64,
    efficiency: f64,
    cap: f64,
    down: Path,
    up: Path,
}

impl Radio {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the bandwidth is at most 100 GHz"
    )]
    fn new(settings: &StreetSettings) -> Radio {
        let bandwidth_hz = settings.bandwidth.hz as f64;
        let thermal_dbm = THERMAL_NOISE_DBM_PER_HZ + 10.0 * libm::log10(bandwidth_hz);
        let floor = |figure: Ratio, interference: Ratio| {
            thermal_dbm + figure.as_db_f64() + interference.as_db_f64()
        };
        Radio {
            bandwidth_hz,
            efficiency: settings.efficiency.as_f64(),
            cap: f64::from(settings.efficiency_cap.milli) / 1e3,
            down: Path {
                power_dbm: settings.base_power.as_dbm_f64(),
                floor_dbm: floor(settings.user_noise_figure, settings.downlink_interference),
                share: settings.downlink_share,
            },
            up: Path {
                power_dbm: settings.user_power.as_dbm_f64(),
                floor_dbm: floor(settings.base_noise_figure, settings.uplink_interference),
                share: settings.uplink_share,
            },
        }
    }

    /// The rate, rounded down to whole kbit/s so that no platform's last bit can show.
    fn rate_bps(&self, path: &Path, sinr_db: f64) -> u64 {
        let sinr = libm::pow(10.0, sinr_db / 10.0);
        let efficiency = (self.efficiency * libm::log2(1.0 + sinr)).min(self.cap);
        whole(self.bandwidth_hz * path.share.as_f64() * efficiency / 1e3) * 1_000
    }
}

/// Path loss where the user stands at `t_ns`.
fn path_loss_db(settings: &StreetSettings, t_ns: u64) -> Result<f64, TraceError> {
    let walked_m = settings.speed.as_metres_per_second_f64()
        * crate::units::TimeSpan { ns: t_ns }.as_seconds_f64();
    let along_m = settings.distance.as_metres_f64() - walked_m;
    let aside_m = settings.street_offset.as_metres_f64();
    let d2d_m = libm::sqrt(along_m * along_m + aside_m * aside_m);
    if d2d_m > 5_000.0 {
        return Err(TraceError::Generator {
            setting: "distance",
            problem: format!(
                "the user is {d2d_m:.0} m away at {:.1} s; the path loss formula holds up to 5 km",
                crate::units::TimeSpan { ns: t_ns }.as_seconds_f64()
            ),
        });
    }
    let geometry = Geometry {
        d2d_m,
        base_height_m: settings.base_height.as_metres_f64(),
        user_height_m: settings.user_height.as_metres_f64(),
    };
    let carrier_ghz = settings.carrier.as_ghz_f64();
    Ok(match settings.sight {
        Sight::Clear => line_of_sight_db(&geometry, carrier_ghz),
        Sight::Obstructed => obstructed_db(&geometry, carrier_ghz),
    })
}

/// What the blocker takes at `t_ns`: all of its loss while it stands in the path, a share of it
/// in the edges before and after.
#[expect(
    clippy::cast_precision_loss,
    reason = "spans of time far below 2^53 ns matter here"
)]
fn blocker_db(settings: &StreetSettings, t_ns: u64) -> f64 {
    let (start_ns, edge_ns) = (settings.blocker_at.ns, settings.blocker_edge.ns);
    if settings.blocker_length.ns == 0 {
        return 0.0;
    }
    let end_ns = start_ns.saturating_add(settings.blocker_length.ns);
    let away_ns = if t_ns < start_ns {
        start_ns - t_ns
    } else {
        t_ns.saturating_sub(end_ns)
    };
    let loss_db = settings.blocker_loss.as_db_f64();
    if (start_ns..end_ns).contains(&t_ns) {
        loss_db
    } else if away_ns < edge_ns {
        loss_db * (1.0 - away_ns as f64 / edge_ns as f64)
    } else {
        0.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturating is right: settings bound the rate below 2^63"
)]
fn whole(value: f64) -> u64 {
    libm::floor(value) as u64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturating is right for a diagnostic"
)]
fn centi_db(db: f64) -> i32 {
    libm::round(db * 100.0) as i32
}

/// The settings' check has made sure that the value fits.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "street_tests.rs"]
mod tests;
