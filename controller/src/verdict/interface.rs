//! Whether a real interface follows its trace: what its holder has seen, by the rules for links of runs.

use hexloop_agent::hold::{Followed, SteeredDirection};

use super::judge::{Findings, Quantity};
use super::link::{lateness, rate};
use super::{ReasonCode, StatedBounds, Verdict};
use crate::format::ns_to_s;

/// The verdict; `None` where too little has happened to judge anything by.
///
/// The bytes are those that the kernel's classes have counted, on this side of the wire: nobody listens at
/// the other end, and no delay is measured.
pub(crate) fn judge_interface(
    interface: &str,
    followed: &Followed,
    stated: &StatedBounds,
) -> Option<Verdict> {
    let mut findings = Findings::default();
    let what = Quantity {
        code: ReasonCode::ShaperLateness,
        subject: interface,
        quantity: "lateness p99 of rows",
    };
    let bound_ns = stated.bounds.shaper_lateness_ns;
    lateness(&mut findings, &what, &followed.lateness, bound_ns);
    for steered in &followed.directions {
        bytes(&mut findings, interface, steered, stated);
    }
    let verdict = findings.verdict();
    let is_judged = verdict.checks.iter().any(|check| check.held.is_some());
    is_judged.then_some(verdict)
}

/// Compares what was sent while packets waited, once they have waited as long as is asked of a run.
fn bytes(
    findings: &mut Findings,
    interface: &str,
    steered: &SteeredDirection,
    stated: &StatedBounds,
) {
    let subject = format!("{interface} {}", steered.direction.name());
    let what = Quantity {
        code: ReasonCode::RateError,
        subject: &subject,
        quantity: "|sent / trace - 1| while packets waited",
    };
    let needed_ns = stated.bounds.backlogged_windows * stated.window_ns;
    if steered.backlogged_ns >= needed_ns && steered.trace_bytes > 0 {
        let (sent, trace) = (steered.sent_bytes, steered.trace_bytes);
        rate(findings, &what, &stated.bounds, sent, trace);
    } else {
        let waited_s = ns_to_s(steered.backlogged_ns);
        let measured = format!("not judged: packets waited for {waited_s:.1} s");
        let bound = format!("{:.1} s are needed", ns_to_s(needed_ns));
        findings.check(&what, measured, bound, None);
    }
}

#[cfg(test)]
mod tests {
    use hexloop_traces::Direction;

    use super::*;
    use crate::fixture::{MS, late};
    use crate::verdict::VerdictOutcome;

    const SECOND: u64 = 1000 * MS;

    fn followed() -> Followed {
        Followed {
            since_unix_ns: 1,
            at_boot_ns: 2,
            scheduling: Some("SCHED_FIFO 20 on any CPU".to_owned()),
            lateness: late(1000, MS / 10, MS / 2, 5 * MS),
            rows_left_out: 0,
            directions: vec![SteeredDirection {
                direction: Direction::Up,
                classes: 1,
                largest_error_bytes: 4500,
                backlogged_ns: 10 * SECOND,
                trace_bytes: 1_000_000,
                sent_bytes: 991_000,
            }],
        }
    }

    fn judged(change: impl FnOnce(&mut Followed)) -> Option<Verdict> {
        let mut followed = followed();
        change(&mut followed);
        judge_interface("eth1", &followed, &StatedBounds::read().unwrap())
    }

    #[test]
    fn an_interface_is_judged_by_the_bounds_of_runs() {
        let verdict = judged(|_| {}).unwrap();
        assert_eq!(verdict.outcome, VerdictOutcome::Valid, "{verdict:?}");
        assert_eq!(verdict.checks.len(), 2);
        let slow = judged(|followed| followed.directions[0].sent_bytes = 980_000).unwrap();
        assert_eq!(slow.reasons[0].code, ReasonCode::RateError);
        assert_eq!(slow.reasons[0].subject, "eth1 up");
        let late = judged(|followed| followed.lateness = late(1000, MS, 3 * MS, 9 * MS)).unwrap();
        assert_eq!(late.reasons[0].code, ReasonCode::ShaperLateness);
    }

    #[test]
    fn what_hardly_anything_is_known_of_is_not_judged() {
        let verdict = judged(|followed| {
            followed.lateness = late(0, 0, 0, 0);
            followed.directions[0].backlogged_ns = 100 * MS;
        });
        assert_eq!(verdict, None);
        let verdict = judged(|followed| followed.directions[0].backlogged_ns = 100 * MS).unwrap();
        assert_eq!(verdict.checks[1].held, None);
        assert_eq!(verdict.outcome, VerdictOutcome::Valid);
    }
}
