//! Answering requests with the whole model on the device, one after the other.

use std::sync::mpsc::{Receiver, Sender};

use super::load::Sent;
use crate::clock;
use crate::job::Outcome;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::{Signal, tell};

/// Answers what arrives in `queue` until it closes.
pub(super) fn serve(
    part: &Part,
    queue: &Receiver<Sent>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    for Sent { request, prompt } in queue {
        let mut cache = part.new_cache();
        let mut input = prompt;
        for _ in 0..request.output_tokens {
            let states = part.carry_tokens(&input, &mut cache)?;
            let (token, is_tie) = part.next_token_and_tie(&states)?;
            let at = clock::now();
            if is_tie {
                let request = request.id;
                tell(signals, Signal::Tie { request });
            }
            tell(
                signals,
                Signal::Token {
                    request: request.id,
                    token,
                    at,
                },
            );
            input = vec![token];
        }
        tell(
            signals,
            Signal::Ended {
                request: request.id,
                outcome: Outcome::Completed,
            },
        );
    }
    Ok(())
}
