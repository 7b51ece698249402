//! Links on CPUs that have other work.

use std::thread;

use hexloop_topologies::plan::DatapathChoice;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::super::load::Burners;
use super::super::scene::{SECOND, Shaped, Wanted, steps};
use super::super::{BenchError, Measured, Scale, Seen};
use super::{Ask, exact};
use crate::link::scheduling;
use crate::sys::{capability, realtime};

/// Threads that burn CPU time on each CPU: the load of the target, 8 on two.
const BURNERS_PER_CPU: usize = 4;

/// A queue so long that a sender that is held up does not drain it: 300 ms at the mean rate.
const QUEUE_PACKETS: u64 = 3000;

/// The exactness of real-time threads while others burn CPU time.
pub(super) fn exact_under_load(scale: Scale) -> Result<Measured, BenchError> {
    let count = burners();
    let burners = Burners::start(count)?;
    let mut measured = exact::measure(
        DatapathChoice::Relay,
        &exact::four_rates(),
        QUEUE_PACKETS,
        scale,
    )?;
    drop(burners);
    if !measured.datapath.contains("SCHED_FIFO") {
        return Err(BenchError::Unavailable {
            why: format!("no real-time threads here: {}", measured.datapath),
        });
    }
    measured.scale = format!("{} under {count} burning threads", measured.scale);
    Ok(measured)
}

/// As many threads that burn CPU time as load every CPU that may be used.
fn burners() -> usize {
    BURNERS_PER_CPU * scheduling::pin(None).len().max(1)
}

/// Whether the verdict of a link without real-time rights is what the receiver alone would say.
pub(super) fn verdicts(ask: &Ask<'_>) -> Result<Measured, BenchError> {
    let count = burners();
    let runs = ask.scale.pick(4, 20);
    // As long as exactness is judged over everywhere, which is about half of the whole bench's time.
    let span_ns = ask.scale.pick(SECOND, 10 * SECOND);
    let wanted = Wanted::new(
        DatapathChoice::Relay,
        steps(&exact::four_rates())?,
        QUEUE_PACKETS,
    );
    let mut shaped = without_real_time(|| Shaped::new(&wanted))?;
    let (mut agreed, mut valid) = (0_u32, 0_u32);
    let mut notes = Vec::new();
    for number in 0..runs {
        // Idle and loaded in turn, so that both verdicts can occur.
        let burners = (number % 2 == 1)
            .then(|| Burners::start(count))
            .transpose()?;
        let run = exact::run(&mut shaped, &wanted.curve(), span_ns)?;
        drop(burners);
        let lateness = run
            .report
            .lateness
            .iter()
            .find(|(direction, _)| *direction == hexloop_traces::Direction::Up)
            .map(|(_, lateness)| lateness);
        let Some(lateness) = lateness else {
            return Err(BenchError::Spoilt {
                why: "the link keeps no books on its lateness".to_owned(),
            });
        };
        let believed = (ask.believe)(&run.windows, lateness);
        let late_p99_ns = p99(&run.found.lateness_ns);
        let rate_error = (run.found.delivered_over_trace - 1.0).abs();
        let seen = late_p99_ns <= ask.most_late_ns && rate_error <= ask.largest_rate_error;
        agreed += u32::from(believed == seen);
        valid += u32::from(believed);
        if believed != seen {
            notes.push(format!(
                "run {number}: the verdict says {believed}, the receiver saw packets {:.0} us late \
                 (p99) and a rate error of {:.3} %",
                late_p99_ns / 1e3,
                100.0 * rate_error
            ));
            notes.extend(exact::complaint(run.paced, QUEUE_PACKETS));
        }
    }
    let mut measured = Measured {
        datapath: shaped.datapath(),
        scale: format!(
            "{runs} runs of {} s, every other one under {count} burning threads",
            span_ns / SECOND
        ),
        notes,
        ..Measured::default()
    };
    let rarer = valid.min(runs - valid);
    measured.value("disagreements", "runs", f64::from(runs - agreed));
    measured.value("rarer_verdict", "runs", f64::from(rarer));
    measured.add(
        "agreement",
        "",
        Seen::Ratio(vec![[f64::from(agreed), f64::from(runs)]]),
    );
    measured.value("believed", "runs", f64::from(valid));
    Ok(measured)
}

fn p99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * 99).div_ceil(100);
    // Nothing that arrived is never in time.
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::INFINITY)
}

/// Does something on a thread that may not use real-time scheduling, nor may those it starts.
fn without_real_time<T: Send>(
    work: impl FnOnce() -> Result<T, BenchError> + Send,
) -> Result<T, BenchError> {
    let unavailable = |why: String| BenchError::Unavailable { why };
    let (soft, hard) = getrlimit(Resource::RLIMIT_RTPRIO).map_err(|error| {
        unavailable(format!(
            "the limit on real-time priority is unknown: {error}"
        ))
    })?;
    let limit = |soft| setrlimit(Resource::RLIMIT_RTPRIO, soft, hard);
    limit(0)
        .map_err(|error| unavailable(format!("real-time priority cannot be forbidden: {error}")))?;
    let done = thread::scope(|scope| {
        let errand = || {
            capability::give_up_sys_nice().map_err(BenchError::socket(
                "give up the right to real-time scheduling",
            ))?;
            if realtime::become_fifo(1).is_ok() {
                let why = "a thread without the right to real-time scheduling got it".to_owned();
                return Err(BenchError::Unavailable { why });
            }
            work()
        };
        let thread = thread::Builder::new().name("hx-ordinary".to_owned());
        let thread = thread
            .spawn_scoped(scope, errand)
            .map_err(BenchError::socket(
                "start a thread without real-time rights",
            ))?;
        thread
            .join()
            .map_err(|_panic| BenchError::panicked("hx-ordinary"))?
    });
    // Raising the soft limit back to the hard one is always allowed.
    let _ = limit(soft);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_is_by_nearest_rank_and_nothing_is_never_in_time() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((p99(&values) - 99.0).abs() < 1e-9);
        assert!(p99(&[]).is_infinite());
    }
}
