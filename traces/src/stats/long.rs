//! What a trace of any length amounts to: rows come one by one, and memory does not grow with
//! their number.
//!
//! The rows are read twice, as crossings are counted of levels that only the whole trace tells.

mod crossings;
mod distribution;
mod grid;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::format::{RowSource, RowsHash, Spans};
use crate::{Direction, TraceError, TraceMetadata, TraceRow, UNLIMITED_RATE_BPS};
use crossings::Crossings;
pub use distribution::Distribution;
use distribution::share;
use grid::Grid;

/// The lags at which the autocorrelation of the rate is told, in ns.
const LAGS_NS: [u64; 3] = [1_000_000_000, 5_000_000_000, 20_000_000_000];

/// The most outages that are listed one by one.
const MOST_LISTED: usize = 1000;

/// The speed of light, in m/s.
const LIGHT_M_PER_S: f64 = 299_792_458.0;

/// A trace in numbers. Everything is weighted by time unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LongStatistics {
    /// Rows.
    pub rows: u64,
    /// Length.
    pub duration_ns: u64,
    /// SHA-256 of the rows, the same in every file format.
    pub rows_sha256: String,
    /// Downlink and uplink.
    pub directions: [DirectionStatistics; 2],
    /// SINR, where the rows tell it.
    pub sinr: Option<SinrStatistics>,
    /// Changes of the serving cell, where the rows tell it.
    pub cell_changes: Option<u64>,
    /// How often each event begins.
    pub events: BTreeMap<String, u64>,
    /// For how long the channel stays much the same.
    pub coherence: Coherence,
    /// The times at which neither direction carries anything, at most a thousand of them.
    pub outages_ns: Vec<[u64; 2]>,
}

/// One direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DirectionStatistics {
    /// Which.
    pub direction: Direction,
    /// Rates in bit/s; unlimited is 2^64 - 1.
    pub rate_bps: Quantiles,
    /// Mean rate of the time in which it is limited, in bit/s.
    pub rate_mean_bps: f64,
    /// Standard deviation over mean of the rate, in the time in which it is limited.
    pub rate_variation: Option<f64>,
    /// Correlation of the rate with itself at 1, 5 and 20 s; none where the trace is too short,
    /// the rate is unlimited or does not change.
    pub rate_autocorrelation: [Lag; 3],
    /// Share of the time in which the rate is unlimited.
    pub unlimited_share: f64,
    /// Bytes that the link can carry in the time in which it is limited.
    pub bytes: u64,
    /// Delays in ns.
    pub delay_ns: Quantiles,
    /// Mean loss as a share.
    pub loss_mean: f64,
    /// Share of the time without any rate.
    pub outage_share: f64,
    /// How long outages last.
    pub outage_runs: Runs,
    /// How often the rate rises through its median.
    pub median_crossings: Crossing,
    /// How often the rate rises through a tenth of its median.
    pub fade_crossings: Crossing,
}

/// A distribution in a few numbers: each is the smallest value that so much of the time is at or
/// below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// The smallest.
    pub min: u64,
    /// 5 %.
    pub p5: u64,
    /// The median.
    pub p50: u64,
    /// 95 %.
    pub p95: u64,
    /// 99 %.
    pub p99: u64,
    /// The largest.
    pub max: u64,
    /// Whether they are exact; else the middle ones are rounded down by less than 0.1 %.
    pub exact: bool,
}

/// A correlation at a distance in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lag {
    /// The distance.
    pub lag_ns: u64,
    /// From -1 to 1.
    pub correlation: Option<f64>,
}

/// Stretches of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// The median length.
    pub median_ns: u64,
    /// 90 % are at most so long.
    pub p90_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// How often something rises through a level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Crossing {
    /// The level.
    pub level: i64,
    /// Upward crossings per second.
    pub per_second: f64,
}

/// SINR in hundredths of a decibel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SinrStatistics {
    /// The smallest.
    pub min_cdb: i64,
    /// 5 %.
    pub p5_cdb: i64,
    /// The median.
    pub p50_cdb: i64,
    /// 95 %.
    pub p95_cdb: i64,
    /// The largest.
    pub max_cdb: i64,
    /// How often it rises through its median.
    pub median_crossings: Crossing,
}

/// For how long the channel stays much the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coherence {
    /// The time, in ns.
    pub time_ns: Option<u64>,
    /// How it was found, or why it was not.
    pub how: String,
}

/// Reads rows twice and tells what they amount to. `open` is called for each reading.
///
/// # Errors
/// The rows cannot be read or make no trace.
pub fn long_statistics<S: RowSource>(
    mut open: impl FnMut() -> Result<S, TraceError>,
) -> Result<LongStatistics, TraceError> {
    let mut spans = Spans::new(open()?);
    let metadata = spans.metadata().clone();
    let mut first = FirstReading::new(&metadata);
    while let Some((row, until_ns)) = spans.next_span()? {
        first.add(&row, until_ns);
    }
    if first.rows == 0 {
        return Err(TraceError::Empty);
    }
    let medians = first.links.each_ref().map(|link| link.rates.at(500_000));
    let mut rates = medians.map(|median| {
        let level = i64::try_from(median).unwrap_or(i64::MAX);
        [Crossings::new(level), Crossings::new((level / 10).max(1))]
    });
    let mut sinr = Crossings::new(cdb(first.sinr.at(500_000)));
    let mut spans = Spans::new(open()?);
    while let Some((row, _)) = spans.next_span()? {
        for (crossings, direction) in rates.iter_mut().zip(Direction::BOTH) {
            let rate = i64::try_from(row.direction(direction).rate_bps).unwrap_or(i64::MAX);
            crossings.iter_mut().for_each(|level| level.add(rate));
        }
        if let Some(sinr_cdb) = row.diagnostics.sinr_cdb {
            sinr.add(sinr_cdb.into());
        }
    }
    Ok(first.finish(&metadata, &rates, &sinr))
}

/// SINR as a distribution's whole number: shifted, as those are not negative.
const SINR_SHIFT: i64 = 1 << 31;

fn cdb(shifted: u64) -> i64 {
    i64::try_from(shifted).unwrap_or(SINR_SHIFT) - SINR_SHIFT
}

/// One direction while it is read.
struct Link {
    rates: Distribution,
    delays: Distribution,
    runs: Distribution,
    outage_since_ns: Option<u64>,
    grid: Grid,
    limited_ns: u64,
    area: u128,
    /// Sum of rate squared x time, in (bit/s)^2 ns.
    squares: f64,
    lost: u128,
}

struct FirstReading {
    rows: u64,
    duration_ns: u64,
    hash: RowsHash,
    links: [Link; 2],
    sinr: Distribution,
    sinr_grid: Grid,
    cell: Option<u32>,
    cell_changes: Option<u64>,
    events: BTreeMap<String, u64>,
    outages_ns: Vec<[u64; 2]>,
}

impl FirstReading {
    fn new(metadata: &TraceMetadata) -> FirstReading {
        let duration_ns = metadata.duration_ns;
        let link = || Link {
            rates: Distribution::new(),
            delays: Distribution::new(),
            runs: Distribution::new(),
            outage_since_ns: None,
            grid: Grid::new(duration_ns),
            limited_ns: 0,
            area: 0,
            squares: 0.0,
            lost: 0,
        };
        FirstReading {
            rows: 0,
            duration_ns,
            hash: RowsHash::new(),
            links: [link(), link()],
            sinr: Distribution::new(),
            sinr_grid: Grid::new(duration_ns),
            cell: None,
            cell_changes: None,
            events: BTreeMap::new(),
            outages_ns: Vec::new(),
        }
    }

    fn add(&mut self, row: &TraceRow, until_ns: u64) {
        self.rows += 1;
        self.hash.add(row);
        for (link, direction) in self.links.iter_mut().zip(Direction::BOTH) {
            link.add(row, direction, until_ns);
        }
        let known = &row.diagnostics;
        if let Some(sinr_cdb) = known.sinr_cdb {
            let shifted = u64::try_from(i64::from(sinr_cdb) + SINR_SHIFT).unwrap_or(0);
            self.sinr.add(shifted, until_ns - row.t_ns);
            self.sinr_grid.add(row.t_ns, until_ns, f64::from(sinr_cdb));
        }
        if let Some(cell) = known.cell_id {
            let changed = self.cell.is_some_and(|before| before != cell);
            *self.cell_changes.get_or_insert(0) += u64::from(changed);
            self.cell = Some(cell);
        }
        if let Some(event) = &known.event
            && (self.events.len() < MOST_LISTED || self.events.contains_key(event))
        {
            *self.events.entry(event.clone()).or_default() += 1;
        }
        if row.down.rate_bps == 0 && row.up.rate_bps == 0 {
            let listed = self.outages_ns.len();
            match self.outages_ns.last_mut() {
                Some(last) if last[1] == row.t_ns => last[1] = until_ns,
                _ if listed < MOST_LISTED => self.outages_ns.push([row.t_ns, until_ns]),
                _ => {}
            }
        }
    }

    fn finish(
        mut self,
        metadata: &TraceMetadata,
        crossings: &[[Crossings; 2]; 2],
        sinr_crossings: &Crossings,
    ) -> LongStatistics {
        let duration_ns = self.duration_ns;
        let coherence = coherence(metadata, &self.sinr_grid);
        let sinr = (!self.sinr.is_empty()).then(|| {
            let at = |ppm| cdb(self.sinr.at(ppm));
            SinrStatistics {
                min_cdb: at(0),
                p5_cdb: at(50_000),
                p50_cdb: at(500_000),
                p95_cdb: at(950_000),
                max_cdb: at(1_000_000),
                median_crossings: sinr_crossings.finish(duration_ns),
            }
        });
        let directions = Direction::BOTH.map(|direction| {
            let index = usize::from(direction == Direction::Up);
            self.links[index].finish(direction, duration_ns, &crossings[index])
        });
        LongStatistics {
            rows: self.rows,
            duration_ns,
            rows_sha256: self.hash.finish(),
            directions,
            sinr,
            cell_changes: self.cell_changes,
            events: self.events,
            coherence,
            outages_ns: self.outages_ns,
        }
    }
}

impl Link {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of squares for a deviation"
    )]
    fn add(&mut self, row: &TraceRow, direction: Direction, until_ns: u64) {
        let state = row.direction(direction);
        let ns = until_ns - row.t_ns;
        self.rates.add(state.rate_bps, ns);
        self.delays.add(state.delay_ns, ns);
        self.lost += u128::from(state.loss_ppb) * u128::from(ns);
        if state.rate_bps == UNLIMITED_RATE_BPS {
            self.grid.forget();
        } else {
            self.limited_ns += ns;
            self.area += u128::from(state.rate_bps) * u128::from(ns);
            let rate = state.rate_bps as f64;
            self.squares += rate * rate * ns as f64;
            self.grid.add(row.t_ns, until_ns, rate);
        }
        match (state.rate_bps, self.outage_since_ns) {
            (0, None) => self.outage_since_ns = Some(row.t_ns),
            (0, Some(_)) => {}
            (_, Some(since_ns)) => {
                self.runs.add(row.t_ns - since_ns, 1);
                self.outage_since_ns = None;
            }
            (_, None) => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn finish(
        &mut self,
        direction: Direction,
        duration_ns: u64,
        crossings: &[Crossings; 2],
    ) -> DirectionStatistics {
        if let Some(since_ns) = self.outage_since_ns.take() {
            self.runs.add(duration_ns - since_ns, 1);
        }
        let limited_ns = self.limited_ns as f64;
        let mean = if self.limited_ns == 0 {
            0.0
        } else {
            self.area as f64 / limited_ns
        };
        let variance = self.squares / limited_ns - mean * mean;
        let out_ns = self.rates.weight_of(0);
        let [median, fade] = crossings;
        DirectionStatistics {
            direction,
            rate_bps: self.rates.quantiles(),
            rate_mean_bps: mean,
            rate_variation: (mean > 0.0).then(|| libm::sqrt(variance.max(0.0)) / mean),
            rate_autocorrelation: LAGS_NS.map(|lag_ns| Lag {
                lag_ns,
                correlation: self.grid.correlation(lag_ns),
            }),
            unlimited_share: share(duration_ns - self.limited_ns, duration_ns),
            bytes: u64::try_from(self.area / 8_000_000_000).unwrap_or(u64::MAX),
            delay_ns: self.delays.quantiles(),
            loss_mean: self.lost as f64 / duration_ns as f64 / 1e9,
            outage_share: share(out_ns, duration_ns),
            outage_runs: Runs {
                count: self.runs.weight(),
                median_ns: self.runs.at(500_000),
                p90_ns: self.runs.at(900_000),
                max_ns: self.runs.at(1_000_000),
            },
            median_crossings: median.finish(duration_ns),
            fade_crossings: fade.finish(duration_ns),
        }
    }
}

/// 0.423 / f_d for a known carrier and speed (Rappaport, Wireless Communications, eq. 5.40.c),
/// else the first distance in time at which the SINR's autocorrelation is below one half.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a time of less than 2^64 ns"
)]
fn coherence(metadata: &TraceMetadata, sinr: &Grid) -> Coherence {
    let radio = metadata.provenance.radio.as_ref();
    let moving = radio.and_then(|radio| Some((radio.carrier_hz, radio.speed_mm_s?)));
    if let Some((carrier_hz, speed_mm_s)) = moving.filter(|&(hz, speed)| hz > 0 && speed > 0) {
        let doppler_hz = speed_mm_s as f64 / 1e3 * carrier_hz as f64 / LIGHT_M_PER_S;
        return Coherence {
            time_ns: Some(libm::round(0.423 / doppler_hz * 1e9) as u64),
            how: format!("0.423 / {doppler_hz:.1} Hz, from the metadata's carrier and speed"),
        };
    }
    match sinr.decay_ns() {
        Some(ns) => Coherence {
            time_ns: Some(ns),
            how: format!(
                "the SINR's autocorrelation falls below 0.5, measured in steps of {} ns",
                sinr.step_ns()
            ),
        },
        None => Coherence {
            time_ns: None,
            how: "the metadata tells no carrier and speed, and the rows no SINR that changes \
                  enough"
                .to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
