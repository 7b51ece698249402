//! Multimodal splits (technique 21 of the surveys): an image is on the device, the language model on the edge. Either
//! the image crosses the link and the edge encodes it, or the device has the vision encoder and its visual tokens
//! cross: `n d b / m` bytes of `n` patches, width `d` and `b` bytes a number, where each `m` neighbours are merged
//! into one token.

use serde::{Deserialize, Serialize};

use super::HopBytes;
use super::split::wire_bytes_of_frame;
use crate::coding::Coding;
use crate::wire::HEADER_BYTES;

/// What is asked about each image, a token of the answer for each: what it shows.
pub const ATTRIBUTES: u32 = 1;

/// How many neighbours may be merged into one visual token: squares of 1, 2 and 4 patches a side.
pub const MERGES: [u32; 3] = [1, 4, 16];

/// Words in front of the question: what follows it, how many patches are merged, tokens of the question.
const WORDS: u64 = 3;

/// Where images are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoder {
    /// On the first node: visual tokens cross the link.
    Device,
    /// On the second: the image crosses it, three bytes a pixel.
    Edge,
}

/// One way to ask about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Look {
    /// Where it is encoded.
    pub encoder: Encoder,
    /// Patches that become one visual token, one of [`MERGES`].
    pub merge: u32,
    /// How visual tokens cross the link; [`Coding::F32`] where the image does.
    pub coding: Coding,
}

/// What images and questions are: what the bytes of a look follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookShape {
    /// Bytes of an image.
    pub image_bytes: u64,
    /// Patches that it is cut into.
    pub patches: u32,
    /// Width of a visual token, that of the language model.
    pub width: u32,
    /// Tokens of the question.
    pub question_tokens: u32,
}

/// What a look costs, the slowdowns of the nodes included: medians of several that no trial makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookCosts {
    /// Which.
    pub look: Look,
    /// What the first node computes before anything is sent.
    pub device_ns: u64,
    /// What the second computes until it has the first token.
    pub edge_ns: u64,
    /// Looks that both are medians of.
    pub passes: u32,
}

/// What was measured before the first trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LooksRecord {
    /// What is looked at.
    pub shape: LookShape,
    /// What each arm costs, in their order.
    pub costs: Vec<LookCosts>,
}

/// How well a trial's answer names what its image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookRecord {
    /// Which arm.
    pub of: Look,
    /// The trial.
    pub trial: u32,
    /// Which of the images, which are never trained on.
    pub prompt: u32,
    /// Attributes that were asked for.
    pub asked: u32,
    /// Attributes that the answer names.
    pub right: u32,
}

impl Look {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = match self.encoder {
            Encoder::Device => "tokens".to_owned(),
            Encoder::Edge => "image".to_owned(),
        };
        if self.merge > 1 {
            name = format!("{name} /{}", self.merge);
        }
        match self.coding {
            Coding::F32 => name,
            coding => format!("{name} {coding}"),
        }
    }

    /// What stands for what follows the question on the wire: the coding of visual tokens, or the number behind all
    /// codings for an image.
    #[must_use]
    pub fn form_number(self) -> u32 {
        match self.encoder {
            Encoder::Device => self.coding.number(),
            Encoder::Edge => IMAGE_FORM,
        }
    }

    /// The look that such a number and such a merging make; `None` of numbers that mean nothing.
    #[must_use]
    pub fn from_numbers(form: u32, merge: u32) -> Option<Look> {
        let (encoder, coding) = match form {
            IMAGE_FORM => (Encoder::Edge, Coding::F32),
            form => (Encoder::Device, Coding::from_number(form)?),
        };
        MERGES.contains(&merge).then_some(Look {
            encoder,
            merge,
            coding,
        })
    }

    /// Visual tokens of an image.
    #[must_use]
    pub fn visual_tokens(self, shape: LookShape) -> u64 {
        u64::from(shape.patches / self.merge.max(1))
    }

    /// Bytes of the image or of the visual tokens.
    #[must_use]
    pub fn payload_bytes(self, shape: LookShape) -> u64 {
        let width = u64::from(shape.width);
        match self.encoder {
            Encoder::Edge => shape.image_bytes,
            Encoder::Device => {
                self.visual_tokens(shape) * self.coding.token_bytes(width)
                    + self.coding.opening_bytes(width)
            }
        }
    }

    /// Bytes of the frame's body that asks.
    #[must_use]
    pub fn body_bytes(self, shape: LookShape) -> u64 {
        4 * (WORDS + u64::from(shape.question_tokens)) + self.payload_bytes(shape)
    }

    /// What a look puts on the link: the question with the image or its visual tokens and a closing frame, and a
    /// frame of one token for each attribute back.
    #[must_use]
    pub fn hop_bytes(self, shape: LookShape) -> HopBytes {
        let answer = u64::from(ATTRIBUTES);
        HopBytes {
            up: 2 * HEADER_BYTES + self.body_bytes(shape),
            down: answer * (HEADER_BYTES + 4),
            frames_up: 2,
            frames_down: answer,
        }
    }
}

/// Behind the numbers of all codings.
const IMAGE_FORM: u32 = 64;

impl LooksRecord {
    /// What an arm costs.
    #[must_use]
    pub fn costs_of(&self, look: Look) -> Option<&LookCosts> {
        self.costs.iter().find(|costs| costs.look == look)
    }

    /// When the first token should be there: what both nodes compute, the round trip of an empty frame, and the bytes
    /// at the link's rate.
    #[must_use]
    pub fn first_token_ns(&self, look: Look, (echo_ns, rate_bps): (u64, u64)) -> Option<u64> {
        let costs = self.costs_of(look)?;
        let wire = wire_bytes_of_frame(look.body_bytes(self.shape)) + wire_bytes_of_frame(4);
        let link_ns = u128::from(wire) * 8 * 1_000_000_000 / u128::from(rate_bps.max(1));
        let link_ns = u64::try_from(link_ns).unwrap_or(u64::MAX);
        Some((costs.device_ns + costs.edge_ns + echo_ns).saturating_add(link_ns))
    }

    /// The rate below which these visual tokens are there before the image: what is saved in bytes over what is
    /// computed longer. `None` where one of both is better at every rate.
    #[must_use]
    pub fn critical_rate_bps(&self, image: Look, tokens: Look) -> Option<u64> {
        let computed = |look| {
            let costs = self.costs_of(look)?;
            Some(costs.device_ns + costs.edge_ns)
        };
        let longer_ns = computed(tokens)?.checked_sub(computed(image)?)?;
        let wire = |look: Look| wire_bytes_of_frame(look.body_bytes(self.shape));
        let saved = wire(image).checked_sub(wire(tokens))?;
        let rate = u128::from(saved) * 8 * 1_000_000_000 / u128::from(longer_ns.max(1));
        u64::try_from(rate).ok().filter(|rate| *rate > 0)
    }
}

/// The pair whose critical rate a study's grid lies around: the first of its arms that sends the image, and the first
/// that sends fewer bytes of visual tokens than that.
#[must_use]
pub fn compared(looks: &[Look], shape: LookShape) -> Option<(Look, Look)> {
    let mut all = looks.iter().copied();
    let image = all.find(|look| look.encoder == Encoder::Edge)?;
    let mut all = looks.iter().copied();
    let tokens = all.find(|look| {
        look.encoder == Encoder::Device && look.body_bytes(shape) < image.body_bytes(shape)
    })?;
    Some((image, tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: LookShape = LookShape {
        image_bytes: 12_288,
        patches: 64,
        width: 256,
        question_tokens: 5,
    };

    fn look(encoder: Encoder, merge: u32, coding: Coding) -> Look {
        Look {
            encoder,
            merge,
            coding,
        }
    }

    #[test]
    fn merging_divides_visual_tokens_and_unmerged_ones_are_more_than_the_image() {
        let of = |merge| look(Encoder::Device, merge, Coding::F32);
        let bytes = MERGES.map(|merge| of(merge).payload_bytes(SHAPE));
        assert_eq!(bytes, [65_536, 16_384, 4_096]);
        assert_eq!(
            look(Encoder::Edge, 1, Coding::F32).payload_bytes(SHAPE),
            12_288
        );
        let int8 = look(Encoder::Device, 16, Coding::Int8);
        assert_eq!(int8.payload_bytes(SHAPE), 4 * 260 + 512);
        let bytes = int8.hop_bytes(SHAPE);
        assert_eq!((bytes.up, bytes.down), (32 + 32 + 1552, 20));
        assert_eq!((bytes.frames_up, bytes.frames_down), (2, 1));
        assert_eq!(int8.name(), "tokens /16 int8");
        assert_eq!(look(Encoder::Edge, 1, Coding::F32).name(), "image");
    }

    #[test]
    fn numbers_on_the_wire_lead_back_to_the_look() {
        for coding in Coding::ALL {
            let tokens = look(Encoder::Device, 4, coding);
            assert_eq!(Look::from_numbers(tokens.form_number(), 4), Some(tokens));
        }
        let image = look(Encoder::Edge, 16, Coding::F32);
        assert_eq!(Look::from_numbers(image.form_number(), 16), Some(image));
        assert_eq!(Look::from_numbers(0, 2), None);
        assert_eq!(Look::from_numbers(63, 1), None);
    }

    #[test]
    fn at_the_critical_rate_both_are_there_at_once() {
        let image = look(Encoder::Edge, 4, Coding::F32);
        let tokens = look(Encoder::Device, 4, Coding::Int8);
        let of = |look, device_ns, edge_ns| LookCosts {
            look,
            device_ns,
            edge_ns,
            passes: 5,
        };
        let record = LooksRecord {
            shape: SHAPE,
            costs: vec![
                of(image, 1_000_000, 30_000_000),
                of(tokens, 80_000_000, 20_000_000),
            ],
        };
        assert_eq!(compared(&[tokens, image], SHAPE), Some((image, tokens)));
        let critical = record.critical_rate_bps(image, tokens).unwrap();
        let at = |look, rate| record.first_token_ns(look, (2_000_000, rate)).unwrap();
        let [one, other] = [image, tokens].map(|look| at(look, critical));
        assert!(one.abs_diff(other) < 1000, "{one} {other}");
        assert!(at(tokens, critical / 2) < at(image, critical / 2));
        assert!(at(tokens, critical * 2) > at(image, critical * 2));
        assert_eq!(record.critical_rate_bps(tokens, image), None);
    }
}
