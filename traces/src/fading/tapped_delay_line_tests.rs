//! Statistics of the fading against theory, at no fewer than 1e5 samples.

use super::*;

fn line(settings: &FadingSettings, seed: u64) -> TappedDelayLine {
    TappedDelayLine::new(settings, CounterRng::new(seed, "test", "fading")).unwrap()
}

fn rayleigh(seed: u64) -> TappedDelayLine {
    line(&FadingSettings::new(Profile::TdlA, Some(100e-9), 1.0), seed)
}

/// The autocorrelation of the gain in a subband against Jakes' J0.
#[test]
fn the_autocorrelation_is_that_of_jakes_spectrum() {
    let mut taps = rayleigh(1);
    let lags: Vec<usize> = (0..=20).collect();
    let step = 0.1;
    let n = 100_000_u32;
    let gains: Vec<Vec<[f64; 2]>> = (0..n)
        .map(|k| taps.tap_gains(f64::from(k) * step).to_vec())
        .collect();
    let correlation = |lag: usize, tap: usize| {
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (a, b) in gains.iter().zip(&gains[lag..]) {
            let ([x, y], [u, v]) = (a[tap], b[tap]);
            real += x * u + y * v;
            imaginary += y * u - x * v;
        }
        let n = small(gains.len() - lag);
        [real / n, imaginary / n]
    };
    for lag in lags {
        let expected = libm::j0(std::f64::consts::TAU * small(lag) * step);
        let [mut real_sum, mut imaginary_sum] = [0.0; 2];
        for tap in 0..23 {
            let [power, _] = correlation(0, tap);
            let [real, imaginary] = correlation(lag, tap);
            assert!((real / power - expected).abs() <= 0.02, "{lag} of {tap}");
            real_sum += real / power / 23.0;
            imaginary_sum += imaginary / power / 23.0;
        }
        let distance = libm::hypot(real_sum - expected, imaginary_sum);
        assert!(distance <= 0.02, "lag {lag}: {distance}");
    }
}

/// P(power < threshold) = 1 - exp(-threshold), and the rate at which the amplitude rises through
/// rho is sqrt(2 pi) fd rho exp(-rho^2) (S. O. Rice 1945; W. C. Jakes 1974).
#[test]
fn outage_and_level_crossings_are_those_of_rayleigh_fading() {
    let step = 1.0 / 250.0;
    let n = 600_000_u32;
    let levels_db = [-20.0, -10.0, 0.0];
    let thresholds = levels_db.map(|level_db| libm::exp10(level_db / 10.0));
    let mut below = [0_u32; 3];
    let mut crossings = [0_u32; 3];
    let mut was_below = [[false; 3]; 23];
    let mut taps = rayleigh(100);
    for k in 0..n {
        let gains = taps.tap_gains(f64::from(k) * step);
        for (was, [real, imaginary]) in was_below.iter_mut().zip(gains) {
            let power = real * real + imaginary * imaginary;
            for level in 0..3 {
                let is_below = power < thresholds[level];
                below[level] += u32::from(is_below);
                crossings[level] += u32::from(was[level] && !is_below);
                was[level] = is_below;
            }
        }
    }
    let samples = f64::from(n) * 23.0;
    for level in 0..3 {
        let threshold = thresholds[level];
        let outage = f64::from(below[level]) / samples;
        let expected = 1.0 - libm::exp(-threshold);
        assert!(
            (outage / expected - 1.0).abs() <= 0.05,
            "{level}: {outage} {expected}"
        );
        let rate = f64::from(crossings[level]) / (samples * step);
        let rho = libm::sqrt(threshold);
        let expected = libm::sqrt(std::f64::consts::TAU) * rho * libm::exp(-threshold);
        assert!(
            (rate / expected - 1.0).abs() <= 0.05,
            "{level}: {rate} {expected}"
        );
    }
}

#[test]
fn every_subband_of_every_profile_has_mean_power_one() {
    for profile in Profile::ALL {
        let spread = profile.is_scalable().then_some(100e-9);
        let settings = FadingSettings {
            bandwidth_hz: 100e6,
            subbands: 4,
            ..FadingSettings::new(profile, spread, 1.0)
        };
        // Rays of two clusters may arrive from the same direction, and then stay in step for ever:
        // the mean is that over many links.
        let links = if profile.is_clustered() { 100 } else { 1 };
        let mut sums = [0.0; 4];
        let n = 100_000_u32;
        for link in 0..links {
            let mut line = line(&settings, 7 + u64::from(link));
            for k in 0..n / links {
                let mut powers = [0.0; 4];
                line.power_per_subband(f64::from(k) * 17.3, &mut powers);
                for (sum, power) in sums.iter_mut().zip(powers) {
                    *sum += power;
                }
            }
        }
        for sum in sums {
            let mean = sum / f64::from(n);
            let close = if profile.is_clustered() { 0.05 } else { 0.02 };
            assert!((mean - 1.0).abs() < close, "{profile}: {mean}");
        }
    }
}

/// The correlation of gains in frequency is the Fourier transform of the power delay profile.
#[test]
fn subbands_are_correlated_as_the_delays_ask() {
    let settings = FadingSettings {
        bandwidth_hz: 20e6,
        subbands: 8,
        ..FadingSettings::new(Profile::TdlC, Some(100e-9), 1.0)
    };
    let mut line = line(&settings, 11);
    let n = 100_000_u32;
    let mut powers = [0.0; 8];
    let mut products = [0.0; 8];
    for k in 0..n {
        line.power_per_subband(f64::from(k) * 17.3, &mut powers);
        for (product, power) in products.iter_mut().zip(powers) {
            *product += (powers[0] - 1.0) * (power - 1.0);
        }
    }
    let mut taps = Vec::new();
    let shape = Shape::of(Profile::TdlC);
    shape.scale(Some(100e-9), None, &mut taps).unwrap();
    for (apart, product) in products.into_iter().enumerate() {
        let spacing_hz = 20e6 / 8.0 * small(apart);
        let (mut real, mut imaginary) = (0.0, 0.0);
        for tap in &taps {
            let [x, y] = phasor(spacing_hz * tap.delay_s);
            real += tap.power * x;
            imaginary += tap.power * y;
        }
        // Of powers the square of the magnitude, as of any complex Gaussian process.
        let expected = real * real + imaginary * imaginary;
        let found = product / products[0];
        assert!(
            (found - expected).abs() < 0.05,
            "{apart}: {found} {expected}"
        );
    }
}

#[test]
fn a_line_of_sight_turns_at_seven_tenths_of_the_doppler_shift() {
    let settings = FadingSettings {
        k_factor_db: Some(60.0),
        ..FadingSettings::new(Profile::TdlD, Some(100e-9), 10.0)
    };
    let mut line = line(&settings, 5);
    let mut phase_at = |t_s: f64| {
        let mut power = [0.0];
        line.power_per_subband(t_s, &mut power);
        assert!((power[0] - 1.0).abs() < 0.02, "hardly anything fades");
        libm::atan2(line.response_imaginary[0], line.response_real[0])
    };
    let turned = phase_at(0.01) - phase_at(0.0);
    let expected = std::f64::consts::TAU * 0.7 * 10.0 * 0.01;
    let difference = libm::remainder(turned - expected, std::f64::consts::TAU);
    assert!(difference.abs() < 0.01, "{turned}");
}

#[test]
fn a_channel_that_is_reshaped_is_that_of_the_new_place_and_goes_on_smoothly() {
    let settings = |spread_s, k_db| FadingSettings {
        bandwidth_hz: 100e6,
        subbands: 18,
        k_factor_db: Some(k_db),
        ..FadingSettings::new(Profile::TdlD, Some(spread_s), 1.0)
    };
    let mut moved = line(&settings(30e-9, 9.0), 4);
    let (mut before, mut now) = ([0.0; 18], [0.0; 18]);
    moved.power_at(1.0, &mut before);
    moved.reshape(30.03e-9, Some(9.002)).unwrap();
    moved.power_at(1.0 + 1e-9, &mut now);
    for (before, now) in before.iter().zip(now) {
        assert!((before - now).abs() < 0.1, "{before} {now}");
    }
    moved.reshape(300e-9, Some(2.0)).unwrap();
    moved.power_at(7.0, &mut now);
    let mut other = [0.0; 18];
    line(&settings(300e-9, 2.0), 4).power_at(7.0, &mut other);
    for (one, other) in now.into_iter().zip(other) {
        assert!((one - other).abs() < 1e-9, "{one} {other}");
    }
    assert!(moved.reshape(-1.0, None).is_err());
}

#[test]
fn a_clustered_line_turns_as_its_rays_do_and_loses_what_misses_the_beam() {
    let settings = |profile, rays| FadingSettings {
        rays,
        ..FadingSettings::new(profile, Some(100e-9), 10.0)
    };
    // Straight away from the transmitter: the line of sight falls behind, at sin 81.5 degrees.
    let mut away = line(
        &FadingSettings {
            k_factor_db: Some(60.0),
            ..settings(Profile::CdlD, RaySettings::default())
        },
        5,
    );
    let mut power = [0.0];
    let mut phase_at = |t_s: f64| {
        away.power_per_subband(t_s, &mut power);
        libm::atan2(away.response_imaginary[0], away.response_real[0])
    };
    let turned = phase_at(0.01) - phase_at(0.0);
    let expected = -std::f64::consts::TAU * 0.989_016 * 10.0 * 0.01;
    let difference = libm::remainder(turned - expected, std::f64::consts::TAU);
    assert!(difference.abs() < 0.01, "{turned}");

    let mean = |beam_width_deg| {
        let rays = RaySettings {
            beam_width_deg,
            heading_deg: 40.0,
            angles: None,
        };
        let mut sum = 0.0;
        for link in 0..1000 {
            let mut line = line(&settings(Profile::CdlC, rays), link);
            for k in 0..100_u32 {
                let mut power = [0.0];
                line.power_at(f64::from(k) * 17.3, &mut power);
                sum += power[0];
            }
        }
        sum / 100_000.0
    };
    let mut caught = Vec::new();
    let shape = Shape::of(Profile::CdlC).through_beam(12.0);
    shape.scale(Some(100e-9), None, &mut caught).unwrap();
    let caught: f64 = caught.iter().map(|tap| tap.power).sum();
    assert!((mean(None) - 1.0).abs() < 0.02);
    let found = mean(Some(12.0));
    assert!((found / caught - 1.0).abs() < 0.03, "{found} {caught}");
}

#[test]
fn diversity_makes_deep_fades_rare() {
    let deep = |receive_branches| {
        let settings = FadingSettings {
            receive_branches,
            ..FadingSettings::new(Profile::TdlA, Some(100e-9), 1.0)
        };
        let mut line = line(&settings, 3);
        let mut sum = 0.0;
        let fades = (0..100_000_u32)
            .filter(|k| {
                let mut power = [0.0];
                line.power_per_subband(f64::from(*k) * 17.3, &mut power);
                sum += power[0];
                power[0] < 0.1
            })
            .count();
        assert!((sum / 100_000.0 - 1.0).abs() < 0.02);
        fades
    };
    // Gamma distributed with shape n: P(mean < 0.1) is 9.5 %, 1.75 % and 0.078 %.
    let [one, two, four] = [deep(1), deep(2), deep(4)];
    assert!((9000..10_100).contains(&one), "{one}");
    assert!((1600..1950).contains(&two), "{two}");
    assert!((50..110).contains(&four), "{four}");
}

#[test]
fn time_may_be_walked_through_in_any_way_and_links_do_not_disturb_each_other() {
    let settings = FadingSettings {
        bandwidth_hz: 100e6,
        subbands: 3,
        receive_branches: 2,
        ..FadingSettings::new(Profile::TdlE, Some(30e-9), 200.0)
    };
    let mut stepped = line(&settings, 1);
    let mut powers = [0.0; 3];
    for k in 0..=5000_u32 {
        stepped.power_per_subband(f64::from(k) * 1e-3, &mut powers);
    }
    let mut jumped = [0.0; 3];
    line(&settings, 1).power_per_subband(5.0, &mut jumped);
    for (a, b) in powers.into_iter().zip(jumped) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
    let mut other = [0.0; 3];
    line(&settings, 2).power_per_subband(5.0, &mut other);
    assert!((jumped[0] - other[0]).abs() > 1e-3);
}

#[test]
fn a_user_who_stands_still_does_not_fade() {
    let settings = FadingSettings::new(Profile::TdlB, Some(100e-9), 0.0);
    let mut line = line(&settings, 9);
    let mut first = [0.0];
    let mut later = [0.0];
    line.power_per_subband(0.0, &mut first);
    line.power_per_subband(1000.0, &mut later);
    assert!((first[0] - later[0]).abs() < 1e-15);
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let good = FadingSettings::new(Profile::TdlA, Some(100e-9), 10.0);
    let random = CounterRng::new(1, "test", "fading");
    assert!(TappedDelayLine::new(&good, random).is_ok());
    for bad in [
        FadingSettings {
            maximum_doppler_hz: -1.0,
            ..good.clone()
        },
        FadingSettings {
            bandwidth_hz: f64::NAN,
            ..good.clone()
        },
        FadingSettings {
            subbands: 0,
            ..good.clone()
        },
        FadingSettings {
            receive_branches: 0,
            ..good.clone()
        },
        FadingSettings {
            k_factor_db: Some(3.0),
            ..good.clone()
        },
    ] {
        assert!(TappedDelayLine::new(&bad, random).is_err(), "{bad:?}");
    }
}
