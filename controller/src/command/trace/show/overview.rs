//! A trace in as many points as a chart has: the smallest, the largest and the mean of every
//! quantity in each. Rows come one by one, so that a trace of any length can be drawn.

use hexloop_traces::format::{RowSource, Spans};
use hexloop_traces::{Direction, TraceError, TraceMetadata, TraceRow, UNLIMITED_RATE_BPS};

use crate::format::{count_to_f64, length, ns_to_s};

/// As many events are kept.
const MOST_EVENTS: usize = 200;

/// What a point shows of a quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) smallest: f64,
    pub(super) largest: f64,
    sum: f64,
    weight: f64,
}

impl Range {
    /// The mean, weighted by time.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.weight
    }

    fn add(range: &mut Option<Range>, value: f64, weight: f64) {
        let range = range.get_or_insert(Range {
            smallest: value,
            largest: value,
            sum: 0.0,
            weight: 0.0,
        });
        range.smallest = range.smallest.min(value);
        range.largest = range.largest.max(value);
        range.sum += value * weight;
        range.weight += weight;
    }
}

/// One quantity over the trace: a range in every point that knows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// What it is, such as `rate down`.
    pub(super) name: &'static str,
    /// The unit of its values, such as `Mbit/s`.
    pub(super) unit: &'static str,
    /// 0 downlink, 1 uplink, 2 neither.
    pub(super) kind: usize,
    pub(super) points: Vec<Option<Range>>,
}

impl Series {
    /// The smallest and the largest value; `None` where nothing is known.
    pub(super) fn bounds(&self) -> Option<(f64, f64)> {
        let known = self.points.iter().flatten();
        known.fold(None, |bounds, range| {
            let (low, high) = bounds.unwrap_or((range.smallest, range.largest));
            Some((low.min(range.smallest), high.max(range.largest)))
        })
    }
}

/// A trace in points.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overview {
    pub(super) metadata: TraceMetadata,
    pub(super) rows: u64,
    /// Rate down, rate up, delay down, delay up, loss down, loss up, SINR.
    pub(super) series: [Series; 7],
    /// Points in which a direction carries nothing for a while.
    pub(super) outages: [Vec<bool>; 2],
    /// When events begin, in s, and their names; the first of them.
    pub(super) events: Vec<(f64, String)>,
    pub(super) event_count: u64,
}

const LOSSES: std::ops::Range<usize> = 4..6;
const SINR: usize = 6;

/// Below this share the axis is in parts per million.
const SMALL_LOSS_PERCENT: f64 = 0.05;
const PPM_PER_PERCENT: f64 = 1e4;

impl Overview {
    /// Reads the rows into so many points.
    pub(super) fn of(source: impl RowSource, points: usize) -> Result<Overview, TraceError> {
        let mut spans = Spans::new(source);
        let metadata = spans.metadata().clone();
        let series = |name, unit, kind| Series {
            name,
            unit,
            kind,
            points: vec![None; points],
        };
        let mut overview = Overview {
            rows: 0,
            series: [
                series("rate down", "Mbit/s", 0),
                series("rate up", "Mbit/s", 1),
                series("delay down", "ms", 0),
                series("delay up", "ms", 1),
                series("loss down", "%", 0),
                series("loss up", "%", 1),
                series("SINR", "dB", 2),
            ],
            outages: [vec![false; points], vec![false; points]],
            events: Vec::new(),
            event_count: 0,
            metadata,
        };
        let duration_ns = overview.metadata.duration_ns;
        while let Some((row, until_ns)) = spans.next_span()? {
            overview.add(&row, until_ns, points, duration_ns);
        }
        if overview.rows == 0 {
            return Err(TraceError::Empty);
        }
        overview.show_small_losses();
        Ok(overview)
    }

    fn add(&mut self, row: &TraceRow, until_ns: u64, points: usize, duration_ns: u64) {
        self.rows += 1;
        let point = |t_ns: u64| {
            let wide = u128::from(t_ns) * u128::from(length(&self.outages[0]));
            usize::try_from(wide / u128::from(duration_ns)).unwrap_or(0)
        };
        let (first, last) = (point(row.t_ns), point(until_ns - 1).min(points - 1));
        let weight = count_to_f64(until_ns - row.t_ns)
            / count_to_f64(length(&self.outages[0][first..=last]));
        for index in first..=last {
            for (side, direction) in Direction::BOTH.into_iter().enumerate() {
                let state = row.direction(direction);
                if state.rate_bps != UNLIMITED_RATE_BPS {
                    let rate = count_to_f64(state.rate_bps) / 1e6;
                    Range::add(&mut self.series[side].points[index], rate, weight);
                }
                self.outages[side][index] |= state.rate_bps == 0;
                let delay = count_to_f64(state.delay_ns) / 1e6;
                Range::add(&mut self.series[2 + side].points[index], delay, weight);
                let loss = f64::from(state.loss_ppb) / 1e7;
                Range::add(&mut self.series[4 + side].points[index], loss, weight);
            }
            if let Some(sinr_cdb) = row.diagnostics.sinr_cdb {
                let sinr = f64::from(sinr_cdb) / 100.0;
                Range::add(&mut self.series[SINR].points[index], sinr, weight);
            }
        }
        if let Some(event) = &row.diagnostics.event {
            self.event_count += 1;
            if self.events.len() < MOST_EVENTS {
                self.events.push((ns_to_s(row.t_ns), event.clone()));
            }
        }
    }

    /// Losses that would be 0.00 % are told in parts per million.
    fn show_small_losses(&mut self) {
        let losses = &mut self.series[LOSSES];
        let highest = losses.iter().filter_map(|loss| Some(loss.bounds()?.1));
        if highest.fold(0.0, f64::max) >= SMALL_LOSS_PERCENT {
            return;
        }
        for loss in losses {
            loss.unit = "ppm";
            for range in loss.points.iter_mut().flatten() {
                for value in [&mut range.smallest, &mut range.largest, &mut range.sum] {
                    *value *= PPM_PER_PERCENT;
                }
            }
        }
    }

    /// The series that say something, those of one quantity together: no loss and no SINR that
    /// is not there, and one rate or delay where both directions have the same.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let [
            rate_down,
            rate_up,
            delay_down,
            delay_up,
            loss_down,
            loss_up,
            sinr,
        ] = &self.series;
        let known = |series: &&Series| series.bounds().is_some();
        let some = |series: &&Series| series.bounds().is_some_and(|(_, high)| high > 0.0);
        let mut groups = Vec::new();
        for [down, up] in [[rate_down, rate_up], [delay_down, delay_up]] {
            let alike = down.points == up.points;
            let series = if alike { vec![down] } else { vec![down, up] };
            groups.push(Group {
                series: series.into_iter().filter(known).collect(),
                alike,
            });
        }
        let apart = |series| Group {
            series,
            alike: false,
        };
        groups.push(apart(
            [loss_down, loss_up].into_iter().filter(some).collect(),
        ));
        groups.push(apart([sinr].into_iter().filter(known).collect()));
        groups.retain(|group| !group.series.is_empty());
        groups
    }
}

/// What is drawn in one chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group<'a> {
    pub(super) series: Vec<&'a Series>,
    /// The one series is that of both directions.
    pub(super) alike: bool,
}
