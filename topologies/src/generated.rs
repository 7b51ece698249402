//! Traces of given rates: from their section of the experiment file to the generator's settings.

use hexloop_traces::generate::control;
use hexloop_traces::{Trace, TraceError};

use crate::check::Reporter;
use crate::experiment::Steps;
use crate::quantity::rate_bps;
use crate::section::Section;

/// Given rates: the trace is generated when it is needed.
pub(crate) fn steps(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Steps {
    let rates = section.list("rates").into_iter();
    let steps = Steps {
        rates_bps: rates.filter_map(|(text, _)| rate_bps(text)).collect(),
        step_ns: section.time_ns("step"),
        delay_ns: section.time_ns("delay"),
        duration_ns: section.time_ns("duration"),
    };
    // Rates that are none were reported, and are not among these.
    if !steps.rates_bps.is_empty() && steps.rates_bps.iter().all(|rate_bps| *rate_bps == 0) {
        let message = "every rate is 0: nothing would ever pass".to_owned();
        let help = "0 is an outage: give it rates to come back to, or an `override` in `events`";
        reporter.report(section.place("rates"), message, Some(help.to_owned()));
    }
    let count = steps.duration_ns / steps.step_ns.max(1);
    if steps.rates_bps.len() > 1 && count > MOST_STEPS {
        let message = format!("the trace would have {count} steps");
        let help = format!("a trace has at most {MOST_STEPS}: make `step` longer");
        reporter.report(section.place("step"), message, Some(help));
    }
    steps
}

/// Most steps of a trace: each is a row in memory.
const MOST_STEPS: u64 = 1_000_000;

/// The trace of given rates.
pub(crate) fn trace_of_steps(steps: &Steps) -> Result<Trace, TraceError> {
    let link = control::Link::new(0, steps.delay_ns, 0);
    let rates = &steps.rates_bps;
    if let [rate_bps] = rates.as_slice() {
        return control::step(link, &[(steps.duration_ns, *rate_bps)]);
    }
    let mut rows = Vec::new();
    let mut left_ns = steps.duration_ns;
    for rate_bps in rates.iter().cycle() {
        if left_ns == 0 {
            break;
        }
        let length_ns = steps.step_ns.min(left_ns);
        left_ns -= length_ns;
        rows.push((length_ns, *rate_bps));
    }
    control::step(link, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_rates_go_round_until_the_trace_is_over() {
        let steps = Steps {
            rates_bps: vec![1_000, 2_000],
            step_ns: 40,
            delay_ns: 7,
            duration_ns: 100,
        };
        let trace = trace_of_steps(&steps).unwrap();
        let rows: Vec<(u64, u64)> = trace
            .rows()
            .iter()
            .map(|row| (row.t_ns, row.up.rate_bps))
            .collect();
        assert_eq!(rows, [(0, 1_000), (40, 2_000), (80, 1_000)]);
        assert_eq!(trace.duration_ns(), 100);
        let constant = Steps {
            rates_bps: vec![5],
            ..steps
        };
        assert_eq!(trace_of_steps(&constant).unwrap().rows().len(), 1);
        assert!(trace.rows().iter().all(|row| row.down.delay_ns == 7));
    }
}
