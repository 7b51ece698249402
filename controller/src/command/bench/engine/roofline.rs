//! What decoding could reach at most on this machine, by the roofline model (S. Williams, A. Waterman, D. Patterson:
//! Roofline, An Insightful Visual Performance Model for Multicore Architectures, Communications of the ACM 52(4),
//! 2009): a pass takes as long as reading its bytes or making its products, whichever takes longer.
//!
//! ```text
//! tokens/s = b / max((W + b p K) / B, b (M + p A) / P)
//!
//! b  sequences of the batch                        p  positions that each of them looks back on, on average
//! W  bytes of the weights, read once a pass        K  bytes of the keys and values of a position
//! M  products of a token with weights              A  products of a token with the keys and values of a position
//! B  bytes/s, as a plain read reaches them         P  products/s, as the engine's own f32 product reaches them
//! ```
//!
//! Below the ridge, the batch at which both take as long, throughput grows with the batch.

use hexloop_proto::Measurement;
use hexloop_workloads::engine::PassWork;
use hexloop_workloads::engine::bench::{BenchPhase, Ceilings, Rate};
use serde::Serialize;

use super::EngineRow;
use crate::format::{count_to_f64, ns_to_s, significant};

/// How far growth may be from the roofline's and still be called as it says: what windows of seconds on a machine
/// with others tell apart.
const GROWTH_TOLERANCE: f64 = 0.15;

/// What bounds a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    /// Reading weights, keys and values.
    Memory,
    /// Multiplying.
    Arithmetic,
}

/// The roof over the batches of a model.
#[derive(Debug, Clone, Copy)]
struct Roof {
    work: PassWork,
    bandwidth_bytes_per_s: f64,
    peak_products_per_s: f64,
}

/// What one row could reach.
#[derive(Debug, Serialize)]
pub(super) struct RowRoof {
    /// By the formula.
    pub(super) tokens_per_s: Measurement,
    /// What was measured over that.
    pub(super) reached: Measurement,
    /// Which of the two takes longer; null where one of them is not known.
    pub(super) bound: Option<Bound>,
}

/// The two ceilings, and whether throughput grows below them as it should.
#[derive(Debug, Serialize)]
pub(super) struct Roofline {
    pub(super) bandwidth_bytes_per_s: Measurement,
    pub(super) peak_products_per_s: Measurement,
    /// Length of what was read; null if nothing was.
    buffer_bytes: Option<u64>,
    /// Null where the kernel does not tell.
    last_level_cache_bytes: Option<u64>,
    /// Whether the weights that a pass reads fit into it, so that it bounds them instead of memory.
    pub(super) weights_fit_cache: Option<bool>,
    /// What a pass does; null where the process that computes did not tell.
    work: Option<PassWork>,
    /// The batch at which reading and multiplying take as long.
    pub(super) ridge_batch: Measurement,
    pub(super) growth: Growth,
}

/// How throughput grows from the smallest batch to the largest below the ridge.
#[derive(Debug, Serialize)]
pub(super) struct Growth {
    pub(super) from_batch: Option<u32>,
    pub(super) to_batch: Option<u32>,
    pub(super) measured: Measurement,
    pub(super) by_roofline: Measurement,
    /// Measured over the roofline's.
    pub(super) ratio: Measurement,
    /// Whether that is one, within [`GROWTH_TOLERANCE`]; null where there is no ratio.
    pub(super) is_as_roofline_says: Option<bool>,
}

fn unavailable(why: &str) -> Measurement {
    Measurement::Unavailable {
        why: why.to_owned(),
    }
}

fn derived(value: f64, source: &str) -> Measurement {
    Measurement::Derived {
        value,
        source: source.to_owned(),
    }
}

impl Roof {
    /// Seconds that a pass over so many sequences reads and multiplies.
    fn pass_s(&self, batch: f64, positions: f64) -> [f64; 2] {
        let work = &self.work;
        let of_cache = batch * positions * count_to_f64(work.position_bytes);
        let bytes = count_to_f64(work.weight_bytes) + of_cache;
        let of_token =
            count_to_f64(work.token_products) + positions * count_to_f64(work.position_products);
        [
            bytes / self.bandwidth_bytes_per_s,
            batch * of_token / self.peak_products_per_s,
        ]
    }

    /// Tokens per second, and what bounds them.
    fn tokens_per_s(&self, batch: f64, positions: f64) -> (f64, Bound) {
        let [reading_s, multiplying_s] = self.pass_s(batch, positions);
        let bound = match reading_s >= multiplying_s {
            true => Bound::Memory,
            false => Bound::Arithmetic,
        };
        (batch / reading_s.max(multiplying_s), bound)
    }

    /// The batch at which both take as long; `None` where reading keys and values alone takes longer.
    fn ridge_batch(&self, positions: f64) -> Option<f64> {
        let [weights_s, _] = self.pass_s(0.0, positions);
        let [one_s, multiplying_s] = self.pass_s(1.0, positions);
        let more_s = multiplying_s - (one_s - weights_s);
        (more_s > 0.0).then(|| weights_s / more_s)
    }
}

/// The figure of a ceiling, and why there is none.
fn ceiling(rate: Option<Rate>, why: &str, source: String) -> Measurement {
    match rate {
        Some(Rate { count, ns }) => Measurement::Measured {
            value: count_to_f64(count) / ns_to_s(ns),
            source,
        },
        None => unavailable(why),
    }
}

/// Draws the roof over the rows of decoding, and notes in each what it could reach.
pub(super) fn draw(ceilings: Option<&Ceilings>, rows: &mut [EngineRow]) -> Roofline {
    let untold = "the process that computes did not measure what bounds it";
    let Some(ceilings) = ceilings else {
        let nothing = || unavailable(untold);
        return Roofline {
            bandwidth_bytes_per_s: nothing(),
            peak_products_per_s: nothing(),
            buffer_bytes: None,
            last_level_cache_bytes: None,
            weights_fit_cache: None,
            work: None,
            ridge_batch: nothing(),
            growth: Growth::unavailable(untold),
        };
    };
    let why = ceilings.unavailable.as_deref().unwrap_or(untold);
    let cache = ceilings.last_level_cache_bytes;
    let weights_fit_cache = cache.map(|cache| ceilings.work.weight_bytes <= cache);
    let from = match weights_fit_cache {
        Some(true) => "the last-level cache, into which the weights fit",
        Some(false) => "memory, for the weights do not fit into the last-level cache",
        None => "memory or a cache, of which the kernel does not tell the size",
    };
    let bandwidth_bytes_per_s = ceiling(
        ceilings.reading,
        why,
        format!(
            "a plain read over and over by the engine's threads, the fastest part of a window, from {from}"
        ),
    );
    let peak_products_per_s = ceiling(
        ceilings.multiplying,
        why,
        "the engine's own f32 product with a large matrix by the same threads, the fastest part of a window".to_owned(),
    );
    let mut roofline = Roofline {
        buffer_bytes: ceilings.reading.map(|_| ceilings.buffer_bytes),
        last_level_cache_bytes: cache,
        weights_fit_cache,
        work: Some(ceilings.work),
        ridge_batch: unavailable(why),
        growth: Growth::unavailable(why),
        bandwidth_bytes_per_s,
        peak_products_per_s,
    };
    let (Some(bandwidth), Some(peak)) = (
        roofline.bandwidth_bytes_per_s.value(),
        roofline.peak_products_per_s.value(),
    ) else {
        for row in rows.iter_mut().filter(|row| is_decoding(row)) {
            row.roofline = RowRoof::unavailable(why);
        }
        return roofline;
    };
    let roof = Roof {
        work: ceilings.work,
        bandwidth_bytes_per_s: bandwidth,
        peak_products_per_s: peak,
    };
    for row in rows.iter_mut().filter(|row| is_decoding(row)) {
        row.roofline = RowRoof::of(&roof, row);
    }
    let decoding: Vec<&EngineRow> = rows.iter().filter(|row| is_decoding(row)).collect();
    let Some(first) = decoding.iter().min_by_key(|row| row.batch) else {
        roofline.growth = Growth::unavailable("no batch was measured");
        return roofline;
    };
    let ridge = roof.ridge_batch(first.positions_per_sequence);
    roofline.ridge_batch = match ridge {
        Some(ridge) => derived(ridge, "where reading and multiplying take as long"),
        None => unavailable(
            "reading keys and values takes longer than multiplying with them: there is no ridge",
        ),
    };
    roofline.growth = Growth::below(ridge, first, &decoding);
    roofline
}

fn is_decoding(row: &EngineRow) -> bool {
    row.phase == BenchPhase::Decode
}

impl RowRoof {
    pub(super) fn unavailable(why: &str) -> RowRoof {
        RowRoof {
            tokens_per_s: unavailable(why),
            reached: unavailable(why),
            bound: None,
        }
    }

    fn of(roof: &Roof, row: &EngineRow) -> RowRoof {
        let (tokens_per_s, bound) =
            roof.tokens_per_s(f64::from(row.batch), row.positions_per_sequence);
        RowRoof {
            tokens_per_s: derived(
                tokens_per_s,
                "the roofline of what a plain read and the engine's product reach",
            ),
            reached: derived(
                row.tokens_per_s / tokens_per_s,
                "measured over the roofline",
            ),
            bound: Some(bound),
        }
    }
}

impl Growth {
    fn unavailable(why: &str) -> Growth {
        Growth {
            from_batch: None,
            to_batch: None,
            measured: unavailable(why),
            by_roofline: unavailable(why),
            ratio: unavailable(why),
            is_as_roofline_says: None,
        }
    }

    fn below(ridge: Option<f64>, first: &EngineRow, decoding: &[&EngineRow]) -> Growth {
        let is_below = |row: &&&EngineRow| ridge.is_none_or(|ridge| f64::from(row.batch) <= ridge);
        let last = decoding.iter().filter(is_below).max_by_key(|row| row.batch);
        let Some(last) = last.filter(|last| last.batch > first.batch) else {
            let ridge = ridge.map_or_else(String::new, significant);
            let why = format!(
                "throughput grows up to a batch of {ridge} by the roofline, and no two batches up to that were measured"
            );
            return Growth::unavailable(&why);
        };
        let roofs = [last, first].map(|row| row.roofline.tokens_per_s.value());
        let [Some(last_roof), Some(first_roof)] = roofs else {
            return Growth::unavailable("the roofline of a batch is not known");
        };
        let measured = last.tokens_per_s / first.tokens_per_s;
        let by_roofline = last_roof / first_roof;
        let ratio = measured / by_roofline;
        Growth {
            from_batch: Some(first.batch),
            to_batch: Some(last.batch),
            measured: derived(
                measured,
                "tokens per second of one batch over those of the other",
            ),
            by_roofline: derived(by_roofline, "the same of the roofline"),
            ratio: derived(ratio, "growth that was measured over the roofline's"),
            is_as_roofline_says: Some((ratio - 1.0).abs() <= GROWTH_TOLERANCE),
        }
    }

    /// In words; what is not known with the reason.
    pub(super) fn told(&self) -> String {
        let (Some(from), Some(to)) = (self.from_batch, self.to_batch) else {
            let why = match &self.ratio {
                Measurement::Unavailable { why } => why.as_str(),
                _ => "it has no batches",
            };
            return format!("growth up to the ridge: Unavailable: {why}");
        };
        let told = |it: &Measurement| it.value().map_or_else(|| "-".to_owned(), significant);
        let judged = match (self.is_as_roofline_says, self.ratio.value()) {
            (Some(true), _) => "as the roofline says",
            (_, Some(ratio)) if ratio < 1.0 => "less than the roofline says",
            _ => "more than the roofline says",
        };
        format!(
            "growth up to the ridge: from {from} to {to} sequences throughput grew {} times, by the roofline {} times: \
             {} of that, {judged} (within {:.0} % counts as the same)",
            told(&self.measured),
            told(&self.by_roofline),
            told(&self.ratio),
            GROWTH_TOLERANCE * 100.0
        )
    }
}

#[cfg(test)]
mod tests;
