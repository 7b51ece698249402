//! Which bytes of a queue that delays (netem below a class) wait for the bottleneck alone.
//!
//! The kernel tells what a class has sent and what is in its queue. What had come by an earlier look,
//! and has been delayed since, could have left: of that, what has not is waiting. The answer is never
//! too much, and by no more than comes between two looks too little.

use std::collections::VecDeque;

/// What is remembered of the time that packets are delayed: so many looks.
const MOST_LOOKS: u64 = 1024;

/// What had come by a moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// When all of it has been delayed.
    due_ns: u64,
    bytes: u64,
}

/// The account of one queue.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    looks: VecDeque<Look>,
    last_ns: u64,
    last_delay_ns: u64,
    /// Bytes that have been delayed by now, sent ones included.
    ripe_bytes: u64,
}

impl Delayed {
    /// Takes in that at `at_ns` a class had sent `sent` bytes, that `queued` were in its queue, and that
    /// packets are delayed by `delay_ns` at most; the bytes that wait for the bottleneck alone.
    pub(super) fn waiting_bytes(
        &mut self,
        at_ns: u64,
        sent: u64,
        queued: u64,
        delay_ns: u64,
    ) -> u64 {
        // Of what came since the last look, some may have met the delay of then.
        let longest_ns = delay_ns.max(self.last_delay_ns);
        let is_worth_it = at_ns >= self.last_ns.saturating_add(longest_ns / MOST_LOOKS);
        if self.looks.is_empty() || is_worth_it {
            let latest = self.looks.back().map_or(0, |look| look.due_ns);
            self.looks.push_back(Look {
                due_ns: at_ns.saturating_add(longest_ns).max(latest),
                bytes: sent.saturating_add(queued),
            });
            self.last_ns = at_ns;
            self.last_delay_ns = delay_ns;
        }
        while let Some(look) = self.looks.front()
            && look.due_ns <= at_ns
        {
            self.ripe_bytes = look.bytes;
            self.looks.pop_front();
        }
        self.ripe_bytes.saturating_sub(sent).min(queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_is_delayed_does_not_wait_and_what_has_been_does() {
        let mut delayed = Delayed::default();
        // 5000 bytes came before the first look, and nothing since.
        assert_eq!(delayed.waiting_bytes(0, 0, 5000, 10 * MS), 0);
        assert_eq!(delayed.waiting_bytes(9 * MS, 0, 5000, 10 * MS), 0);
        assert_eq!(delayed.waiting_bytes(10 * MS, 0, 5000, 10 * MS), 5000);
        assert_eq!(delayed.waiting_bytes(11 * MS, 2000, 3000, 10 * MS), 3000);
        // 4000 more are under way.
        assert_eq!(delayed.waiting_bytes(12 * MS, 3000, 6000, 10 * MS), 2000);
        assert_eq!(delayed.waiting_bytes(22 * MS, 6000, 3000, 10 * MS), 3000);
        assert_eq!(delayed.waiting_bytes(30 * MS, 9000, 0, 10 * MS), 0);
    }

    #[test]
    fn a_shorter_delay_says_nothing_of_packets_that_came_before_it() {
        let mut delayed = Delayed::default();
        assert_eq!(delayed.waiting_bytes(0, 0, 1000, 50 * MS), 0);
        assert_eq!(delayed.waiting_bytes(10 * MS, 0, 2000, MS), 0);
        assert_eq!(delayed.waiting_bytes(20 * MS, 0, 2000, MS), 0);
        assert_eq!(delayed.waiting_bytes(60 * MS, 0, 2000, MS), 2000);
    }

    #[test]
    fn without_a_delay_all_that_is_queued_waits() {
        let mut delayed = Delayed::default();
        for at in 0..10 {
            assert_eq!(delayed.waiting_bytes(at, 100 * at, 700, 0), 700);
        }
    }

    #[test]
    fn a_long_delay_is_remembered_in_a_bounded_number_of_looks() {
        let mut delayed = Delayed::default();
        for at in 0..100_000 {
            delayed.waiting_bytes(at * MS, at, 1000, 20_000 * MS);
        }
        assert!(delayed.looks.len() <= usize::try_from(MOST_LOOKS).unwrap() + 1);
        let waiting = delayed.waiting_bytes(100_000 * MS, 100_000, 1000, 20_000 * MS);
        assert_eq!(waiting, 0);
    }
}
