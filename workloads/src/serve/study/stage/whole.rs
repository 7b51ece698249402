//! Prompts that a stage with the whole model answers by itself.

use super::{MAX_OPEN_REQUESTS, Open, Refusal, Stage};
use crate::clock;
use crate::coding::Coding;
use crate::serve::connection::{Frame, token_bytes};
use crate::wire::FrameKind;

impl Stage {
    /// Answers a prompt, token by token as they are made. The header's position says how many.
    pub(super) fn answer(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let output = frame.header.position;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let prompt = frame.token_ids().unwrap_or_default();
        let count = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        self.part.check_length(count, output).map_err(wrong)?;
        self.part.check_tokens(&prompt).map_err(wrong)?;
        let layers = self.part.layers();
        if layers != (0..self.part.all_layers()) {
            return Err(wrong(format!("layers {layers:?} alone answer no prompt")));
        }
        if self.open.len() >= MAX_OPEN_REQUESTS || self.open.contains_key(&id) {
            return Err(wrong("it is open already, or too many are".to_owned()));
        }
        let mut cache = self.part.new_cache();
        // No states cross the link.
        let coder = self.part.state_coder(Coding::F32)?;
        let mut input = prompt;
        for _ in 0..output {
            let began = clock::now();
            let states = self.part.carry_tokens(&input, &mut cache)?;
            let token = self.part.next_token(&states)?;
            self.way_back
                .computed(id, clock::now().saturating_sub(began));
            let body = token_bytes(&[token]);
            self.way_back
                .send((FrameKind::Token, id), cache.positions(), &body)?;
            input = vec![token];
        }
        let open = Open {
            layers,
            cache,
            from_front: coder.clone(),
            onward: coder,
        };
        self.open.insert(id, open);
        Ok(())
    }
}
