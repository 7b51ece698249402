//! What each request of a phase used: its share of the meters' intervals.

use hexloop_proto::IdlePower;

use super::{Attribution, Coefficients, Interval, RequestWork, attribute, calibrate, intervals};
use crate::format::count_to_f64;
use crate::results::{PhaseResults, Results};

/// Length of the intervals in which energy is split among requests.
pub(crate) const INTERVAL_NS: u64 = 100_000_000;

/// The energy of a phase, by request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RequestEnergies {
    /// Who used what.
    pub(crate) split: Attribution,
    /// How work was weighted.
    pub(crate) coefficients: Coefficients,
    /// What is open of each request's energy, in joules, in the same order: the power above idle of
    /// one refresh of the slowest counted meter, which cannot be told to lie within the request or
    /// beside it, and the uncertainty of idle power over the time of the request. `None` where the
    /// refresh is not known.
    pub(crate) uncertainty_j: Vec<Option<f64>>,
}

/// The idle power that is subtracted, and its uncertainty, in watts.
pub(crate) type Idle = (f64, f64);

/// Mean of the known idle powers and what is open of it: half of their difference and what their
/// windows leave open.
#[must_use]
pub(crate) fn idle_power(known: &[(f64, f64)]) -> Option<Idle> {
    match known {
        [] => None,
        [only] => Some(*only),
        [(first, open), (last, other), ..] => {
            let spread = (first - last).abs() / 2.0 + open.max(*other);
            Some((f64::midpoint(*first, *last), spread))
        }
    }
}

/// Idle power before and after the phases, where it was measured: watts, and what is open of them.
pub(crate) fn known_idle<'a>(spans: impl IntoIterator<Item = &'a IdlePower>) -> Vec<(f64, f64)> {
    let known = spans.into_iter().filter_map(|idle| {
        let watts = idle.power_w.value()?;
        Some((watts, idle.uncertainty_w.unwrap_or(0.0)))
    });
    known.collect()
}

/// Splits the energy of a phase.
///
/// # Errors
/// Why it cannot be split, in words.
pub(crate) fn request_energies(
    results: &Results,
    phase: &PhaseResults,
    idle: Option<Idle>,
) -> Result<RequestEnergies, &'static str> {
    let channels = results.agent.as_ref().map(|agent| agent.meters.as_slice());
    let channels = channels.unwrap_or_default();
    if !channels.iter().any(|channel| channel.counted) {
        return Err("no meter can be summed up");
    }
    let (idle_w, idle_open_w) = idle.ok_or("the idle power was not measured")?;
    let mut spans: Vec<Interval> = intervals(channels, &phase.meters, INTERVAL_NS)
        .ok_or("a counted channel has no readings throughout the phase")?;
    if let Some(end) = &phase.end {
        // Readings go on a little longer, for what counters tell late.
        spans.retain(|span| span.to_ns <= end.duration_ns);
    }
    let work: Vec<RequestWork> = phase
        .requests
        .values()
        .filter(|record| !record.token_ns.is_empty())
        .map(|record| RequestWork {
            id: record.id,
            sent_ns: record.sent_ns,
            prompt_tokens: record.prompt_tokens,
            token_ns: record.token_ns.clone(),
        })
        .collect();
    let coefficients = calibrate(&spans, idle_w, &work);
    let split = attribute(&spans, idle_w, &work, coefficients);
    let refresh_s = slowest_refresh_s(results, phase);
    let length_s: f64 = spans.iter().map(Interval::seconds).sum();
    let active_w = (split.meter_j - split.idle_j) / length_s.max(1e-9);
    let open = |request: &RequestWork| {
        let last_ns = request.token_ns.last().copied().unwrap_or_default();
        let worked_s = count_to_f64(last_ns.saturating_sub(request.sent_ns)) / 1e9;
        Some(active_w * refresh_s? + idle_open_w * worked_s)
    };
    Ok(RequestEnergies {
        uncertainty_j: work.iter().map(open).collect(),
        split,
        coefficients,
    })
}

/// How often the slowest counted channel was renewed, in seconds.
fn slowest_refresh_s(results: &Results, phase: &PhaseResults) -> Option<f64> {
    let channels = &results.agent.as_ref()?.meters;
    let energies = &phase.end.as_ref()?.energy_by_channel;
    let counted = channels.iter().zip(energies);
    let periods = counted
        .filter(|(channel, _)| channel.counted)
        .map(|(_, energy)| energy.refresh_period_ns);
    let periods: Option<Vec<u64>> = periods.collect();
    periods?.into_iter().max().map(|ns| count_to_f64(ns) / 1e9)
}
