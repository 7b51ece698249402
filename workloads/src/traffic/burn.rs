//! Load: threads that do nothing but take CPU time, as much as their node gives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{TrafficError, TrafficRecord, Work, spawn};
use crate::clock::{self, MonotonicNs};

#[derive(Debug)]
pub(super) struct Burner {
    threads: u32,
}

impl Burner {
    pub(super) const fn new(threads: u32) -> Burner {
        Burner { threads }
    }
}

impl Work for Burner {
    fn start(&mut self, t0: MonotonicNs, end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        for _ in 0..self.threads {
            let end = Arc::clone(end);
            spawn("hx-burn", move || {
                clock::sleep_until(t0);
                while !end.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })?;
        }
        Ok(())
    }

    fn finish(&mut self) -> TrafficRecord {
        TrafficRecord::default()
    }
}
