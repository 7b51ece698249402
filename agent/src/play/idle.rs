//! Power of the machine without jobs, before and after the phases: what is subtracted as idle, and
//! what every meter read meanwhile, which says how steady it was.

use hexloop_proto::EventBody;
use hexloop_workloads::clock;

use super::PlayError;
use super::scene::check;
use super::sink::EventSink;
use super::stop::StopWish;
use crate::telemetry::power::PowerSampler;

/// How long it is measured: 50 refreshes of a counter that is renewed ten times a second, and nine half
/// seconds between them, over which its steadiness is judged.
const SPAN_NS: u64 = 5_000_000_000;

/// How often a wish to stop is looked for meanwhile.
const LOOK_EVERY_NS: u64 = 50_000_000;

/// Measures it; does nothing, and takes no time, where there is no meter.
pub(super) fn measure(
    power: &PowerSampler,
    when: &str,
    events: &EventSink,
    stop: &StopWish,
) -> Result<(), PlayError> {
    if power.channels().is_empty() {
        return Ok(());
    }
    let from = clock::now();
    power.keep_readings(from);
    let to = from + SPAN_NS;
    while clock::now() < to {
        check(stop)?;
        clock::sleep_until(to.min(clock::now() + LOOK_EVERY_NS));
    }
    let readings = power.take_readings();
    let idle = power.window(from, to).idle(when, SPAN_NS, readings);
    events.emit(EventBody::Idle(idle));
    Ok(())
}
