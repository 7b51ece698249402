//! Square QAM with the Gray mapping of TS 38.211, 5.1, over white Gaussian noise.

use hexloop_traces::CounterRng;

/// Points of the demapper's table over the range of the received amplitude.
const TABLE_POINTS: usize = 4096;

/// One dimension of a square QAM: an amplitude that carries `bits` bits.
pub(crate) struct Channel {
    bits: usize,
    /// Amplitude of each label, the first bit the highest.
    amplitudes: Vec<f64>,
    noise_deviation: f64,
    lowest: f64,
    step: f64,
    /// Log likelihood ratios, `bits` of them for each received amplitude.
    table: Vec<f32>,
}

impl Channel {
    /// `modulation_order` bits per symbol at `esno_db`.
    pub(crate) fn new(modulation_order: usize, esno_db: f64) -> Channel {
        let bits = modulation_order / 2;
        let labels = 1_usize << bits;
        let mean_square: f64 = (0..labels)
            .map(|label| amplitude(label, bits))
            .map(|a| a * a)
            .sum();
        // Half of the symbol's energy lies in each dimension.
        let scale = libm::sqrt(0.5 * labels as f64 / mean_square);
        let amplitudes: Vec<f64> = (0..labels).map(|l| scale * amplitude(l, bits)).collect();
        let noise_deviation = libm::sqrt(0.5 * libm::pow(10.0, -esno_db / 10.0));
        let highest = amplitudes.iter().fold(0.0_f64, |a, b| a.max(*b)) + 6.0 * noise_deviation;
        let step = 2.0 * highest / (TABLE_POINTS - 1) as f64;
        let mut channel = Channel {
            bits,
            amplitudes,
            noise_deviation,
            lowest: -highest,
            step,
            table: Vec::new(),
        };
        for point in 0..TABLE_POINTS {
            let received = channel.lowest + step * point as f64;
            for bit in 0..bits {
                let ratio = channel.ratio(received, bit);
                channel.table.push(ratio as f32);
            }
        }
        channel
    }

    /// The exact log likelihood ratio of `bit` (the first is 0): positive for 0.
    fn ratio(&self, received: f64, bit: usize) -> f64 {
        let exponent = |a: f64| {
            let distance = (received - a) / self.noise_deviation;
            -0.5 * distance * distance
        };
        let sum = |value: usize| {
            let of_value = || {
                let labels = self.amplitudes.iter().enumerate();
                labels.filter(move |(l, _)| (l >> (self.bits - 1 - bit)) & 1 == value)
            };
            let greatest = of_value()
                .map(|(_, &a)| exponent(a))
                .fold(f64::MIN, f64::max);
            let rest: f64 = of_value()
                .map(|(_, &a)| libm::exp(exponent(a) - greatest))
                .sum();
            greatest + libm::log(rest)
        };
        sum(0) - sum(1)
    }

    /// Sends an amplitude with each label and standard normal noise; writes the ratios.
    pub(crate) fn receive(&self, label: usize, noise: f64, ratios: &mut [f32]) {
        let received = self.amplitudes[label] + self.noise_deviation * noise;
        let place = ((received - self.lowest) / self.step).clamp(0.0, (TABLE_POINTS - 2) as f64);
        let point = place as usize;
        let part = (place - point as f64) as f32;
        for (bit, ratio) in ratios.iter_mut().enumerate().take(self.bits) {
            let before = self.table[point * self.bits + bit];
            let after = self.table[(point + 1) * self.bits + bit];
            *ratio = before + part * (after - before);
        }
    }
}

/// TS 38.211, 5.1.3 to 5.1.7, one dimension: the first bit is the sign, the others fold.
fn amplitude(label: usize, bits: usize) -> f64 {
    let sign = |bit: usize| {
        if (label >> (bits - 1 - bit)) & 1 == 0 {
            1.0
        } else {
            -1.0
        }
    };
    let mut value = 1.0;
    for bit in (1..bits).rev() {
        value = (1_usize << (bits - bit)) as f64 - sign(bit) * value;
    }
    sign(0) * value
}

/// The block's random numbers: a label and noise for each amplitude.
pub(crate) fn draw(rng: &CounterRng, block: u64, at: u64, labels: usize) -> [(usize, f64); 2] {
    let words = rng.words((block << 20) | (at << 1));
    let noise = rng.normal_pair((block << 20) | (at << 1) | 1);
    let label = |word: u32| word as usize % labels;
    [(label(words[0]), noise[0]), (label(words[1]), noise[1])]
}
