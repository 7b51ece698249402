//! Block error rates of the LDPC codes of TS 38.212 over white Gaussian noise, by Monte-Carlo.
//!
//! ```text
//! cargo run --release -p hexloop-traces --example ldpc_monte_carlo -- [--blocks N] [--sizes BITS,BITS] [--only Q,RATE,BITS] > FILE
//! ```
//!
//! For every pair of modulation and code rate of the MCS tables and a grid of code block sizes,
//! looks for the Es/N0 at which about a tenth of the blocks fail, and counts failures around it.
//! The all-zero code word is sent under a random scrambling, which the symmetry of the channel
//! allows; code bits pass rate matching and the bit interleaver of TS 38.212, 5.4.2, the Gray
//! mapping of TS 38.211 and exact demapping; 20 iterations of layered normalised min-sum decode.
//! The code rate counts the code block's check bits as information: E = K'/R.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of bits and blocks far below 2^32, and amplitudes that may lose digits"
)]

mod channel;
mod decoder;
mod graph;

use std::collections::BTreeSet;

use channel::Channel;
use decoder::Decoder;
use graph::Code;
use hexloop_traces::CounterRng;

const ITERATIONS: usize = 20;
/// Sizes of code blocks: up to the largest of each base graph.
const BLOCK_BITS: [usize; 8] = [40, 100, 200, 500, 1000, 2000, 3840, 8448];

struct Link {
    decoder: Decoder,
    /// The code's bit that each bit of each symbol carries.
    carried: Vec<usize>,
    modulation_order: usize,
    rng: CounterRng,
    blocks: u64,
}

impl Link {
    fn new(modulation_order: usize, rate: f64, block_bits: usize) -> Option<Link> {
        // TS 38.212, 7.2.2, with the size of the code block for the transport block's.
        let second = block_bits <= 308 || (block_bits <= 3840 && rate <= 0.67) || rate <= 0.25;
        if second && block_bits > 3840 {
            return None;
        }
        let symbols = (block_bits as f64 / rate / modulation_order as f64).round() as usize;
        let code = Code::new(!second, block_bits, symbols * modulation_order)?;
        let sent = code.sent_positions();
        // The interleaver of 5.4.2.2 writes by rows and reads by columns.
        let mut carried = Vec::with_capacity(sent.len());
        for symbol in 0..symbols {
            carried.extend((0..modulation_order).map(|bit| sent[bit * symbols + symbol]));
        }
        let entity = format!("{modulation_order} {rate} {block_bits}");
        Some(Link {
            decoder: Decoder::new(code),
            carried,
            modulation_order,
            rng: CounterRng::new(1, &entity, "ldpc monte-carlo"),
            blocks: 0,
        })
    }

    /// How many of `blocks` blocks fail at `esno_db`.
    fn failures(&mut self, esno_db: f64, blocks: u64) -> u64 {
        let channel = Channel::new(self.modulation_order, esno_db);
        let half = self.modulation_order / 2;
        let mut failures = 0;
        let mut ratios = vec![0.0; half];
        for _ in 0..blocks {
            let beliefs = self.decoder.reset();
            let symbols = self.carried.chunks_exact(self.modulation_order);
            for (at, symbol) in symbols.enumerate() {
                let drawn = channel::draw(&self.rng, self.blocks, at as u64, 1 << half);
                for (dimension, (label, noise)) in drawn.into_iter().enumerate() {
                    channel.receive(label, noise, &mut ratios);
                    for (bit, ratio) in ratios.iter().enumerate() {
                        let flip = (label >> (half - 1 - bit)) & 1 == 1;
                        // Even bits of a symbol lie in the first dimension.
                        beliefs[symbol[2 * bit + dimension]] += if flip { -ratio } else { *ratio };
                    }
                }
            }
            self.blocks += 1;
            failures += u64::from(!self.decoder.finds_zero(ITERATIONS));
        }
        failures
    }
}

/// Where to start: Shannon's limit and a usual gap.
fn guess_db(modulation_order: usize, rate: f64) -> f64 {
    let efficiency = modulation_order as f64 * rate;
    10.0 * libm::log10(libm::exp2(efficiency) - 1.0) + 2.0
}

fn simulate(modulation_order: usize, rate_x1024: f64, block_bits: usize, blocks: u64) {
    let rate = rate_x1024 / 1024.0;
    let Some(mut link) = Link::new(modulation_order, rate, block_bits) else {
        return;
    };
    let graph = if link.decoder.code().buffer_bits / link.decoder.code().lifting == 66 {
        1
    } else {
        2
    };
    let mut record = |esno_db: f64, blocks: u64| {
        let failed = link.failures(esno_db, blocks);
        println!(
            "{modulation_order},{rate_x1024},{block_bits},{graph},{esno_db:.2},{blocks},{failed}"
        );
        failed as f64 / blocks as f64
    };
    // Bisection to about a fifth, by a tenth of the blocks each.
    let (mut low, mut high) = (None, None);
    let mut at = (guess_db(modulation_order, rate) * 4.0).round() / 4.0;
    let mut step = 0.8;
    for _ in 0..14 {
        let share = record(at, (blocks / 10).max(50));
        if share > 0.3 {
            low = Some(at);
        } else if share < 0.06 {
            high = Some(at);
        } else {
            break;
        }
        at = match (low, high) {
            (Some(low), Some(high)) => f64::midpoint(low, high),
            (Some(_), None) => at + step,
            _ => at - step,
        };
        if low.is_some() && high.is_some() {
            step *= 0.5;
            if step < 0.05 {
                break;
            }
        }
    }
    let spread =
        if block_bits >= 2000 { 0.12 } else { 0.2 } * if block_bits < 300 { 2.0 } else { 1.0 };
    for offset in [-1.0, 0.0, 1.0, 2.0] {
        record(at + spread * offset, blocks);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let blocks = value("--blocks")
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    println!("modulation_order,code_rate_x1024,code_block_bits,base_graph,esno_db,blocks,failed");
    if let Some(only) = value("--only") {
        let fields: Vec<f64> = only
            .split(',')
            .filter_map(|field| field.parse().ok())
            .collect();
        if let [order, rate, bits] = fields[..] {
            simulate(order as usize, rate, bits as usize, blocks);
        }
        return;
    }
    // The rates are multiples of a half.
    let mut pairs = BTreeSet::new();
    for line in include_str!("../../data/phy/mcs.csv").lines() {
        let fields: Vec<f64> = line
            .split(',')
            .filter_map(|field| field.parse().ok())
            .collect();
        if let [_, _, order, rate] = fields[..] {
            pairs.insert((order as usize, (rate * 2.0) as usize));
        }
    }
    let sizes = value("--sizes").unwrap_or_default();
    let wanted: Vec<usize> = sizes
        .split(',')
        .filter_map(|size| size.parse().ok())
        .collect();
    for bits in BLOCK_BITS
        .into_iter()
        .filter(|bits| wanted.is_empty() || wanted.contains(bits))
    {
        for &(order, rate_x2048) in &pairs {
            simulate(order, rate_x2048 as f64 / 2.0, bits, blocks);
        }
    }
}
