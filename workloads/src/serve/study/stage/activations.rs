//! Images that a convolutional network on two nodes recognises: its second part, which is waited for.

use super::{Refusal, Stage};
use crate::clock;
use crate::serve::connection::{Frame, token_bytes};
use crate::wire::FrameKind;

/// The class of every image: nothing is recognised.
const CLASS: u32 = 0;

impl Stage {
    /// Takes as long as the rest of the network would, and answers.
    pub(super) fn finish(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let began = clock::now();
        let (id, cut) = (frame.header.request, frame.header.position);
        let Some(takes_ns) = self.asked.images_ns.get(&cut).copied() else {
            let why = format!("no network is cut behind block {cut}");
            return Err(Refusal::Front(frame.content_error(why)));
        };
        if self.asked.knows(id) {
            return Err(Refusal::Front(frame.content_error("it is open already")));
        }
        clock::sleep_until(began.saturating_add(takes_ns));
        self.way_back
            .computed(id, clock::now().saturating_sub(began));
        let class = token_bytes(&[CLASS]);
        self.way_back.send((FrameKind::Token, id), cut, &class)?;
        self.asked.opened_here(id);
        Ok(())
    }
}
