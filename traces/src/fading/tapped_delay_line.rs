//! The power of one link in every subband as its user moves.

use super::angles::Angles;
use super::profile::TapKind;
use super::rays::{frequencies, turning};
use super::shape::{ScaledTap, Shape};
use super::sinusoids::{SinusoidBank, phasor};
use super::{FadingError, Profile};
use crate::CounterRng;

/// Doppler shift of the line of sight over the largest one (TR 38.901 clause 7.7.2, notes of
/// Tables 7.7.2-4 and 7.7.2-5). In clustered delay lines it is that of its direction.
const LINE_OF_SIGHT_DOPPLER: f64 = 0.7;

/// What fading is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct FadingSettings {
    /// The tapped delay line.
    pub profile: Profile,
    /// Root mean square delay spread in seconds; none for the fixed profiles of TS 38.101-4.
    pub rms_delay_spread_s: Option<f64>,
    /// K factor in dB that a profile with a line of sight is brought to (clause 7.7.6).
    pub k_factor_db: Option<f64>,
    /// Largest Doppler shift in Hz: speed times carrier frequency over the speed of light.
    pub maximum_doppler_hz: f64,
    /// Width of the carrier in Hz, divided evenly into the subbands.
    pub bandwidth_hz: f64,
    /// How many subbands; power is taken in the middle of each.
    pub subbands: usize,
    /// Independent receive branches whose powers are averaged (spatial diversity); 1 for none.
    pub receive_branches: usize,
    /// What the rays of a clustered delay line meet.
    pub rays: RaySettings,
}

/// Angles, beam and way of a clustered delay line.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RaySettings {
    /// Half-power width in degrees of the transmitter's beam, which then points along the line of
    /// sight or to where it catches the most; what misses it is lost. Without it everything arrives.
    pub beam_width_deg: Option<f64>,
    /// Which way the user goes, in degrees from straight away from the transmitter.
    pub heading_deg: f64,
    /// How the rays lie (clause 7.7.5.1). Without it they lie as in the profile's table.
    pub angles: Option<Angles>,
}

impl FadingSettings {
    /// One subband, one branch, the profile's own K factor.
    #[must_use]
    pub const fn new(
        profile: Profile,
        rms_delay_spread_s: Option<f64>,
        maximum_doppler_hz: f64,
    ) -> FadingSettings {
        FadingSettings {
            profile,
            rms_delay_spread_s,
            k_factor_db: None,
            maximum_doppler_hz,
            bandwidth_hz: 0.0,
            subbands: 1,
            receive_branches: 1,
            rays: RaySettings {
                beam_width_deg: None,
                heading_deg: 0.0,
                angles: None,
            },
        }
    }
}

/// Fading of one link over time and frequency, continuous in time, of mean power 1 unless a beam
/// misses some of it.
///
/// Rayleigh taps follow Jakes' spectrum, a line of sight comes at 0.7 of the largest Doppler
/// shift; clusters have the Doppler shifts of their rays. The same settings and random numbers give the same fading whichever way time is walked
/// through (to about 1e-12); walked in equal steps it is fastest.
#[derive(Debug, Clone)]
pub struct TappedDelayLine {
    maximum_doppler_hz: f64,
    branches: usize,
    rayleigh_taps: usize,
    bank: SinusoidBank,
    shape: Shape,
    scaled: Vec<ScaledTap>,
    /// Delay spread and K factor now.
    spreads: (Option<f64>, Option<f64>),
    bandwidth_hz: f64,
    /// Cycles per wavelength of way that a line of sight turns.
    sight_doppler: f64,
    /// Start of the line of sight in each branch, in cycles; empty without one.
    sight_phases: Vec<f64>,
    /// What each tap adds to each subband, `sqrt(power) exp(-i 2 pi f tau)`: by tap, then
    /// subband; a line of sight comes last.
    weight_real: Vec<f64>,
    weight_imaginary: Vec<f64>,
    response_real: Vec<f64>,
    response_imaginary: Vec<f64>,
    cycles: f64,
}

impl TappedDelayLine {
    /// Fading of `settings` from the numbers of `random`, which belong to this link alone.
    ///
    /// # Errors
    ///
    /// Settings that mean nothing, such as no subband or a negative Doppler shift.
    pub fn new(
        settings: &FadingSettings,
        random: CounterRng,
    ) -> Result<TappedDelayLine, FadingError> {
        not_negative(
            "the largest Doppler shift in Hz",
            settings.maximum_doppler_hz,
        )?;
        not_negative("the bandwidth in Hz", settings.bandwidth_hz)?;
        within("the number of subbands", settings.subbands, 4096)?;
        within(
            "the number of receive branches",
            settings.receive_branches,
            64,
        )?;
        let shape = Shape::of(settings.profile);
        let RaySettings {
            beam_width_deg,
            heading_deg,
            angles,
        } = settings.rays;
        let shape = match angles {
            Some(angles) => shape.seen_at(&angles, settings.k_factor_db),
            None => shape,
        };
        let shape = match beam_width_deg {
            Some(width_deg) if settings.profile.is_clustered() => {
                not_negative("the beam's width in degrees", width_deg - 0.1)?;
                shape.through_beam(width_deg)
            }
            _ => shape,
        };
        let (mut scattered, mut sight) = (Vec::new(), None);
        for (kind, directions) in shape.directions() {
            match kind {
                TapKind::Rayleigh => scattered.push(directions),
                TapKind::LineOfSight => sight = Some(directions),
            }
        }
        let rays = |process: usize| {
            let directions = scattered[process % scattered.len()].as_ref();
            directions.map(|directions| frequencies(directions, heading_deg, &random, process))
        };
        let branches = settings.receive_branches;
        let bank = SinusoidBank::new(scattered.len() * branches, random, rays);
        let sight_phases = sight.map_or_else(Vec::new, |_| {
            let last_draws = (u64::MAX - 64)..;
            let draws = last_draws.take(branches);
            draws.map(|draw| random.uniform(draw)).collect()
        });
        let subbands = settings.subbands;
        let mut line = TappedDelayLine {
            maximum_doppler_hz: settings.maximum_doppler_hz,
            branches,
            rayleigh_taps: scattered.len(),
            bank,
            scaled: Vec::new(),
            spreads: (settings.rms_delay_spread_s, settings.k_factor_db),
            bandwidth_hz: settings.bandwidth_hz,
            sight_doppler: sight.flatten().map_or(LINE_OF_SIGHT_DOPPLER, |directions| {
                let [azimuth_deg, zenith_deg] = directions.arrival_deg;
                turning(azimuth_deg, zenith_deg, heading_deg)
            }),
            sight_phases,
            weight_real: vec![0.0; shape.directions().count() * subbands],
            weight_imaginary: vec![0.0; shape.directions().count() * subbands],
            response_real: vec![0.0; subbands],
            response_imaginary: vec![0.0; subbands],
            cycles: f64::NAN,
            shape,
        };
        line.weigh()?;
        Ok(line)
    }

    /// Brings the channel to another delay spread in seconds and another K factor in dB: those of a
    /// place that the user has come to. Taps keep their phases.
    ///
    /// # Errors
    ///
    /// A delay spread that is negative or of a profile with fixed delays; a K factor without a line
    /// of sight.
    pub fn reshape(
        &mut self,
        rms_delay_spread_s: f64,
        k_factor_db: Option<f64>,
    ) -> Result<(), FadingError> {
        let wanted = (Some(rms_delay_spread_s), k_factor_db);
        if wanted == self.spreads {
            return Ok(());
        }
        self.spreads = wanted;
        self.weigh()
    }

    /// Computes what each tap adds to each subband.
    fn weigh(&mut self) -> Result<(), FadingError> {
        let (spread_s, k_db) = self.spreads;
        self.shape.scale(spread_s, k_db, &mut self.scaled)?;
        let subbands = self.response_real.len();
        let width_hz = self.bandwidth_hz / small(subbands);
        let first_hz = 0.5 * (width_hz - self.bandwidth_hz);
        let weights = self
            .weight_real
            .chunks_exact_mut(subbands)
            .zip(self.weight_imaginary.chunks_exact_mut(subbands));
        for (tap, (weight_real, weight_imaginary)) in self.scaled.iter().zip(weights) {
            let amplitude = libm::sqrt(tap.power);
            let [mut real, mut imaginary] =
                phasor(-first_hz * tap.delay_s).map(|part| amplitude * part);
            // Subbands are evenly apart: from each to the next the tap turns by the same angle.
            let [turn_real, turn_imaginary] = phasor(-width_hz * tap.delay_s);
            for (x, y) in weight_real.iter_mut().zip(weight_imaginary) {
                (*x, *y) = (real, imaginary);
                (real, imaginary) = (
                    real * turn_real - imaginary * turn_imaginary,
                    real * turn_imaginary + imaginary * turn_real,
                );
            }
        }
        Ok(())
    }

    /// The complex gains of the Rayleigh taps at `t_s` seconds, each of mean power 1: all taps of
    /// the first receive branch, then those of the next.
    pub fn tap_gains(&mut self, t_s: f64) -> &[[f64; 2]] {
        self.move_to(self.maximum_doppler_hz * t_s);
        self.bank.gains()
    }

    /// The power gain in every subband at `t_s` seconds, of mean 1 over time.
    ///
    /// As many as fit into `powers` are written; give it as many places as there are subbands.
    pub fn power_per_subband(&mut self, t_s: f64, powers: &mut [f64]) {
        self.power_at(self.maximum_doppler_hz * t_s, powers);
    }

    /// The power gain in every subband after a way of `wavelengths`: for users that change their
    /// speed, since Doppler shift times time is the way over the wavelength.
    pub fn power_at(&mut self, wavelengths: f64, powers: &mut [f64]) {
        self.move_to(wavelengths);
        powers.fill(0.0);
        for branch in 0..self.branches {
            self.respond(branch);
            let response = self.response_real.iter().zip(&self.response_imaginary);
            for (power, (real, imaginary)) in powers.iter_mut().zip(response) {
                *power += real * real + imaginary * imaginary;
            }
        }
        let share = 1.0 / small(self.branches);
        for power in powers {
            *power *= share;
        }
    }

    fn move_to(&mut self, wavelengths: f64) {
        self.cycles = wavelengths;
        self.bank.move_to(wavelengths);
    }

    /// Computes the response of one branch in all subbands.
    fn respond(&mut self, branch: usize) {
        self.response_real.fill(0.0);
        self.response_imaginary.fill(0.0);
        let sight = self
            .sight_phases
            .get(branch)
            .map(|phase| phasor(self.sight_doppler * self.cycles + phase));
        let first = branch * self.rayleigh_taps;
        let gains = self.bank.gains()[first..first + self.rayleigh_taps].iter();
        let subbands = self.response_real.len();
        let weights = self
            .weight_real
            .chunks_exact(subbands)
            .zip(self.weight_imaginary.chunks_exact(subbands));
        for ([x, y], (weight_real, weight_imaginary)) in gains.chain(&sight).zip(weights) {
            let response = self
                .response_real
                .iter_mut()
                .zip(&mut self.response_imaginary);
            let weight = weight_real.iter().zip(weight_imaginary);
            for ((real, imaginary), (u, v)) in response.zip(weight) {
                *real += x * u - y * v;
                *imaginary += x * v + y * u;
            }
        }
    }
}

fn not_negative(setting: &'static str, value: f64) -> Result<(), FadingError> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(FadingError::OutOfRange {
            setting,
            value,
            expected: "a number from 0",
        })
    }
}

fn within(setting: &'static str, value: usize, largest: usize) -> Result<(), FadingError> {
    if (1..=largest).contains(&value) {
        Ok(())
    } else {
        Err(FadingError::OutOfRange {
            setting,
            value: small(value),
            expected: "1 to a few thousand subbands, 1 to 64 branches",
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
fn small(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
#[path = "tapped_delay_line_tests.rs"]
mod tests;
