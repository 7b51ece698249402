//! Many Rayleigh processes at once, each a sum of sinusoids, moved on by rotation.
//!
//! Process `l` is `sqrt(1/N) sum_n exp(i 2 pi (x cos alpha_n + phi_n))` with the way `x` in
//! wavelengths (maximum Doppler frequency times time), `alpha_n = pi (n + delta_l) / N` and
//! independent random phases. The even spacing over half a circle makes the autocorrelation of
//! every single realisation that of Jakes' spectrum, J0(2 pi x), up to Bessel functions of order
//! 2 N (M. Paetzold, "Mobile Radio Channels", chapter 5). The offset `delta_l` is drawn between 0.2
//! and 0.45 or between 0.55 and 0.8. At 0.5 frequencies would come in pairs of opposite sign,
//! whose sums stay on a line of the complex plane for ever, and far from it the spectrum would be
//! lopsided; that it differs between processes makes them uncorrelated in time.

use core::f64::consts::{PI, TAU};

use crate::CounterRng;

/// Sinusoids per process.
pub(super) const SINUSOIDS: usize = 20;

/// How many sums are kept side by side, so that they can be added in parallel.
const LANES: usize = 4;

/// Rotations before every phase is computed anew. Rounding adds up to less than 1e-12 till then.
const ROTATIONS: u32 = 1024;

/// How far a step may be from the regular one, as a share of it, before it is taken as another.
const REGULAR: f64 = 1e-5;

/// One process: its sinusoids side by side, so that they are turned and added in parallel.
#[derive(Debug, Clone)]
struct Process {
    /// Cycles per wavelength of way: cos alpha.
    frequency: [f64; SINUSOIDS],
    /// In cycles.
    phase: [f64; SINUSOIDS],
    wave: Waves,
    rotation: Waves,
}

/// Complex numbers, parts apart.
#[derive(Debug, Clone)]
struct Waves {
    real: [f64; SINUSOIDS],
    imaginary: [f64; SINUSOIDS],
}

/// Independent Rayleigh processes of unit mean power at one place.
#[derive(Debug, Clone)]
pub(super) struct SinusoidBank {
    processes: Vec<Process>,
    /// The sums: one complex gain per process.
    gains: Vec<[f64; 2]>,
    position: f64,
    /// Where the phases were last computed.
    anchor: f64,
    rotations: u32,
    /// The step of the rotations; 0 if there are none yet.
    step: f64,
    last_step: f64,
}

impl Process {
    /// Process `number`: with Jakes' spectrum, or rays that turn as given.
    fn new(number: usize, random: &CounterRng, rays: Option<[f64; SINUSOIDS]>) -> Process {
        let mut draws = (number as u64 * (1 + SINUSOIDS as u64))..;
        let mut draw = || draws.next().unwrap_or_default();
        let [place, side] = random.uniform_pair(draw());
        let from_middle = 0.05 + 0.25 * place;
        let offset = if side < 0.5 {
            0.5 - from_middle
        } else {
            0.5 + from_middle
        };
        let still = Waves {
            real: [0.0; SINUSOIDS],
            imaginary: [0.0; SINUSOIDS],
        };
        Process {
            frequency: rays.unwrap_or_else(|| {
                let angle = |n| PI * (small(n) + offset) / small(SINUSOIDS);
                core::array::from_fn(|n| libm::cos(angle(n)))
            }),
            phase: core::array::from_fn(|_| random.uniform(draw())),
            wave: still.clone(),
            rotation: still,
        }
    }

    fn compute(&mut self, position: f64) {
        for n in 0..SINUSOIDS {
            let [real, imaginary] = phasor(self.frequency[n] * position + self.phase[n]);
            self.wave.real[n] = real;
            self.wave.imaginary[n] = imaginary;
        }
    }

    fn prepare(&mut self, step: f64) {
        for n in 0..SINUSOIDS {
            let [real, imaginary] = phasor(self.frequency[n] * step);
            self.rotation.real[n] = real;
            self.rotation.imaginary[n] = imaginary;
        }
    }

    #[inline]
    fn rotate(&mut self) {
        let Process { wave, rotation, .. } = self;
        for n in 0..SINUSOIDS {
            let (x, y) = (wave.real[n], wave.imaginary[n]);
            let (u, v) = (rotation.real[n], rotation.imaginary[n]);
            wave.real[n] = x * u - y * v;
            wave.imaginary[n] = x * v + y * u;
        }
    }

    #[inline]
    fn sum(&self) -> [f64; 2] {
        const SCALE: f64 = 0.223_606_797_749_978_97; // 1 / sqrt(20)
        [
            SCALE * total(&self.wave.real),
            SCALE * total(&self.wave.imaginary),
        ]
    }
}

impl SinusoidBank {
    /// As many as `processes`, each from draws of its own of `random`. `rays` are those of a
    /// process, where it has some: how many cycles each turns per wavelength.
    pub(super) fn new(
        processes: usize,
        random: CounterRng,
        rays: impl Fn(usize) -> Option<[f64; SINUSOIDS]>,
    ) -> SinusoidBank {
        SinusoidBank {
            processes: (0..processes)
                .map(|number| Process::new(number, &random, rays(number)))
                .collect(),
            gains: vec![[0.0; 2]; processes],
            position: f64::NAN,
            anchor: f64::NAN,
            rotations: 0,
            step: 0.0,
            last_step: f64::NAN,
        }
    }

    /// The complex gain of every process where the bank was moved to.
    pub(super) fn gains(&self) -> &[[f64; 2]] {
        &self.gains
    }

    /// Goes to `position` (wavelengths). Even steps are rotations; whatever else is computed from
    /// the position alone, as is every [`ROTATIONS`]th step.
    pub(super) fn move_to(&mut self, position: f64) {
        let step = position - self.position;
        if step == 0.0 {
            return;
        }
        let regular = self.anchor + f64::from(self.rotations + 1) * self.step;
        let on_the_grid = (position - regular).abs() <= REGULAR * self.step.abs();
        if on_the_grid && self.rotations < ROTATIONS {
            self.rotations += 1;
            for (process, gain) in self.processes.iter_mut().zip(&mut self.gains) {
                process.rotate();
                *gain = process.sum();
            }
        } else {
            if on_the_grid {
                // The mean of many steps is a better step than the difference of two positions.
                self.prepare((position - self.anchor) / f64::from(self.rotations + 1));
            } else if (step - self.last_step).abs() <= REGULAR * step.abs() {
                self.prepare(step);
            } else {
                self.step = 0.0;
            }
            for (process, gain) in self.processes.iter_mut().zip(&mut self.gains) {
                process.compute(position);
                *gain = process.sum();
            }
            self.anchor = position;
            self.rotations = 0;
        }
        self.last_step = step;
        self.position = position;
    }

    fn prepare(&mut self, step: f64) {
        if (step - self.step).abs() <= 1e-14 * step.abs() {
            return;
        }
        self.step = step;
        for process in &mut self.processes {
            process.prepare(step);
        }
    }
}

/// The sum in an order that is the same on every machine and can be added in parallel. (Loops by
/// index here and above: the compiler turns them into vector instructions in any build.)
#[inline]
fn total(values: &[f64; SINUSOIDS]) -> f64 {
    let mut lanes = [0.0; LANES];
    for n in 0..SINUSOIDS {
        lanes[n % LANES] += values[n];
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// exp(i 2 pi cycles). Whole cycles are taken off first: they would cost accuracy.
#[inline]
pub(super) fn phasor(cycles: f64) -> [f64; 2] {
    let (sine, cosine) = libm::sincos(TAU * (cycles - libm::floor(cycles)));
    [cosine, sine]
}

#[expect(clippy::cast_precision_loss, reason = "a few dozens at most")]
fn small(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank(processes: usize, seed: u64) -> SinusoidBank {
        SinusoidBank::new(processes, CounterRng::new(seed, "test", "fading"), |_| None)
    }

    #[test]
    fn rotations_agree_with_phases_computed_anew() {
        let mut rotated = bank(23, 1);
        let mut largest = 0.0_f64;
        for k in 0..20_000_u32 {
            let position = f64::from(k) * 0.013;
            rotated.move_to(position);
            if k % 997 == 0 {
                let mut anew = bank(23, 1);
                anew.move_to(position);
                for (a, b) in rotated.gains().iter().zip(anew.gains()) {
                    largest = largest.max((a[0] - b[0]).abs().max((a[1] - b[1]).abs()));
                }
            }
        }
        assert!(largest < 1e-10, "{largest}");
        assert!(rotated.step > 0.0, "the way was taken by rotations");
    }

    #[test]
    fn a_change_of_speed_and_a_jump_leave_no_trace() {
        let mut moved = bank(3, 2);
        let mut position = 0.0;
        for k in 0..3000_u32 {
            position += if k % 700 < 350 { 0.01 } else { 0.02 };
            moved.move_to(position);
            moved.move_to(position);
        }
        moved.move_to(1e6);
        moved.move_to(position);
        let mut anew = bank(3, 2);
        anew.move_to(position);
        assert_eq!(moved.gains(), anew.gains());
    }

    #[test]
    fn no_step_is_seen_where_phases_are_computed_anew() {
        let mut bank = bank(1, 3);
        let step = 0.001;
        let mut at_anchors = 0.0_f64;
        let mut elsewhere = 0.0_f64;
        let mut before: Option<[f64; 2]> = None;
        for k in 0..20_000_u32 {
            bank.move_to(f64::from(k) * step);
            let gain = bank.gains()[0];
            if let Some([real, imaginary]) = before {
                let difference = gain[0] - real;
                let other = gain[1] - imaginary;
                let largest = difference.abs().max(other.abs());
                if bank.rotations == 0 {
                    at_anchors = at_anchors.max(largest);
                } else {
                    elsewhere = elsewhere.max(largest);
                }
            }
            before = Some(gain);
        }
        assert!(at_anchors > 0.0);
        assert!(at_anchors <= elsewhere);
        // The fastest sinusoid turns by a thousandth: no sum of 20 can move by more than this.
        assert!(elsewhere <= libm::sqrt(20.0) * TAU * step);
    }

    #[test]
    fn processes_have_unit_power_and_are_uncorrelated() {
        let mut bank = bank(6, 4);
        let n = 200_000_u32;
        let mut power = [0.0; 6];
        let mut cross = 0.0_f64;
        let mut products = [[0.0; 2]; 6];
        for k in 0..n {
            bank.move_to(f64::from(k) * 0.37);
            let gains = bank.gains();
            for (l, gain) in gains.iter().enumerate() {
                power[l] += gain[0] * gain[0] + gain[1] * gain[1];
                let next = gains[(l + 1) % 6];
                products[l][0] += gain[0] * next[0] + gain[1] * next[1];
                products[l][1] += gain[1] * next[0] - gain[0] * next[1];
            }
        }
        for l in 0..6 {
            assert!((power[l] / f64::from(n) - 1.0).abs() < 0.01, "{power:?}");
            let [real, imaginary] = products[l];
            cross = cross.max(libm::hypot(real, imaginary) / f64::from(n));
        }
        assert!(cross < 0.02, "{cross}");
    }
}
