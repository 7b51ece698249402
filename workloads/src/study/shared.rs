//! Several users share one edge: their requests come at random, carry deadlines, and are batched. What is
//! tried, what is recorded, and the formulas.
//!
//! Everybody's request first uploads what it is about (an image, a document) and its prompt over the user's
//! own link, and then takes a place in the batch until its last token. Who decides about order and admission
//! knows more from policy to policy, see [`Policy`].

pub mod policy;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use self::policy::Policy;
use crate::request::{RequestStream, ScheduledRequest};
use crate::wire::HEADER_BYTES;

/// What such a study does beyond what all do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSpec {
    /// Numbers of users that are tried: the first of the study's links.
    pub users: Vec<u32>,
    /// Requests that are offered, in percent of what the edge and the links were measured to serve.
    pub offered_percent: Vec<u32>,
    /// How often each of them is played, each time with other arrivals.
    pub repetitions: u32,
    /// For how long requests arrive.
    pub arrivals_for_ns: u64,
    /// How long after its arrival the last token of a request must be there.
    pub deadline_ns: u64,
    /// What a request uploads besides its prompt.
    pub upload_bytes: u32,
}

/// Somebody's request, as it was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRequest {
    /// Its number within the round.
    pub id: u32,
    /// Who sends it, counted from 0.
    pub user: u32,
    /// When, from the round's beginning.
    pub due_ns: u64,
    /// Which of the study's prompts.
    pub prompt: u32,
}

/// How many sequences one pass carries, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchCost {
    /// Sequences.
    pub sequences: u32,
    /// Passes.
    pub passes: u32,
    /// How long they took, the slowdown included.
    pub wall_ns: u64,
    /// CPU time of the whole process over them.
    pub cpu_ns: u64,
    /// When they began, from T0.
    pub from_ns: u64,
    /// When they were over.
    pub until_ns: u64,
}

/// A token of an answer beside which another had about as good a score: in a batch of another size that one may be
/// said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tie {
    /// The request's number within its round; of answers alone, the prompt's.
    pub request: u32,
    /// Its place in the answer, counted from 0.
    pub place: u32,
}

/// What was measured before the first round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedCosts {
    /// Reading a prompt: the median.
    pub prefill_ns: u64,
    /// Passes with so many sequences, in several runs of each.
    pub batches: Vec<BatchCost>,
    /// What the upload of each user took alone, beyond an empty frame's round trip.
    pub upload_ns: Vec<u64>,
    /// An empty frame over each user's link and back: the median.
    pub echo_ns: Vec<u64>,
    /// The tokens that each of the study's prompts is answered with where nobody else asks for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alone: Vec<Vec<u32>>,
    /// Those of them that are ties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alone_ties: Vec<Tie>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All its tokens came.
    Served,
    /// The edge refused it.
    Refused,
    /// It was still open when the round was given up.
    Open,
}

/// What became of a request. Times are offsets from T0 in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Its number within the round.
    pub id: u32,
    /// Who sent it.
    pub user: u32,
    /// Which of the study's prompts.
    #[serde(default)]
    pub prompt: u32,
    /// When it was due.
    pub due_ns: u64,
    /// When it was sent, or asked for.
    pub sent_ns: u64,
    /// When its first token came.
    pub first_ns: Option<u64>,
    /// When its last token or the refusal came.
    pub ended_ns: Option<u64>,
    /// How it ended.
    pub ending: Ending,
    /// Whether its upload was sent.
    pub uploaded: bool,
    /// Tokens that came.
    pub tokens: u32,
    /// Which, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answer: Vec<u32>,
    /// Bytes to the edge, headers included.
    pub up: u64,
    /// Bytes from it.
    pub down: u64,
}

impl UserRecord {
    /// Whether its last token was there within so long of when it was due.
    #[must_use]
    pub fn in_budget(&self, deadline_ns: u64) -> bool {
        let ended = self.ended_ns.filter(|_| self.ending == Ending::Served);
        ended.is_some_and(|ended| ended <= self.due_ns.saturating_add(deadline_ns))
    }
}

/// What the edge counted in a round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeBooks {
    /// Passes over sequences: how many at a time.
    pub passes: Vec<BatchCost>,
    /// Bytes of all frames of requests that came.
    pub up: u64,
    /// Bytes of all that went back.
    pub down: u64,
    /// CPU time of the whole process.
    pub cpu_ns: u64,
    /// Tokens that are ties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ties: Vec<Tie>,
}

/// A round: one arm, with arrivals that every arm had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedRound {
    /// Its number.
    pub number: u32,
    /// Who decides, and how.
    pub policy: Policy,
    /// The most sequences of a pass.
    pub batch: u32,
    /// How many users there were.
    pub users: u32,
    /// What was offered, in percent of what was measured to be served.
    pub offered_percent: u32,
    /// The same in requests per thousand seconds, of all users together.
    pub offered_per_kilosecond: u64,
    /// Which of the repetitions.
    pub repetition: u32,
    /// Its beginning.
    pub from_ns: u64,
    /// Its end.
    pub until_ns: u64,
    /// What became of each request.
    pub requests: Vec<UserRecord>,
    /// What the edge counted.
    pub books: EdgeBooks,
}

impl SharedCosts {
    /// What a pass of so many sequences takes: the median over the runs.
    #[must_use]
    pub fn pass_ns(&self, sequences: u32) -> u64 {
        let runs = self.batches.iter().filter(|it| it.sequences == sequences);
        let mut times: Vec<u64> = runs
            .map(|run| run.wall_ns / u64::from(run.passes.max(1)))
            .collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// How long a place of a full batch is taken by a request with so many tokens: its own prefill and those
    /// that come between its passes, for every one of the batch.
    #[must_use]
    pub fn place_ns(&self, batch: u32, output_tokens: u32) -> u64 {
        let prefills = u64::from(batch) * self.prefill_ns;
        prefills + u64::from(output_tokens.saturating_sub(1)) * self.pass_ns(batch)
    }

    /// Requests per thousand seconds that links and edge can serve with so many users: those of whichever can
    /// serve fewer, as uploads share one cell and the batch is full.
    #[must_use]
    pub fn capacity_per_kilosecond(&self, users: u32, batch: u32, output_tokens: u32) -> u64 {
        let users = usize::try_from(users).unwrap_or(usize::MAX);
        let uploads = self.upload_ns.get(..users).unwrap_or(&self.upload_ns);
        let count = u64::try_from(uploads.len()).unwrap_or(1).max(1);
        let radio = 1_000_000_000_000 / (uploads.iter().sum::<u64>() / count).max(1);
        let place = self.place_ns(batch, output_tokens).max(1);
        let edge = u64::from(batch).saturating_mul(1_000_000_000_000) / place;
        radio.min(edge).max(1)
    }
}

impl SharedSpec {
    /// The arrivals of a round: every user's own Poisson process, in the order of time. They depend on the seed,
    /// the users, the offered rate and the repetition alone, so that every arm has the same.
    #[must_use]
    pub fn arrivals(
        &self,
        (seed, prompts): (u64, u32),
        users: u32,
        (offered_per_kilosecond, repetition): (u64, u32),
    ) -> Vec<UserRequest> {
        let mut all = Vec::new();
        for user in 0..users {
            let own = (u64::from(user) << 32) | u64::from(repetition);
            let mut random =
                ChaCha12Rng::seed_from_u64(seed ^ own.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let stream = RequestStream {
                arrivals_per_kilosecond: (offered_per_kilosecond / u64::from(users.max(1))).max(1),
                prompt_tokens: 1,
                output_tokens: 1,
                arrivals_for_ns: self.arrivals_for_ns,
                deadline_ns: self.deadline_ns,
            };
            let of_user = |request: ScheduledRequest| UserRequest {
                id: 0,
                user,
                due_ns: request.due_ns,
                prompt: 0,
            };
            all.extend(stream.schedule(&mut random).into_iter().map(of_user));
        }
        all.sort_by_key(|request| (request.due_ns, request.user));
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        for (id, request) in (0..).zip(&mut all) {
            request.id = id;
            request.prompt = random.next_u32() % prompts.max(1);
        }
        all
    }
}

/// Bytes of the deadline that stands in front of an upload.
pub const DEADLINE_BYTES: u64 = 8;

/// Bytes of an [`crate::wire::FrameKind::Ask`]: the deadline, and what is to be uploaded.
pub const ASK_BYTES: u64 = 12;

/// What a request puts on its link, up and down: where it asks, asking and the answer; if it was uploaded, that;
/// and a frame for each token, or the refusal.
#[must_use]
pub fn request_bytes(
    policy: Policy,
    record: &UserRecord,
    (prompt_tokens, upload_bytes): (u32, u32),
) -> (u64, u64) {
    let (mut up, mut down) = (0, 0);
    if policy.asks() {
        up += HEADER_BYTES + ASK_BYTES;
        if record.uploaded {
            down += HEADER_BYTES;
        }
    }
    if record.uploaded {
        up +=
            HEADER_BYTES + DEADLINE_BYTES + 4 * u64::from(prompt_tokens) + u64::from(upload_bytes);
    }
    down += (HEADER_BYTES + 4) * u64::from(record.tokens);
    if record.ending == Ending::Refused {
        down += HEADER_BYTES;
    }
    (up, down)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SharedSpec {
        SharedSpec {
            users: vec![4],
            offered_percent: vec![50],
            repetitions: 1,
            arrivals_for_ns: 100_000_000_000,
            deadline_ns: 1,
            upload_bytes: 1000,
        }
    }

    #[test]
    fn every_arm_has_the_same_arrivals_and_every_repetition_others() {
        let draw = |repetition| spec().arrivals((1, 3), 4, (20_000, repetition));
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
        // 2000 expected; four standard deviations are 180.
        assert!((1820..2180).contains(&draw(0).len()), "{}", draw(0).len());
        assert!(draw(0).iter().all(|it| it.user < 4 && it.prompt < 3));
        assert!(draw(0).is_sorted_by_key(|it| it.due_ns));
    }

    #[test]
    fn capacity_is_that_of_the_links_or_of_the_edge_whichever_is_less() {
        let run = |sequences, wall_ns| BatchCost {
            sequences,
            passes: 10,
            wall_ns,
            cpu_ns: 0,
            from_ns: 0,
            until_ns: 0,
        };
        let mut costs = SharedCosts {
            prefill_ns: 1_000_000,
            batches: vec![run(4, 20_000_000)],
            upload_ns: vec![10_000_000, 30_000_000],
            echo_ns: Vec::new(),
            alone: Vec::new(),
            alone_ties: Vec::new(),
        };
        // 4 prefills and 8 passes of 2 ms are 20 ms for each of four places.
        assert_eq!(costs.place_ns(4, 9), 20_000_000);
        assert_eq!(costs.capacity_per_kilosecond(2, 4, 9), 50_000);
        assert_eq!(costs.capacity_per_kilosecond(1, 4, 9), 100_000);
        costs.upload_ns = vec![1];
        assert_eq!(costs.capacity_per_kilosecond(1, 4, 9), 200_000);
    }
}
