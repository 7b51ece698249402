//! An outage that a driver plays: its links carry nothing for a while and come back by themselves,
//! whatever the driver waits for meanwhile.

use super::conductor::{Conductor, Setting};
use super::report;
use crate::clock::{self, MonotonicNs};
use crate::serve::error::JobError;
use crate::serve::thread;
use crate::study::own::OutageRecord;

/// An outage that has begun.
pub(super) struct Outage {
    from: MonotonicNs,
    until: MonotonicNs,
}

impl Outage {
    /// Takes the links away, and has them back after a while as they are set otherwise.
    pub(super) fn begin(
        conductor: &Conductor<'_>,
        length_ns: u64,
        setting: Setting,
    ) -> Result<Outage, JobError> {
        conductor.set_links(Setting {
            rate_bps: 0,
            ..setting
        })?;
        let from = clock::now();
        let until = from.saturating_add(length_ns);
        let ask = setting.asked();
        thread::spawn("hx-outage", conductor.signals(), move |signals| {
            clock::sleep_until(until);
            report(signals, ask);
            Ok(())
        })?;
        Ok(Outage { from, until })
    }

    /// Waits until the links are back; when they were certainly out.
    pub(super) fn end(self, conductor: &Conductor<'_>) -> Result<OutageRecord, JobError> {
        conductor.links_are_set()?;
        let offset = conductor.offset();
        Ok(OutageRecord {
            from_ns: offset(self.from),
            until_ns: offset(self.until),
        })
    }
}
