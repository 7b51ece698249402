//! How the power of the path to one cell fades in each subband as the user moves.

use super::link::SUBBANDS;
use crate::fading::{Angles, FadingSettings, Profile, RaySettings, TappedDelayLine};
use crate::scenario::settings::{FadingModel, RadioLink};
use crate::{CounterRng, TraceError};

/// Below this share of the power a part of the channel is left out.
const NEGLIGIBLE: f64 = 1e-4;

/// Delay spread in seconds and K factor in dB with and without a line of sight.
pub(super) type Spreads = [(f64, Option<f64>); 2];

/// How a user goes and how the rays of its path lie, with and without a line of sight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Way {
    /// In degrees from straight away from the cell.
    pub(super) heading_deg: f64,
    /// As in the profiles' tables where there are none.
    pub(super) angles: [Option<Angles>; 2],
}

/// What the paths to all cells have in common.
#[derive(Debug, Clone)]
pub(super) struct FaderSettings {
    profiles: [Profile; 2],
    bandwidth_hz: f64,
    branches: usize,
    beam_width_deg: Option<f64>,
    wavelength_m: f64,
}

impl FaderSettings {
    pub(super) fn new(radio: &RadioLink, model: FadingModel, wavelength_m: f64) -> FaderSettings {
        FaderSettings {
            profiles: match model {
                FadingModel::Tdl => [Profile::TdlD, Profile::TdlC],
                FadingModel::Cdl => [Profile::CdlD, Profile::CdlC],
            },
            bandwidth_hz: radio.bandwidth.as_ghz_f64() * 1e9,
            branches: usize::from(radio.receive_branches),
            beam_width_deg: radio.beam_width_deg,
            wavelength_m,
        }
    }

    /// Whether rays have directions.
    pub(super) fn has_directions(&self) -> bool {
        self.profiles.iter().any(|profile| profile.is_clustered())
    }

    /// Those of a cell that disturbs: its beam points elsewhere, and the receiver's branches are
    /// combined for another signal, which leaves it the fading of one.
    pub(super) fn of_interference(&self) -> FaderSettings {
        FaderSettings {
            branches: 1,
            beam_width_deg: None,
            ..self.clone()
        }
    }
}

/// The fading of one path: by the direct way with what is scattered about it, and by others.
#[derive(Debug, Clone)]
pub(super) struct Fader {
    lines: [TappedDelayLine; 2],
    wavelength_m: f64,
    gains: [[f64; SUBBANDS]; 2],
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn error(problem: impl ToString) -> TraceError {
    TraceError::Generator {
        setting: "channel",
        problem: problem.to_string(),
    }
}

impl Fader {
    /// The path of that entity, such as a user's to a cell.
    pub(super) fn new(
        settings: &FaderSettings,
        spreads: &Spreads,
        way: &Way,
        (seed, entity): (u64, &str),
    ) -> Result<Fader, TraceError> {
        let line = |at: usize, process| {
            let (delay_spread_s, k_factor_db) = spreads[at];
            let settings = FadingSettings {
                k_factor_db: if at == 0 { k_factor_db } else { None },
                bandwidth_hz: settings.bandwidth_hz,
                subbands: SUBBANDS,
                receive_branches: settings.branches,
                rays: RaySettings {
                    beam_width_deg: settings.beam_width_deg,
                    heading_deg: way.heading_deg,
                    angles: way.angles[at],
                },
                ..FadingSettings::new(settings.profiles[at], Some(delay_spread_s), 1.0)
            };
            TappedDelayLine::new(&settings, CounterRng::new(seed, entity, process)).map_err(error)
        };
        Ok(Fader {
            lines: [line(0, "fading direct")?, line(1, "fading scattered")?],
            wavelength_m: settings.wavelength_m,
            gains: [[1.0; SUBBANDS]; 2],
        })
    }

    /// The user has come to a place with these spreads.
    pub(super) fn reshape(&mut self, spreads: &Spreads) -> Result<(), TraceError> {
        let [(direct_s, k_db), (scattered_s, _)] = *spreads;
        let [direct, scattered] = &mut self.lines;
        direct.reshape(direct_s, k_db).map_err(error)?;
        scattered.reshape(scattered_s, None).map_err(error)
    }

    /// Adds what arrives in each subband to `sum`, where `powers` arrive by the direct way and by
    /// others. `way_m` is how far user and surroundings have moved.
    pub(super) fn add(&mut self, way_m: f64, powers: [f64; 2], sum: &mut [f64; SUBBANDS]) {
        let total: f64 = powers.iter().sum();
        let wavelengths = way_m / self.wavelength_m;
        let parts = self.lines.iter_mut().zip(&mut self.gains).zip(powers);
        for ((line, gains), power) in parts {
            if power > NEGLIGIBLE * total {
                line.power_at(wavelengths, gains);
                for (sum, gain) in sum.iter_mut().zip(gains) {
                    *sum += power * *gain;
                }
            }
        }
    }
}
