//! Whose work an interval's energy was.
//!
//! Each interval's energy above idle is split among the requests by the work they did in it: prefill
//! tokens times c_p plus decode tokens times c_d. A request's prefill is spread evenly from its
//! sending to its first token; a decode token counts where it came out. What no request worked in
//! is unattributed. The sum of all parts is the meter's energy, to rounding.

use super::Interval;
use crate::format::count_to_f64;

/// What a request did, in offsets from T0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestWork {
    /// Its number.
    pub id: u32,
    /// When it was sent.
    pub sent_ns: u64,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// When each of its tokens came out.
    pub token_ns: Vec<u64>,
}

/// Energy per token, in joules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Per prompt token.
    pub prefill_j: f64,
    /// Per generated token.
    pub decode_j: f64,
    /// Whether they were fitted to this phase; otherwise both count the same.
    pub fitted: bool,
}

/// Where the energy of a phase went, in joules.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// Per request, in the order given.
    pub requests_j: Vec<(u32, f64)>,
    /// What the machine would have drawn without work.
    pub idle_j: f64,
    /// Above idle, in intervals in which no request worked.
    pub unattributed_j: f64,
    /// What the meter counted: the sum of all of these.
    pub meter_j: f64,
}

/// Tokens of prefill and decode that a request worked on in an interval.
fn work(request: &RequestWork, interval: &Interval) -> (f64, f64) {
    let inside = |at_ns: &&u64| (interval.from_ns..interval.to_ns).contains(*at_ns);
    // The first token comes out of the prefill.
    let decode = request.token_ns.iter().skip(1).filter(inside).count();
    let prefill = request.token_ns.first().map_or(0.0, |&first_ns| {
        let length_ns = first_ns.saturating_sub(request.sent_ns);
        let overlap_ns = first_ns
            .min(interval.to_ns)
            .saturating_sub(request.sent_ns.max(interval.from_ns));
        if length_ns == 0 {
            let is_here = inside(&&first_ns);
            return if is_here {
                f64::from(request.prompt_tokens)
            } else {
                0.0
            };
        }
        f64::from(request.prompt_tokens) * count_to_f64(overlap_ns) / count_to_f64(length_ns)
    });
    let decode = u64::try_from(decode).unwrap_or(u64::MAX);
    (prefill, count_to_f64(decode))
}

/// Fewer intervals with work than this do not carry a fit of two coefficients.
const FEWEST_INTERVALS: usize = 20;

/// Fits energy per prefill and per decode token to the intervals' energy above idle, by least
/// squares without negative values. Where that cannot be done, both count the same.
#[must_use]
pub fn calibrate(intervals: &[Interval], idle_w: f64, requests: &[RequestWork]) -> Coefficients {
    let equal = Coefficients {
        prefill_j: 1.0,
        decode_j: 1.0,
        fitted: false,
    };
    let (mut pp, mut pd, mut dd, mut pe, mut de) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut with_work = 0;
    for interval in intervals {
        let (mut prefill, mut decode) = (0.0, 0.0);
        for request in requests {
            let (p, d) = work(request, interval);
            prefill += p;
            decode += d;
        }
        if prefill + decode <= 0.0 {
            continue;
        }
        with_work += 1;
        let active_j = (interval.energy_j - idle_w * interval.seconds()).max(0.0);
        pp += prefill * prefill;
        pd += prefill * decode;
        dd += decode * decode;
        pe += prefill * active_j;
        de += decode * active_j;
    }
    let determinant = pp * dd - pd * pd;
    if with_work < FEWEST_INTERVALS || determinant <= 1e-9 * pp * dd {
        return equal;
    }
    let prefill_j = (pe * dd - de * pd) / determinant;
    let decode_j = (de * pp - pe * pd) / determinant;
    let fitted = |prefill_j: f64, decode_j: f64| Coefficients {
        prefill_j,
        decode_j,
        fitted: true,
    };
    match (prefill_j > 0.0, decode_j > 0.0) {
        (true, true) => fitted(prefill_j, decode_j),
        // On the boundary, the other coefficient is that of a fit of its own.
        (true, false) if pe > 0.0 => fitted(pe / pp, 0.0),
        (false, true) if de > 0.0 => fitted(0.0, de / dd),
        _ => equal,
    }
}

/// Splits the energy of the intervals.
#[must_use]
pub fn attribute(
    intervals: &[Interval],
    idle_w: f64,
    requests: &[RequestWork],
    coefficients: Coefficients,
) -> Attribution {
    let mut result = Attribution {
        requests_j: requests.iter().map(|request| (request.id, 0.0)).collect(),
        idle_j: 0.0,
        unattributed_j: 0.0,
        meter_j: 0.0,
    };
    for interval in intervals {
        // An interval below idle is idle as a whole: the parts must add up.
        let idle_j = (idle_w * interval.seconds()).min(interval.energy_j);
        let active_j = interval.energy_j - idle_j;
        result.meter_j += interval.energy_j;
        result.idle_j += idle_j;
        let weights: Vec<f64> = requests
            .iter()
            .map(|request| {
                let (prefill, decode) = work(request, interval);
                prefill * coefficients.prefill_j + decode * coefficients.decode_j
            })
            .collect();
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            result.unattributed_j += active_j;
            continue;
        }
        for ((_, energy_j), weight) in result.requests_j.iter_mut().zip(&weights) {
            *energy_j += active_j * weight / total;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn intervals(energy_j: impl Fn(u64) -> f64, count: u64) -> Vec<Interval> {
        (0..count)
            .map(|index| Interval {
                from_ns: index * 100 * MS,
                to_ns: (index + 1) * 100 * MS,
                energy_j: energy_j(index),
            })
            .collect()
    }

    fn request(id: u32, sent_ms: u64, prompt_tokens: u32, token_ms: &[u64]) -> RequestWork {
        RequestWork {
            id,
            sent_ns: sent_ms * MS,
            prompt_tokens,
            token_ns: token_ms.iter().map(|at_ms| at_ms * MS).collect(),
        }
    }

    const EQUAL: Coefficients = Coefficients {
        prefill_j: 1.0,
        decode_j: 1.0,
        fitted: false,
    };

    #[test]
    fn two_requests_share_an_interval_by_their_tokens() {
        // 100 ms at 30 W, of which 10 W are idle: 2 J above it, three tokens against one.
        let energy = intervals(|_| 3.0, 1);
        let requests = [
            request(1, 0, 0, &[0, 10, 20, 30]),
            request(2, 0, 0, &[0, 50]),
        ];
        let split = attribute(&energy, 10.0, &requests, EQUAL);
        assert!((split.requests_j[0].1 - 1.5).abs() < 1e-12, "{split:?}");
        assert!((split.requests_j[1].1 - 0.5).abs() < 1e-12, "{split:?}");
        assert!((split.idle_j - 1.0).abs() < 1e-12);
        assert!(split.unattributed_j.abs() < 1e-12);
    }

    #[test]
    fn energy_without_anybody_at_work_is_unattributed() {
        let split = attribute(
            &intervals(|_| 3.0, 2),
            10.0,
            &[request(1, 0, 0, &[0, 50])],
            EQUAL,
        );
        assert!((split.unattributed_j - 2.0).abs() < 1e-12, "{split:?}");
    }

    #[test]
    fn the_coefficients_of_a_made_up_server_are_found_again() {
        let requests: Vec<RequestWork> = (0..30)
            .map(|id| {
                let sent_ms = u64::from(id) * 400;
                let tokens: Vec<u64> = (0..20).map(|n| sent_ms + 150 + n * 12).collect();
                request(id, sent_ms, 20 + id * 7, &tokens)
            })
            .collect();
        let mut energy = intervals(|_| 0.0, 130);
        for interval in &mut energy {
            let used: f64 = requests
                .iter()
                .map(|request| {
                    let (prefill, decode) = work(request, interval);
                    prefill * 0.02 + decode * 0.3
                })
                .sum();
            interval.energy_j = 5.0 * interval.seconds() + used;
        }
        let found = calibrate(&energy, 5.0, &requests);
        assert!(found.fitted, "{found:?}");
        assert!((found.prefill_j - 0.02).abs() < 1e-9, "{found:?}");
        assert!((found.decode_j - 0.3).abs() < 1e-9, "{found:?}");
        let few = calibrate(&energy[..5], 5.0, &requests);
        assert!(!few.fitted, "five intervals carry no fit");
    }

    proptest! {
        /// Requests, idle and unattributed are the meter's energy, whatever happened.
        #[test]
        fn the_parts_are_the_whole(
            energies in proptest::collection::vec(0.0_f64..50.0, 1..60),
            idle_w in 0.0_f64..200.0,
            requests in proptest::collection::vec(
                (0_u64..6_000, 0_u32..500, proptest::collection::vec(0_u64..400, 0..40)), 0..12),
            prefill_j in 0.0_f64..2.0,
            decode_j in 0.0_f64..2.0,
        ) {
            let energy = intervals(|index| energies[usize::try_from(index).unwrap()],
                u64::try_from(energies.len()).unwrap());
            let requests: Vec<RequestWork> = (0..)
                .zip(requests)
                .map(|(id, (sent_ms, prompt, gaps))| {
                    let mut at_ms = sent_ms;
                    let tokens: Vec<u64> = gaps.iter().map(|gap| { at_ms += gap; at_ms }).collect();
                    request(id, sent_ms, prompt, &tokens)
                })
                .collect();
            let coefficients = Coefficients { prefill_j, decode_j, fitted: true };
            let split = attribute(&energy, idle_w, &requests, coefficients);
            let parts: f64 = split.requests_j.iter().map(|one| one.1).sum::<f64>()
                + split.idle_j + split.unattributed_j;
            prop_assert!((parts - split.meter_j).abs() <= 1e-9 * split.meter_j.max(1.0));
            prop_assert!(split.requests_j.iter().all(|one| one.1 >= 0.0));
        }
    }
}
