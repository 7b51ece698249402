//! Layered normalised min-sum decoding, one base graph row at a time over the whole lifting size.

use super::graph::Code;

/// Scale of the messages; brings min-sum close to belief propagation.
const SCALE: f32 = 0.75;
/// What a known bit says.
const CERTAIN: f32 = 1.0e4;

pub(crate) struct Decoder {
    code: Code,
    /// What is believed of each bit; positive for 0.
    beliefs: Vec<f32>,
    /// What each check last said about each of its bits.
    messages: Vec<Vec<f32>>,
    arriving: Vec<Vec<f32>>,
    least: Vec<f32>,
    second: Vec<f32>,
    sign: Vec<f32>,
}

impl Decoder {
    pub(crate) fn new(code: Code) -> Decoder {
        let lifting = code.lifting;
        let widest = code.rows.iter().map(Vec::len).max().unwrap_or(0);
        Decoder {
            beliefs: vec![0.0; code.columns * lifting],
            messages: code
                .rows
                .iter()
                .map(|row| vec![0.0; row.len() * lifting])
                .collect(),
            arriving: vec![vec![0.0; lifting]; widest],
            least: vec![0.0; lifting],
            second: vec![0.0; lifting],
            sign: vec![0.0; lifting],
            code,
        }
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    /// Forgets the last block: nothing is known but the filler bits.
    pub(crate) fn reset(&mut self) -> &mut [f32] {
        self.beliefs.fill(0.0);
        self.beliefs[self.code.block_bits..self.code.information_bits].fill(CERTAIN);
        for messages in &mut self.messages {
            messages.fill(0.0);
        }
        &mut self.beliefs
    }

    /// Decodes the all-zero code word from the beliefs; returns whether it was found within
    /// `iterations`.
    pub(crate) fn finds_zero(&mut self, iterations: usize) -> bool {
        for _ in 0..iterations {
            for row in 0..self.code.rows.len() {
                self.update(row);
            }
            if self.beliefs.iter().all(|&belief| belief > 0.0) {
                return true;
            }
        }
        self.beliefs[..self.code.block_bits]
            .iter()
            .all(|&belief| belief > 0.0)
    }

    fn update(&mut self, row: usize) {
        let lifting = self.code.lifting;
        let (least, second, sign) = (
            &mut self.least[..],
            &mut self.second[..],
            &mut self.sign[..],
        );
        least.fill(f32::MAX);
        second.fill(f32::MAX);
        sign.fill(1.0);
        for (at, &(column, shift)) in self.code.rows[row].iter().enumerate() {
            let beliefs = &self.beliefs[column * lifting..(column + 1) * lifting];
            let messages = &self.messages[row][at * lifting..(at + 1) * lifting];
            let arriving = &mut self.arriving[at][..];
            let (end, start) = beliefs.split_at(shift);
            let (first_out, last_out) = arriving.split_at_mut(lifting - shift);
            let (first_said, last_said) = messages.split_at(lifting - shift);
            subtract(first_out, start, first_said);
            subtract(last_out, end, last_said);
            for (((value, least), second), sign) in arriving
                .iter()
                .zip(&mut *least)
                .zip(&mut *second)
                .zip(&mut *sign)
            {
                let size = value.abs();
                *second = second.min(least.max(size));
                *least = least.min(size);
                *sign *= 1.0_f32.copysign(*value);
            }
        }
        for (at, &(column, shift)) in self.code.rows[row].iter().enumerate() {
            let arriving = &self.arriving[at][..];
            let messages = &mut self.messages[row][at * lifting..(at + 1) * lifting];
            for ((((said, value), least), second), sign) in messages
                .iter_mut()
                .zip(arriving)
                .zip(&*least)
                .zip(&*second)
                .zip(&*sign)
            {
                let size = if value.abs() <= *least {
                    *second
                } else {
                    *least
                };
                *said = SCALE * size * sign * 1.0_f32.copysign(*value);
            }
            let beliefs = &mut self.beliefs[column * lifting..(column + 1) * lifting];
            let (end, start) = beliefs.split_at_mut(shift);
            let (first_value, last_value) = arriving.split_at(lifting - shift);
            let (first_said, last_said) = messages.split_at(lifting - shift);
            add(start, first_value, first_said);
            add(end, last_value, last_said);
        }
    }
}

fn subtract(out: &mut [f32], from: &[f32], what: &[f32]) {
    for ((out, from), what) in out.iter_mut().zip(from).zip(what) {
        *out = from - what;
    }
}

fn add(out: &mut [f32], first: &[f32], second: &[f32]) {
    for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
        *out = first + second;
    }
}
