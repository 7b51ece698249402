//! What job processes put on the link: framing, and the byte formulas that follow from it.
//!
//! Every message is a frame: a 16-byte header and its body. A connection opens with one
//! handshake in each direction. All integers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | magic `HX` |
//! | 2 | version, 1 |
//! | 3 | kind, see [`FrameKind`] |
//! | 4..8 | request id, u32 |
//! | 8..12 | position of the first token of the body in its sequence, u32 |
//! | 12..16 | body length in bytes, u32 |

use serde::{Deserialize, Serialize};

/// The first bytes of every frame.
pub const MAGIC: [u8; 2] = *b"HX";

/// The version of this framing.
pub const VERSION: u8 = 1;

/// Length of a frame's header.
pub const HEADER_BYTES: u64 = 16;

/// The largest body that a receiver accepts, before it allocates anything.
pub const MAX_BODY_BYTES: u32 = 64 << 20;

/// The run's secret, with which the body of the connecting side's handshake begins.
pub const SECRET_BYTES: u64 = 32;

/// What both sides say of themselves in the handshake: a fingerprint of the model, and which layers
/// are needed or held.
pub const TERMS_BYTES: u64 = 32 + 4 + 4;

/// What studies of two models, or of a model and a vision encoder, say besides: a fingerprint of the second.
pub const SECOND_TERMS_BYTES: u64 = 32;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Connecting side: the secret and its terms. Answered by the terms of the other side in a
    /// frame of the same kind.
    Hello = 1,
    /// Token ids (u32 each) of a prompt, to be answered with `output_tokens` tokens; the header's
    /// position field holds how many to generate.
    Prompt = 2,
    /// Hidden states (f32, tokens x width) at the cut.
    Hidden = 3,
    /// One generated token id (u32).
    Token = 4,
    /// The request is over; its state can be forgotten. No body.
    End = 5,
    /// Opens a request of a study: the layer that the receiver starts with, how states are coded,
    /// and where it and each stage behind it end (u32 each).
    Begin = 6,
    /// An empty question, sent along the path and back.
    Echo = 7,
    /// Asks every stage what computing costs it, at the header's position.
    Measure = 8,
    /// The answer: one account for each stage, in JSON.
    Costs = 9,
    /// What a request of a study put on each link, in answer to `End`: five u64 for each.
    Books = 10,
    /// Opens a request that the receiver's whole model answers or verifies: six words (u32 each) of how,
    /// and the prompt's token ids.
    Open = 11,
    /// Drafted tokens: the id (u32) of each, with what else crosses of the distribution that it was
    /// drawn from. The header's position is that of the first.
    Draft = 12,
    /// The answer to a draft: how many of its first tokens are accepted, and the token after them (u32
    /// each).
    Verdict = 13,
    /// How likely a draft of each token of an answer is accepted, in millionths (u32 each).
    Overlap = 14,
    /// The tokens (u32 each) of a context that will be asked for by the header's request.
    Deposit = 15,
    /// Asks for a context: its number, how it is to come, and from where (u32 each).
    Fetch = 16,
    /// A context as tokens (u32 each).
    Context = 17,
    /// Coded keys and values of a context in one layer, which the header's position names.
    KeyValues = 18,
    /// Asks for a mark and a train of bytes behind it, which are frames of the same kind: their distance
    /// tells the rate.
    Probe = 19,
    /// Whether to upload a request: by when its last token must be there (u64) and the bytes that it uploads
    /// besides its prompt (u32).
    Ask = 20,
    /// The answer: it may be uploaded. No body.
    Grant = 21,
    /// The request will not be served. No body.
    Refused = 22,
    /// How the next round of a study of several users is to be played, in JSON; answered without a body.
    Round = 23,
    /// Bytes that stand for a row of the KPI tables.
    Payload = 24,
    /// The answer: when its last byte was there (u64).
    Arrived = 25,
    /// Asks for a payload of so many bytes (u64).
    Wanted = 26,
    /// Has the receiver make an index of what was deposited; answered by a frame of the same kind.
    Index = 27,
    /// A query: how to retrieve and how many tokens to answer with (four u32), and its tokens.
    Retrieve = 28,
    /// What was retrieved for a query: five u32 about it, and the numbers of chunks.
    Retrieved = 29,
    /// A prompt that the whole model at a place of the path answers: the place and its weights (u32 each),
    /// and the prompt's token ids. The header's position says how many tokens to generate.
    Place = 30,
    /// Activations of a convolutional network, which the receiver finishes: a byte for each. The header's
    /// position is the block that they come from.
    Activations = 31,
    /// Hidden states of a prompt after the layer that the header's position names, with their coding (u32) in
    /// front; answered by a frame of the same kind with what each token may have been, guessed in two ways.
    Guess = 32,
    /// Tokens that two halves of every layer carry from the header's position on, at 0 those of a new request: how
    /// parts of sums are coded (u32), and the ids (u32 each).
    Tokens = 33,
    /// What half of a part of a layer adds to the states of those tokens, coded. The header's position is the number
    /// of the sum, two of each layer.
    Partial = 34,
    /// Asks what half of a layer costs, at the header's position; answered by a frame of the same kind, in JSON.
    HalfCosts = 35,
    /// A question about an image: what follows it, how many patches are merged and how many tokens it has (u32 each),
    /// its token ids, and the image or its visual tokens. The header's position says how many tokens to answer with.
    Look = 36,
    /// A piece of a file of a task's weights: the header's request is the task, its position which file (0 the
    /// description of an adapter, 1 its matrices, 2 a full model).
    Weights = 40,
    /// Has the receiver load what came for the header's request, a task: an adapter (position 0) or a full model (1);
    /// answered by a frame of the same kind with what it was, four u64.
    Load = 41,
    /// Asks how surprising a text is, or what a prompt is answered with alone; in JSON, and so is the answer.
    Appraise = 42,
}

impl FrameKind {
    /// The kind with that number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<FrameKind> {
        match byte {
            1 => Some(FrameKind::Hello),
            2 => Some(FrameKind::Prompt),
            3 => Some(FrameKind::Hidden),
            4 => Some(FrameKind::Token),
            5 => Some(FrameKind::End),
            6 => Some(FrameKind::Begin),
            7 => Some(FrameKind::Echo),
            8 => Some(FrameKind::Measure),
            9 => Some(FrameKind::Costs),
            10 => Some(FrameKind::Books),
            11 => Some(FrameKind::Open),
            12 => Some(FrameKind::Draft),
            13 => Some(FrameKind::Verdict),
            14 => Some(FrameKind::Overlap),
            15 => Some(FrameKind::Deposit),
            16 => Some(FrameKind::Fetch),
            17 => Some(FrameKind::Context),
            18 => Some(FrameKind::KeyValues),
            19 => Some(FrameKind::Probe),
            20 => Some(FrameKind::Ask),
            21 => Some(FrameKind::Grant),
            22 => Some(FrameKind::Refused),
            23 => Some(FrameKind::Round),
            24 => Some(FrameKind::Payload),
            25 => Some(FrameKind::Arrived),
            26 => Some(FrameKind::Wanted),
            27 => Some(FrameKind::Index),
            28 => Some(FrameKind::Retrieve),
            29 => Some(FrameKind::Retrieved),
            30 => Some(FrameKind::Place),
            31 => Some(FrameKind::Activations),
            32 => Some(FrameKind::Guess),
            33 => Some(FrameKind::Tokens),
            34 => Some(FrameKind::Partial),
            35 => Some(FrameKind::HalfCosts),
            36 => Some(FrameKind::Look),
            40 => Some(FrameKind::Weights),
            41 => Some(FrameKind::Load),
            42 => Some(FrameKind::Appraise),
            _ => None,
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the body holds.
    pub kind: FrameKind,
    /// Which request it belongs to.
    pub request: u32,
    /// See [`FrameKind`].
    pub position: u32,
    /// Length of the body that follows.
    pub body_bytes: u32,
}

/// A header that cannot be one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The other side speaks another version of this protocol.
    #[error(
        "it speaks version {theirs} of the protocol and this program version {VERSION}: use \
             one version of hexloop on both sides"
    )]
    Version {
        /// Its version.
        theirs: u8,
    },
    /// The magic or kind does not match.
    #[error("not a frame of this protocol (starts with {start:02x?})")]
    Foreign {
        /// The first four bytes.
        start: [u8; 4],
    },
    /// The stated length is beyond what is accepted.
    #[error("a frame of {body_bytes} bytes is larger than the {MAX_BODY_BYTES} accepted")]
    TooLong {
        /// The stated length.
        body_bytes: u32,
    },
}

impl FrameHeader {
    /// The header as it goes on the link.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[3] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.request.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.position.to_le_bytes());
        bytes[12..].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// A foreign magic, version or kind, or a body longer than [`MAX_BODY_BYTES`].
    pub fn decode(bytes: &[u8; 16]) -> Result<FrameHeader, FrameError> {
        let [
            m0,
            m1,
            version,
            kind,
            r0,
            r1,
            r2,
            r3,
            p0,
            p1,
            p2,
            p3,
            b0,
            b1,
            b2,
            b3,
        ] = *bytes;
        let foreign = FrameError::Foreign {
            start: [m0, m1, version, kind],
        };
        if [m0, m1] != MAGIC {
            return Err(foreign);
        }
        if version != VERSION {
            return Err(FrameError::Version { theirs: version });
        }
        let kind = FrameKind::from_byte(kind).ok_or(foreign)?;
        let body_bytes = u32::from_le_bytes([b0, b1, b2, b3]);
        if body_bytes > MAX_BODY_BYTES {
            return Err(FrameError::TooLong { body_bytes });
        }
        let request = u32::from_le_bytes([r0, r1, r2, r3]);
        let position = u32::from_le_bytes([p0, p1, p2, p3]);
        Ok(FrameHeader {
            kind,
            request,
            position,
            body_bytes,
        })
    }
}

/// Payload bytes in each direction, as the applications count them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadBytes {
    /// From the device to the edge.
    pub up: u64,
    /// From the edge to the device.
    pub down: u64,
}

impl PayloadBytes {
    /// Adds another count to this one.
    pub const fn add(&mut self, other: PayloadBytes) {
        self.up += other.up;
        self.down += other.down;
    }
}

/// Payload of opening one connection: the secret and terms up, terms down.
#[must_use]
pub const fn handshake_payload() -> PayloadBytes {
    PayloadBytes {
        up: HEADER_BYTES + SECRET_BYTES + TERMS_BYTES,
        down: HEADER_BYTES + TERMS_BYTES,
    }
}

/// Payload of one request answered on the edge with streaming: `4 S` bytes of prompt up,
/// 4 bytes down for each of `T` tokens, and the framing.
#[must_use]
pub const fn edge_request_payload(prompt_tokens: u64, output_tokens: u64) -> PayloadBytes {
    PayloadBytes {
        up: HEADER_BYTES + 4 * prompt_tokens,
        down: output_tokens * (HEADER_BYTES + 4),
    }
}

/// Payload of one request answered by a model split in two (technique 8 of the surveys): the
/// prefill sends `S d b` bytes up, each further token `d b`, and each of `T` tokens comes back
/// as 4 bytes. The last token is not sent up again; an `End` frame closes the request.
#[must_use]
pub const fn split_request_payload(
    prompt_tokens: u64,
    output_tokens: u64,
    width: u64,
    bytes_per_activation: u64,
) -> PayloadBytes {
    let hidden_states = (prompt_tokens + output_tokens).saturating_sub(1);
    PayloadBytes {
        up: hidden_states * width * bytes_per_activation + (output_tokens + 1) * HEADER_BYTES,
        down: output_tokens * (HEADER_BYTES + 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_foreign_bytes_are_refused() {
        let header = FrameHeader {
            kind: FrameKind::Hidden,
            request: 7,
            position: 9,
            body_bytes: 4096,
        };
        assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
        let mut foreign = header.encode();
        foreign[0] = b'G';
        assert!(matches!(
            FrameHeader::decode(&foreign),
            Err(FrameError::Foreign { .. })
        ));
        let mut long = header.encode();
        long[12..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            FrameHeader::decode(&long),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn split_payload_counts_every_hidden_state_once() {
        // 3 prompt tokens, 2 generated, width 4 in f32: 4 states of 16 bytes, 3 headers.
        assert_eq!(
            split_request_payload(3, 2, 4, 4),
            PayloadBytes {
                up: 4 * 16 + 48,
                down: 40
            }
        );
    }
}
