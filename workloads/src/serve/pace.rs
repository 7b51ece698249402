//! The stated slowdown of a node: every computation lasts so many times as long as it took.
//!
//! Unlike a quota of CPU time it holds for each computation alone, however short, so that the cost
//! of a layer is the same whether the node computes without a pause or waits for a link in between.

use crate::clock;

/// How slow a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    times: u64,
}

impl Pace {
    /// So many times as slow as it is; `None` for no slower.
    pub(super) fn new(slowdown: Option<u32>) -> Pace {
        Pace {
            times: u64::from(slowdown.unwrap_or(1).max(1)),
        }
    }

    /// Computes, and waits until it has lasted as long as it must. What counts is the time in which
    /// the process had a CPU, so that others on this machine are not multiplied; with several
    /// threads it is the time that passed, if that is less.
    pub(super) fn run<T>(self, computation: impl FnOnce() -> T) -> T {
        if self.times == 1 {
            return computation();
        }
        let (began, cpu_before) = (clock::now(), clock::process_cpu_ns());
        let result = computation();
        let passed = clock::now().saturating_sub(began);
        let used = clock::process_cpu_ns().saturating_sub(cpu_before);
        clock::sleep_until(began.saturating_add(passed.min(used).saturating_mul(self.times)));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_node_takes_at_least_so_many_times_the_cpu_time_and_a_normal_one_does_not_wait() {
        let work = || (0..200_000_u64).fold(1, |sum, n| std::hint::black_box(sum ^ n));
        let cpu = clock::process_cpu_ns();
        let began = clock::now();
        let mut used = 0;
        Pace::new(Some(5)).run(|| {
            work();
            used = clock::thread_cpu_ns();
            work();
            used = clock::thread_cpu_ns() - used;
        });
        // The second half alone used so much; other threads of this process may have used more.
        assert!(clock::now() - began >= 5 * used, "{used}");
        assert!(clock::process_cpu_ns() > cpu);
        assert_eq!(Pace::new(None), Pace::new(Some(1)));
    }
}
