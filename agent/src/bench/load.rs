//! Other work for the CPUs: threads that never sleep, as ordinary processes are scheduled.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::BenchError;

/// Threads that burn CPU time until this is dropped.
#[derive(Debug)]
pub(super) struct Burners {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Burners {
    /// Starts so many.
    pub(super) fn start(count: usize) -> Result<Burners, BenchError> {
        let mut burners = Burners {
            end: Arc::new(AtomicBool::new(false)),
            threads: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let end = Arc::clone(&burners.end);
            let burn = move || {
                while !end.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            };
            let thread = thread::Builder::new().name("hx-burner".to_owned());
            let thread = thread.spawn(burn);
            let thread =
                thread.map_err(BenchError::socket("start a thread that burns CPU time"))?;
            burners.threads.push(thread);
        }
        Ok(burners)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}
