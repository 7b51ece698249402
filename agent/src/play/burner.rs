//! A fault on purpose: a thread that burns CPU time on a node's CPUs, as a relay that is not
//! pinned apart would. Its time is counted as the relay's, and the verdict must notice.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hexloop_workloads::clock;

use crate::node::set_affinity;

/// A burning thread.
#[derive(Debug)]
pub(super) struct Burner {
    end: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Burner {
    /// Burns on these CPUs until it is finished.
    pub(super) fn start(cpus: Vec<u32>) -> io::Result<Burner> {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name("hx-burner".to_owned())
            .spawn(move || {
                // Where the CPUs are refused it burns elsewhere, which the record still shows.
                let _ = set_affinity(0, &cpus);
                let before = clock::thread_cpu_ns();
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                clock::thread_cpu_ns() - before
            })?;
        Ok(Burner { end, thread })
    }

    /// Ends it and says how much CPU time it took.
    pub(super) fn finish(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}
