//! The segments of a trace whose rows stay in a mapped file: made a page at a time, where somebody
//! asks.
//!
//! One pass over the columns leaves the integral at the start of every page, as exact as any: 48
//! bytes for 1024 rows. What is asked about then needs one page, and the last few are kept.

use std::sync::{Arc, Mutex, PoisonError};

use super::segments::{Segment, Sums};
use crate::trace::MappedRows;
use crate::{Direction, EndPolicy, LinkState, LossBounds, UNLIMITED_RATE_BPS};

/// Segments of one page.
pub(super) const PAGE_SEGMENTS: usize = 1024;

/// Pages that are kept: whoever plays a trace asks about arrivals, departures and the integral,
/// and about the page after each when it comes near.
const KEPT_PAGES: usize = 4;

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
struct Head {
    start_ns: u64,
    /// What comes before the page.
    before: Sums,
}

/// Segments that follow each other, and the first one after them, if there is one.
#[derive(Debug)]
struct Page {
    number: usize,
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Source {
    rows: MappedRows,
    direction: Direction,
    heads: Vec<Head>,
    page_segments: usize,
    /// Rows, and one more where every limit is lifted after the end.
    segments: usize,
    duration_ns: u64,
    end: EndPolicy,
    settled_ns: u128,
}

/// The segments of a mapped trace. Clones share what was found in the first pass.
#[derive(Debug)]
pub(super) struct Pages {
    source: Arc<Source>,
    /// The last pages asked for, the latest first.
    kept: Mutex<Vec<Arc<Page>>>,
}

impl Clone for Pages {
    fn clone(&self) -> Pages {
        Pages {
            source: Arc::clone(&self.source),
            kept: Mutex::default(),
        }
    }
}

/// What one pass over the rows finds.
pub(super) struct Found {
    pub(super) pages: Pages,
    /// Integral of one whole period, in bits x 10^9.
    pub(super) period: u128,
    pub(super) longest_delay_ns: u64,
    pub(super) longest_jitter_ns: u64,
    pub(super) peak_bps: u64,
    pub(super) losses: LossBounds,
}

impl Pages {
    pub(super) fn survey(
        rows: &MappedRows,
        direction: Direction,
        (duration_ns, end): (u64, EndPolicy),
        page_segments: usize,
    ) -> Found {
        let mut source = Source {
            rows: rows.clone(),
            direction,
            heads: Vec::new(),
            page_segments,
            segments: rows.len() + usize::from(end == EndPolicy::Clear),
            duration_ns,
            end,
            settled_ns: 0,
        };
        let mut sums = Sums::default();
        let mut heads = Vec::with_capacity(source.segments / page_segments + 1);
        let (mut longest_delay_ns, mut longest_jitter_ns, mut peak_bps) = (0, 0, 0);
        let (mut period, mut losses) = (0, LossBounds::default());
        for index in 0..source.segments {
            if index.is_multiple_of(page_segments) {
                heads.push(Head {
                    start_ns: source.span(index).0,
                    before: sums,
                });
            }
            let segment = source.next(index, &mut sums);
            losses.add(&segment.state);
            longest_delay_ns = longest_delay_ns.max(segment.state.delay_ns);
            longest_jitter_ns = longest_jitter_ns.max(u64::from(segment.state.jitter_ns));
            if segment.state.rate_bps != UNLIMITED_RATE_BPS {
                peak_bps = peak_bps.max(segment.state.rate_bps);
            }
            if index + 1 == rows.len() {
                period = sums.integral;
            }
        }
        source.heads = heads;
        source.settled_ns = sums.settled_ns;
        Found {
            pages: Pages {
                source: Arc::new(source),
                kept: Mutex::default(),
            },
            period,
            longest_delay_ns,
            longest_jitter_ns,
            peak_bps,
            losses,
        }
    }

    /// Segments that are in memory: of all pages kept.
    #[cfg(test)]
    pub(super) fn resident(&self) -> usize {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|page| page.segments.len()).sum()
    }

    fn page(&self, number: usize) -> Arc<Page> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = kept.iter().position(|page| page.number == number) {
            // The latest first: what is asked for alternately stays.
            kept[..=place].rotate_right(1);
            return Arc::clone(&kept[0]);
        }
        let page = Arc::new(self.source.page(number));
        kept.truncate(KEPT_PAGES - 1);
        kept.insert(0, Arc::clone(&page));
        page
    }

    /// The last page of which this holds; it holds of the first ones.
    fn last_page(&self, holds: impl Fn(&Head) -> bool) -> Arc<Page> {
        let heads = &self.source.heads;
        self.page(heads.partition_point(holds).saturating_sub(1))
    }

    /// As [`super::segments::Segments::at`].
    pub(super) fn at(&self, t_ns: u64) -> (Segment, Option<u64>) {
        let page = self.last_page(|head| head.start_ns <= t_ns);
        let segments = &page.segments;
        let after = segments.partition_point(|segment| segment.start_ns <= t_ns);
        let next_ns = segments.get(after).map(|next| next.start_ns);
        (segments[after.saturating_sub(1)], next_ns)
    }

    /// As [`super::segments::Segments::short_of`].
    pub(super) fn short_of(&self, target: u128) -> Segment {
        let page = self.last_page(|head| head.before.integral < target);
        let short = |segment: &Segment| segment.integral < target;
        let after = page.segments.partition_point(short);
        page.segments[after.saturating_sub(1)]
    }

    /// As [`super::segments::Segments::under_way`].
    pub(super) fn under_way(&self, t_ns: u128) -> Segment {
        let page = self.last_page(|head| head.before.settled_ns <= t_ns);
        let arrived = |segment: &Segment| segment.settled_ns <= t_ns;
        let index = page.segments.partition_point(arrived);
        page.segments[index.min(page.segments.len() - 1)]
    }

    pub(super) fn settled_ns(&self) -> u128 {
        self.source.settled_ns
    }
}

impl Source {
    /// From when to when a segment holds.
    fn span(&self, index: usize) -> (u64, u64) {
        let start = |index| self.rows.t_ns(index).unwrap_or(self.duration_ns);
        (start(index), start(index + 1))
    }

    fn next(&self, index: usize, sums: &mut Sums) -> Segment {
        let state = self.rows.state(index, self.direction);
        let is_last = index + 1 == self.segments;
        let is_endless = is_last && self.end != EndPolicy::Loop;
        let state = state.unwrap_or(LinkState::TRANSPARENT);
        sums.next(self.span(index), state, is_endless)
    }

    fn page(&self, number: usize) -> Page {
        let first = number * self.page_segments;
        let last = (first + self.page_segments + 1).min(self.segments);
        let mut sums = self.heads[number].before;
        Page {
            number,
            segments: (first..last)
                .map(|index| self.next(index, &mut sums))
                .collect(),
        }
    }
}
