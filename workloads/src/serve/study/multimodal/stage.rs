//! The node that answers: it has the language model, and a vision encoder for images that come as they are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::clock;
use crate::coding::Coding;
use crate::engine::Hidden;
use crate::engine::vision::VisionEncoder;
use crate::serve::connection::{Frame, PayloadCounter, token_bytes};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::serve::study::answering::{Answers, answer};
use crate::serve::study::books::WayBack;
use crate::serve::study::door::{self, Refusal};
use crate::serve::study::models;
use crate::study::multimodal::{Encoder, Look};
use crate::study::{StudyJobSpec, StudySpec};
use crate::wire::FrameKind;

/// Words in front of a question's tokens.
const WORDS: usize = 3;

/// Serves until the driver goes.
pub(in crate::serve::study) fn serve(
    spec: &StudyJobSpec,
    study: &StudySpec,
    listen: SocketAddr,
    (counter, signals): (&Arc<PayloadCounter>, &Sender<Signal>),
) -> Result<(), JobError> {
    let part = models::large(spec)?;
    let encoder = super::images_come(study).then(|| part.vision_encoder());
    let encoder = encoder.transpose()?;
    let held = super::terms(&part, study)?;
    let weight_bytes = encoder.as_ref().map_or(0, VisionEncoder::weight_bytes);
    let loaded = (part.weight_bytes() + weight_bytes, part.engine_path());
    let Some(front) = door::open(spec, listen, (loaded, held), (counter, signals))? else {
        return Ok(());
    };
    let served = answer(front, |way_back| Stage {
        part,
        encoder,
        way_back,
        open: BTreeSet::new(),
    });
    counter.closed();
    served
}

struct Stage {
    part: Part,
    encoder: Option<VisionEncoder>,
    way_back: WayBack,
    open: BTreeSet<u32>,
}

impl Answers for Stage {
    fn accepts(&self, kind: FrameKind) -> Option<u64> {
        match kind {
            FrameKind::Look => Some(self.most_bytes()),
            FrameKind::Echo | FrameKind::End => Some(0),
            _ => None,
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let opens = frame.header.kind == FrameKind::Look;
        self.way_back.received(id, frame.body.len(), opens);
        match frame.header.kind {
            FrameKind::Look => self.look(frame),
            FrameKind::End => {
                if !self.open.remove(&id) {
                    return Err(frame.content_error("no such request is open").into());
                }
                Ok(self.way_back.close(id, &[])?)
            }
            // Nothing else than an echo is let in.
            _ => Ok(self.way_back.send((FrameKind::Echo, id), 0, &[])?),
        }
    }
}

/// A question about an image, as it came.
struct Asked<'a> {
    look: Look,
    question: Vec<u32>,
    payload: &'a [u8],
}

impl Stage {
    /// The longest question with the largest image, or with as many visual tokens as the model has positions.
    fn most_bytes(&self) -> u64 {
        let positions = u64::from(self.part.max_positions());
        let width = u64::from(self.part.width());
        let of_coding = |coding: Coding| {
            let states = positions.saturating_mul(coding.token_bytes(width));
            states.saturating_add(coding.opening_bytes(width))
        };
        let states = Coding::ALL.into_iter().map(of_coding).max().unwrap_or(0);
        let image = self.encoder.as_ref();
        let image = image.map_or(0, |encoder| encoder.config().image_bytes());
        4 * (positions + 3) + states.max(image)
    }

    fn look(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let asked = read(&frame.body).map_err(wrong)?;
        self.part.check_tokens(&asked.question).map_err(wrong)?;
        if !self.open.insert(id) {
            return Err(wrong("it is open already".to_owned()));
        }
        let output_tokens = frame.header.position;
        let mut began = clock::now();
        let visual = self.visual_tokens(&asked).map_err(wrong)?;
        let question = u32::try_from(asked.question.len()).unwrap_or(u32::MAX);
        let length = visual.tokens().saturating_add(question);
        self.part
            .check_length(length, output_tokens)
            .map_err(wrong)?;
        let mut cache = self.part.new_cache();
        let seen = (&visual, asked.question.as_slice());
        let mut states = self.part.carry_seen(seen, &mut cache)?;
        for said in 0..output_tokens {
            let token = self.part.next_token(&states)?;
            self.way_back
                .computed(id, clock::now().saturating_sub(began));
            let body = token_bytes(&[token]);
            self.way_back
                .send((FrameKind::Token, id), cache.positions(), &body)?;
            began = clock::now();
            if said + 1 < output_tokens {
                states = self.part.carry_tokens(&[token], &mut cache)?;
            }
        }
        Ok(())
    }

    /// Visual tokens as they came, or of the image that came; what is wrong with them in words.
    fn visual_tokens(&self, asked: &Asked<'_>) -> Result<Hidden, String> {
        match asked.look.encoder {
            Encoder::Device => {
                let coder = self.part.state_coder(asked.look.coding);
                let mut coder = coder.map_err(|error| error.to_string())?;
                self.part.decode(&mut coder, asked.payload)
            }
            Encoder::Edge => {
                let encoder = self.encoder.as_ref();
                let encoder = encoder.ok_or("no image is looked at here")?;
                let seen = self.part.see(encoder, asked.payload, asked.look.merge);
                seen.map_err(|error| match std::error::Error::source(&error) {
                    Some(source) => source.to_string(),
                    None => error.to_string(),
                })
            }
        }
    }
}

/// Reads the body of a question about an image; what is wrong with it in words.
fn read(body: &[u8]) -> Result<Asked<'_>, String> {
    let (words, _) = body.as_chunks::<4>();
    let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    let opening = words.first_chunk::<WORDS>();
    let Some([form, merge, count]) = opening.map(|opening| opening.map(|bytes| word(&bytes)))
    else {
        return Err("it is too short for a question".to_owned());
    };
    let look = Look::from_numbers(form, merge)
        .ok_or_else(|| format!("form {form} of {merge} merged patches is not known here"))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let end = count.checked_add(WORDS).filter(|end| *end <= words.len());
    let end = end.ok_or_else(|| format!("its question has {count} tokens and is cut off"))?;
    let question = words.get(WORDS..end).unwrap_or_default();
    let question: Vec<u32> = question.iter().map(word).collect();
    let payload = body.get(4 * end..).unwrap_or_default();
    match question.is_empty() || payload.is_empty() {
        true => Err("it has no question or nothing to look at".to_owned()),
        false => Ok(Asked {
            look,
            question,
            payload,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_with_what_follows_it_and_what_is_cut_off_is_refused() {
        let mut body = token_bytes(&[2, 4, 2, 7, 8]);
        body.extend([1, 2, 3]);
        let asked = read(&body).unwrap();
        assert_eq!((asked.look.coding, asked.look.merge), (Coding::Int8, 4));
        assert_eq!(
            (asked.question, asked.payload),
            (vec![7, 8], &[1, 2, 3][..])
        );
        let refused = |words: &[u32]| read(&token_bytes(words)).err().unwrap();
        assert!(refused(&[2, 4]).contains("too short"));
        assert!(refused(&[2, 3, 1, 7, 0]).contains("3 merged patches"));
        assert!(refused(&[9, 4, 1, 7, 0]).contains("form 9"));
        assert!(refused(&[2, 4, u32::MAX, 7, 0]).contains("cut off"));
        assert!(refused(&[2, 4, 3, 7, 8]).contains("cut off"));
        assert!(refused(&[2, 4, 2, 7, 8]).contains("nothing to look at"));
        assert!(refused(&[2, 4, 0, 7]).contains("no question"));
    }
}
