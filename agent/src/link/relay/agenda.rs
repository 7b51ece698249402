//! What is to be done when: the next moment of every lane and errand, in a heap, so that what
//! one wake-up costs does not grow with the number of links that have nothing to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hexloop_workloads::clock::MonotonicNs;

const NEVER: MonotonicNs = MonotonicNs::MAX;

/// Moments of items, which are small numbers. An item has at most one moment.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// May hold moments that were changed since; `moments` knows.
    heap: BinaryHeap<Reverse<(MonotonicNs, usize)>>,
    moments: Vec<MonotonicNs>,
}

impl Agenda {
    /// Sets the moment of an item; `None` takes it off.
    pub(super) fn set(&mut self, item: usize, at: Option<MonotonicNs>) {
        if item >= self.moments.len() {
            self.moments.resize(item + 1, NEVER);
        }
        let at = at.unwrap_or(NEVER);
        if self.moments[item] == at {
            return;
        }
        self.moments[item] = at;
        if at == NEVER {
            return;
        }
        self.heap.push(Reverse((at, item)));
        if self.heap.len() > 4 * self.moments.len() + 64 {
            self.compact();
        }
    }

    /// Sets the moment of an item unless it has an earlier one.
    pub(super) fn bring_forward(&mut self, item: usize, at: MonotonicNs) {
        if self.moments.get(item).is_none_or(|earlier| at < *earlier) {
            self.set(item, Some(at));
        }
    }

    fn compact(&mut self) {
        let items = self.moments.iter().enumerate();
        let live = items.filter(|&(_, &at)| at != NEVER);
        self.heap = live.map(|(item, &at)| Reverse((at, item))).collect();
    }

    /// The earliest moment.
    pub(super) fn next(&mut self) -> Option<MonotonicNs> {
        while let Some(&Reverse((at, item))) = self.heap.peek() {
            if self.moments[item] == at {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes all items off whose moment has come, into `due`, earliest first.
    pub(super) fn take_due(&mut self, now: MonotonicNs, due: &mut Vec<usize>) {
        due.clear();
        while let Some(at) = self.next()
            && at <= now
        {
            if let Some(Reverse((_, item))) = self.heap.pop() {
                self.moments[item] = NEVER;
                due.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(agenda: &mut Agenda, now: MonotonicNs) -> Vec<usize> {
        let mut items = Vec::new();
        agenda.take_due(now, &mut items);
        items
    }

    #[test]
    fn items_come_in_the_order_of_their_moments_and_only_once() {
        let mut agenda = Agenda::default();
        agenda.set(3, Some(30));
        agenda.set(1, Some(10));
        agenda.set(2, Some(20));
        assert_eq!(agenda.next(), Some(10));
        assert_eq!(due(&mut agenda, 20), [1, 2]);
        assert_eq!(due(&mut agenda, 20), [] as [usize; 0]);
        assert_eq!(agenda.next(), Some(30));
    }

    #[test]
    fn a_changed_moment_replaces_the_old_one_in_either_direction() {
        let mut agenda = Agenda::default();
        agenda.set(0, Some(50));
        agenda.set(0, Some(10));
        agenda.set(1, Some(10));
        agenda.set(1, Some(60));
        assert_eq!(due(&mut agenda, 55), [0]);
        agenda.set(1, None);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn a_moment_is_brought_forward_but_not_put_off() {
        let mut agenda = Agenda::default();
        agenda.bring_forward(0, 50);
        agenda.bring_forward(0, 70);
        assert_eq!(agenda.next(), Some(50));
        agenda.bring_forward(0, 20);
        assert_eq!(due(&mut agenda, 80), [0]);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn changing_moments_for_ever_takes_no_more_room() {
        let mut agenda = Agenda::default();
        for at in 0..100_000 {
            agenda.set(0, Some(200_000 - at));
            agenda.set(1, Some(200_000 + at));
        }
        assert!(agenda.heap.len() < 100);
        assert_eq!(due(&mut agenda, 400_000), [0, 1]);
    }
}
