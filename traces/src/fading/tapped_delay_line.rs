//! The power of one link in every subband as its user moves.

use super::profile::TapKind;
use super::sinusoids::{SinusoidBank, phasor};
use super::{FadingError, Profile};
use crate::CounterRng;

/// Doppler shift of the line of sight over the largest one (TR 38.901 clause 7.7.2, notes of
/// Tables 7.7.2-4 and 7.7.2-5).
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
        }
    }
}

/// Fading of one link over time and frequency, continuous in time, of mean power 1.
///
/// Rayleigh taps follow Jakes' spectrum, a line of sight comes at 0.7 of the largest Doppler
/// shift. The same settings and random numbers give the same fading whichever way time is walked
/// through (to about 1e-12); walked in equal steps it is fastest.
#[derive(Debug, Clone)]
pub struct TappedDelayLine {
    maximum_doppler_hz: f64,
    branches: usize,
    rayleigh_taps: usize,
    bank: SinusoidBank,
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
        let taps = settings
            .profile
            .scaled(settings.rms_delay_spread_s, settings.k_factor_db)?;
        let (sight, scattered): (Vec<_>, Vec<_>) = taps
            .into_iter()
            .partition(|tap| tap.kind == TapKind::LineOfSight);

        let subbands = settings.subbands;
        let mut weight_real = Vec::new();
        let mut weight_imaginary = Vec::new();
        for tap in scattered.iter().chain(&sight) {
            let amplitude = libm::sqrt(tap.power);
            for subband in 0..subbands {
                let share = (small(subband) + 0.5) / small(subbands) - 0.5;
                let [real, imaginary] = phasor(-share * settings.bandwidth_hz * tap.delay_s);
                weight_real.push(amplitude * real);
                weight_imaginary.push(amplitude * imaginary);
            }
        }
        let branches = settings.receive_branches;
        let sight_phases = sight
            .first()
            .map(|_| {
                let last_draws = (u64::MAX - 64)..;
                last_draws
                    .take(branches)
                    .map(|draw| random.uniform(draw))
                    .collect()
            })
            .unwrap_or_default();
        Ok(TappedDelayLine {
            maximum_doppler_hz: settings.maximum_doppler_hz,
            branches,
            rayleigh_taps: scattered.len(),
            bank: SinusoidBank::new(scattered.len() * branches, random),
            sight_phases,
            weight_real,
            weight_imaginary,
            response_real: vec![0.0; subbands],
            response_imaginary: vec![0.0; subbands],
            cycles: f64::NAN,
        })
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
            .map(|phase| phasor(LINE_OF_SIGHT_DOPPLER * self.cycles + phase));
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
