//! What many links have due in the same step leaves in one system call: with hundreds of links, each
//! has one packet to a step or none.

use std::io::IoSlice;
use std::sync::Arc;

use hexloop_workloads::clock::{self, ClockPair};

use super::{ExactWorker, Looked, Sending};
use crate::sys::packet::{Exit, SEND_BATCH, SpreadSender};

/// A lane with one frame to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) link: usize,
    pub(super) side: usize,
    pub(super) looked: Looked,
}

impl ExactWorker {
    /// Sends the frames of the lanes that were put off, and sees to it that they are served again in
    /// time. What cannot leave like this leaves by itself, and then it is told why.
    pub(super) fn send_together(&mut self, pair: ClockPair) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut rest = waiting.as_slice();
        while !rest.is_empty() {
            let taken = self.send_some(rest);
            let (sent, others) = rest.split_at(taken);
            let now = clock::now();
            for one in sent {
                if let Some(Some(served)) = self.links.get_mut(one.link) {
                    served.lanes[one.side].first_was_sent(now);
                }
                self.settle(
                    one.link,
                    one.side,
                    Looked {
                        sent: 1,
                        ..one.looked
                    },
                );
            }
            rest = others;
            if taken == 0
                && let Some((refused, others)) = rest.split_first()
            {
                self.serve(refused.link, refused.side, pair, Sending::Now);
                rest = others;
            }
        }
        waiting.clear();
        self.waiting = waiting;
    }

    /// Sends the first frame of each of these lanes, as many as go at once; returns how many went.
    fn send_some(&self, waiting: &[Waiting]) -> usize {
        let mut sender: Option<&Arc<SpreadSender>> = None;
        let mut exits = [Exit::default(); SEND_BATCH];
        let mut frames = [IoSlice::new(&[]); SEND_BATCH];
        let mut count = 0;
        for (one, (exit, frame)) in waiting.iter().zip(exits.iter_mut().zip(&mut frames)) {
            let served = self.links.get(one.link).and_then(Option::as_ref);
            let found = served.and_then(|served| {
                let (sender, exits) = served.spread.as_ref()?;
                Some((
                    sender,
                    exits[1 - one.side],
                    served.lanes[one.side].first_due()?,
                ))
            });
            let Some((its_sender, its_exit, its_frame)) = found else {
                break;
            };
            sender = Some(its_sender);
            *exit = its_exit;
            *frame = IoSlice::new(its_frame);
            count += 1;
        }
        // What is refused is tried once more, by itself.
        sender.map_or(0, |sender| {
            sender.send(&exits[..count], &frames[..count]).unwrap_or(0)
        })
    }
}
