//! Fits a normal distribution in dB to the counted failures of each scheme and size of code block.
//!
//! ```text
//! cargo run --release -p hexloop-traces --example bler_fit -- ldpc_monte_carlo.csv > bler_curves.csv
//! ```
//!
//! Maximum likelihood by iteratively reweighted least squares of a probit model:
//! P(failure) = Q((esno - median) / deviation). A size at which no block was ever decoded (40 bits
//! at rates near 1, whose punctured bits too few check bits see) or that the base graph does not
//! have continues the line in 1/sqrt(size) through its two neighbours: `simulated` is 0 there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// Es/N0 in dB, blocks and failures.
type Point = (f64, f64, f64);
/// Median and deviation in dB.
type Curve = (f64, f64);
/// Modulation order, code rate x 2048, code block bits.
type Key = (u32, u32, u32);

fn read(text: &str) -> BTreeMap<Key, Vec<Point>> {
    let mut points: BTreeMap<Key, Vec<Point>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<f64> = line
            .split(',')
            .filter_map(|field| field.parse().ok())
            .collect();
        if let [order, rate, bits, _, esno_db, blocks, failed] = fields[..] {
            let key = (whole(order), whole(2.0 * rate), whole(bits));
            points
                .entry(key)
                .or_default()
                .push((esno_db, blocks, failed));
        }
    }
    points
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers of a table"
)]
fn whole(value: f64) -> u32 {
    libm::round(value) as u32
}

/// The curve at `bits` on the line in 1/sqrt(size) through the two nearest fitted sizes.
fn continued(fits: &[(u32, Curve)], bits: u32) -> Option<Curve> {
    let pair = if bits < fits.first()?.0 {
        fits.get(..2)?
    } else {
        fits.get(fits.len() - 2..)?
    };
    let place = |bits: u32| 1.0 / libm::sqrt(f64::from(bits));
    let part = (place(bits) - place(pair[0].0)) / (place(pair[1].0) - place(pair[0].0));
    let between = |a: f64, b: f64| a + part * (b - a);
    let (first, second) = (pair[0].1, pair[1].1);
    Some((between(first.0, second.0), between(first.1, second.1)))
}

fn fit(points: &[Point]) -> Option<Curve> {
    if points.iter().all(|point| point.1 <= point.2) {
        return None;
    }
    let centre = points.iter().map(|point| point.0).sum::<f64>() / points.len() as f64;
    // The probit of the failure rate is first + second * (esno - centre).
    let (mut first, mut second) = (0.0, -1.0);
    for _ in 0..100 {
        let (mut weights, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(esno_db, blocks, failed) in points {
            let place = esno_db - centre;
            let probit = (first + second * place).clamp(-5.0, 5.0);
            let rate = 0.5 * libm::erfc(-probit * core::f64::consts::FRAC_1_SQRT_2);
            let density = libm::exp(-0.5 * probit * probit) / libm::sqrt(core::f64::consts::TAU);
            let weight = blocks * density * density / (rate * (1.0 - rate));
            let response = probit + (failed / blocks - rate) / density;
            weights += weight;
            x += weight * place;
            y += weight * response;
            xx += weight * place * place;
            xy += weight * place * response;
        }
        let determinant = weights * xx - x * x;
        let next_second = (weights * xy - x * y) / determinant;
        let next_first = (y - next_second * x) / weights;
        let moved = (next_first - first).abs() + (next_second - second).abs();
        // Half steps keep the start from overshooting.
        first += 0.5 * (next_first - first);
        second += 0.5 * (next_second - second);
        if moved < 1e-9 {
            break;
        }
    }
    (second < 0.0 && first.is_finite()).then(|| (centre - first / second, -1.0 / second))
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("which file of counted failures?");
        return ExitCode::FAILURE;
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("cannot read {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("modulation_order,code_rate_x1024,code_block_bits,median_db,deviation_db,simulated");
    let points = read(&text);
    let sizes: BTreeSet<u32> = points.keys().map(|key| key.2).collect();
    let schemes: BTreeSet<(u32, u32)> = points.keys().map(|key| (key.0, key.1)).collect();
    for (order, rate) in schemes {
        let fits: Vec<(u32, Curve)> = sizes
            .iter()
            .filter_map(|&bits| Some((bits, fit(points.get(&(order, rate, bits))?)?)))
            .collect();
        let rate_x1024 = f64::from(rate) / 2.0;
        for &bits in &sizes {
            let fitted = fits.iter().find(|fit| fit.0 == bits).map(|fit| fit.1);
            let Some((median_db, deviation_db)) = fitted.or_else(|| continued(&fits, bits)) else {
                eprintln!("no fit for {order} bits at rate {rate}/2048 in blocks of {bits} bits");
                return ExitCode::FAILURE;
            };
            let simulated = u8::from(fitted.is_some());
            println!("{order},{rate_x1024},{bits},{median_db:.3},{deviation_db:.3},{simulated}");
        }
    }
    ExitCode::SUCCESS
}
