//! Finds the beta of the exponential effective SINR mapping for each coding scheme.
//!
//! ```text
//! cargo run --release -p hexloop-traces --example eesm_beta > eesm_beta.csv
//! ```
//!
//! Links to system level commonly calibrate beta against link simulations over fading channels;
//! here the effective SINR of equal mutual information (MIESM) stands in for them. For each scheme
//! 300 frequency-selective Rayleigh channels of 18 subbands (8 taps, exponential profile, rms
//! delay spread between 0.1 and 1 over the bandwidth) are scaled so that their mean bit-interleaved
//! mutual information is that of white noise at the scheme's threshold (a tenth of code blocks of
//! 2000 bits fail); beta minimises the squared error in dB of the exponential mapping.

use std::collections::BTreeSet;
use std::process::ExitCode;

use hexloop_traces::CounterRng;
use hexloop_traces::phy::{BlerCurve, CodingScheme, McsTable, PhyError, effective_sinr, linear};

const CHANNELS: u64 = 300;
const SUBBANDS: usize = 18;
const TAPS: usize = 8;
/// Grid of the mutual information, in dB.
const LOWEST_DB: f64 = -40.0;
const STEP_DB: f64 = 0.25;
const POINTS: usize = 441;

/// Mutual information of a Gray mapped square QAM with bit-wise demapping, in bits per symbol, at
/// the points of the grid.
fn information(modulation_order: u8) -> Vec<f64> {
    let bits = usize::from(modulation_order) / 2;
    let labels = 1_usize << bits;
    // Neighbouring amplitudes differ in one bit.
    let gray: Vec<usize> = (0..labels).map(|at| at ^ (at >> 1)).collect();
    let mean_square = (0..labels).map(|at| level(at, labels).powi(2)).sum::<f64>() / labels as f64;
    let point = |point: usize| {
        let sinr = linear(LOWEST_DB + STEP_DB * point as f64);
        // One dimension: unit noise.
        let scale = libm::sqrt(sinr / mean_square);
        let mut lost = 0.0;
        let (mut weights, mut likelihoods) = (0.0, vec![0.0; labels]);
        for noise_at in -32..=32 {
            let noise = f64::from(noise_at) * 0.2;
            let weight = libm::exp(-0.5 * noise * noise);
            weights += weight;
            for sent in 0..labels {
                for (at, likelihood) in likelihoods.iter_mut().enumerate() {
                    let distance = scale * (level(sent, labels) - level(at, labels)) + noise;
                    *likelihood = libm::exp(0.5 * (noise * noise - distance * distance));
                }
                let all: f64 = likelihoods.iter().sum();
                for bit in 0..bits {
                    let same = |at: &usize| (gray[*at] ^ gray[sent]) >> bit & 1 == 0;
                    let right: f64 = (0..labels).filter(same).map(|at| likelihoods[at]).sum();
                    lost += weight * libm::log2(all / right);
                }
            }
        }
        2.0 * (bits as f64 - lost / weights / labels as f64)
    };
    (0..POINTS).map(point).collect()
}

/// The amplitudes -(n - 1), -(n - 3), ..., n - 1.
fn level(at: usize, labels: usize) -> f64 {
    2.0 * at as f64 - (labels - 1) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the grid"
)]
fn interpolate(table: &[f64], sinr: f64) -> f64 {
    let place = (10.0 * libm::log10(sinr.max(1e-9)) - LOWEST_DB) / STEP_DB;
    let place = place.clamp(0.0, (POINTS - 2) as f64);
    let at = place as usize;
    table[at] + (place - at as f64) * (table[at + 1] - table[at])
}

/// Subband powers of a frequency-selective Rayleigh channel, of mean 1 over all channels.
fn channel(rng: &CounterRng, number: u64) -> [f64; SUBBANDS] {
    let spread = 0.1 + 0.9 * rng.uniform(number << 8 | 255);
    let powers: Vec<f64> = (0..TAPS)
        .map(|tap| libm::exp(-(tap as f64) / 8.0 / spread))
        .collect();
    let all: f64 = powers.iter().sum();
    let mut subbands = [0.0; SUBBANDS];
    for (at, subband) in subbands.iter_mut().enumerate() {
        let (mut re, mut im) = (0.0, 0.0);
        for (tap, power) in powers.iter().enumerate() {
            let [a, b] = rng.normal_pair(number << 8 | tap as u64);
            let gain = libm::sqrt(power / all / 2.0);
            let angle = core::f64::consts::TAU * (tap * at) as f64 / SUBBANDS as f64;
            let (sine, cosine) = libm::sincos(angle);
            re += gain * (a * cosine - b * sine);
            im += gain * (a * sine + b * cosine);
        }
        *subband = re * re + im * im;
    }
    subbands
}

/// Where a rising function crosses 0, by halving the interval in the logarithm.
fn crossing(mut low: f64, mut high: f64, function: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..60 {
        let middle = libm::sqrt(low * high);
        if function(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Beta and the root mean square error of the mapping in dB.
fn calibrate(
    scheme: CodingScheme,
    table: &[f64],
    rng: &CounterRng,
) -> Result<(f64, f64), PhyError> {
    let threshold = linear(BlerCurve::of(scheme, 2000)?.esno_db(0.1, 1));
    let wanted = interpolate(table, threshold);
    let scaled = |number| {
        let subbands = channel(rng, number);
        let mean = |scale: f64| {
            let sum: f64 = subbands
                .iter()
                .map(|&power| interpolate(table, scale * power))
                .sum();
            sum / SUBBANDS as f64
        };
        let scale = crossing(threshold * 1e-2, threshold * 1e4, |scale| {
            mean(scale) - wanted
        });
        subbands.map(|power| scale * power)
    };
    let channels: Vec<[f64; SUBBANDS]> = (0..CHANNELS).map(scaled).collect();
    let error = |beta: f64| {
        let square = |sinr: &[f64; SUBBANDS]| {
            let error_db = 10.0 * libm::log10(effective_sinr(beta, sinr) / threshold);
            error_db * error_db
        };
        channels.iter().map(square).sum::<f64>() / CHANNELS as f64
    };
    // The error has one minimum: follow its slope.
    let beta = crossing(0.05, 1e4, |beta| {
        error(beta * 1.0005) - error(beta / 1.0005)
    });
    Ok((beta, libm::sqrt(error(beta))))
}

fn main() -> ExitCode {
    let rng = CounterRng::new(1, "channels", "eesm beta");
    let schemes: BTreeSet<CodingScheme> = McsTable::ALL
        .into_iter()
        .flat_map(McsTable::schemes)
        .collect();
    println!("modulation_order,code_rate_x1024,beta,error_db");
    let (mut order, mut table) = (0, Vec::new());
    for scheme in schemes {
        if scheme.modulation_order() != order {
            order = scheme.modulation_order();
            table = information(order);
        }
        match calibrate(scheme, &table, &rng) {
            Ok((beta, error_db)) => {
                println!(
                    "{order},{},{beta:.3},{error_db:.3}",
                    scheme.code_rate_x1024()
                );
            }
            Err(error) => {
                eprintln!("no threshold for {scheme:?}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
