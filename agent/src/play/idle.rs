//! Power of the machine without jobs, before and after the phases: what is subtracted as idle.

use hexloop_proto::EventBody;
use hexloop_workloads::clock;

use super::PlayError;
use super::scene::check;
use super::sink::EventSink;
use super::stop::StopWish;
use crate::telemetry::power::PowerSampler;

/// How long it is measured: 30 refreshes of a counter that is renewed ten times a second.
const SPAN_NS: u64 = 3_000_000_000;

/// How often a wish to stop is looked for meanwhile.
const LOOK_EVERY_NS: u64 = 50_000_000;

/// Measures it; does nothing, and takes no time, where no meter can be summed up.
pub(super) fn measure(
    power: &PowerSampler,
    when: &str,
    events: &EventSink,
    stop: &StopWish,
) -> Result<(), PlayError> {
    if !power.can_sum() {
        return Ok(());
    }
    let from = clock::now();
    let to = from + SPAN_NS;
    while clock::now() < to {
        check(stop)?;
        clock::sleep_until(to.min(clock::now() + LOOK_EVERY_NS));
    }
    let idle = power.window(from, to).power.idle(when, SPAN_NS);
    events.emit(EventBody::Idle(idle));
    Ok(())
}
