//! A backbone that many tasks share, each with a small adapter of its own (technique 13 of the surveys): what is
//! tried, what is recorded, and the formulas.
//!
//! The first node of two has the tasks' adapters, the second the backbone. What the second lacks for a task crosses
//! the link: the adapter, `P_A` parameters, or a full model of the task's own with the adapter merged into its
//! weights, `P` parameters. After that, requests of all tasks come in waves, and the second node computes them with
//! sequences of different adapters side by side, of one adapter at a time, or of one full model at a time.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use super::split::wire_bytes_of_frame;
use crate::wire::HEADER_BYTES;

/// What such a study does beyond what all do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdaptersSpec {
    /// The tasks, each of which has an adapter of that name.
    pub tasks: Vec<String>,
    /// Requests that come at a time.
    pub wave: u32,
    /// Waves of each arm at each setting.
    pub repetitions: u32,
    /// How long after a wave its answers must be there.
    pub deadline_ns: u64,
}

/// What a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serving {
    /// Sequences of different adapters, in the order in which they came.
    Together,
    /// Sequences of one adapter at a time; the next adapter's when none of it is left.
    Switched,
    /// The same with full models in place of adapters.
    Merged,
}

impl Serving {
    /// All of them.
    pub const ALL: [Serving; 3] = [Serving::Together, Serving::Switched, Serving::Merged];

    /// Its name in experiments and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Serving::Together => "together",
            Serving::Switched => "switched",
            Serving::Merged => "merged",
        }
    }

    /// Which of those who wait is computed next: `waiting` are their tasks in the order in which they came,
    /// `running` is the task of those in the batch, if there are any. `None` if nobody may enter.
    #[must_use]
    pub fn next(self, waiting: &[u32], running: Option<u32>) -> Option<usize> {
        match (self, running) {
            (Serving::Together, _) | (_, None) => (!waiting.is_empty()).then_some(0),
            (Serving::Switched | Serving::Merged, Some(running)) => {
                waiting.iter().position(|task| *task == running)
            }
        }
    }
}

/// An arm of such a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AdapterServing {
    /// What a batch may hold.
    pub serving: Serving,
    /// The most sequences of a pass.
    pub batch: u32,
}

impl AdapterServing {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        format!("{} of {}", self.serving.name(), self.batch)
    }
}

/// What crossed the link so that the second node could serve a task. Times are offsets from T0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsDelivery {
    /// The task.
    pub task: u32,
    /// Whether a full model came, or the adapter alone.
    pub whole: bool,
    /// The round trip that was asked for of the link.
    pub round_trip_ns: u64,
    /// Its rate.
    pub rate_bps: u64,
    /// Parameters of what came, as the second node counted them in the header of its file.
    pub parameters: u64,
    /// What they should be by the formula, from the model's description and the adapter's rank.
    pub formula_parameters: u64,
    /// Bytes of those parameters.
    pub parameter_bytes: u64,
    /// Bytes of the files, descriptions and headers included.
    pub file_bytes: u64,
    /// Frames up.
    pub frames: u64,
    /// Bytes up, as the second node counted them.
    pub up: u64,
    /// When its first byte was sent.
    pub started_ns: u64,
    /// When the second node said that it can serve the task.
    pub ended_ns: u64,
    /// How long it took to load what had come, its slowdown included.
    pub load_ns: u64,
}

/// A request of a wave. Times are offsets from T0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveRequest {
    /// Its task.
    pub task: u32,
    /// Which of the task's prompts.
    pub prompt: u32,
    /// When it was sent.
    pub sent_ns: u64,
    /// When each token was there.
    pub token_ns: Vec<u64>,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Bytes to the second node, headers included.
    pub up: u64,
    /// Bytes from it.
    pub down: u64,
}

impl WaveRequest {
    /// Whether all its tokens were there within so long of `from_ns`.
    #[must_use]
    pub fn in_budget(&self, output_tokens: u32, (from_ns, deadline_ns): (u64, u64)) -> bool {
        let complete = u32::try_from(self.tokens.len()) == Ok(output_tokens);
        let last = self.token_ns.last().filter(|_| complete);
        last.is_some_and(|last| *last <= from_ns.saturating_add(deadline_ns))
    }
}

/// A wave of requests with one arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveRecord {
    /// Its number within the study.
    pub number: u32,
    /// The arm.
    pub arm: AdapterServing,
    /// The round trip that was asked for of the link.
    pub round_trip_ns: u64,
    /// Its rate.
    pub rate_bps: u64,
    /// Which of the repetitions; every arm has the same requests in it.
    pub repetition: u32,
    /// When it began.
    pub from_ns: u64,
    /// When its last token was there.
    pub until_ns: u64,
    /// Its requests.
    pub requests: Vec<WaveRequest>,
    /// Passes over the batch, as the second node counted them.
    pub passes: u64,
    /// Sequences of all those passes together.
    pub sequences: u64,
    /// How often a batch was of another task than the one before, likewise.
    pub switches: u64,
    /// Bytes of requests that came to the second node, and that it sent, likewise.
    pub up: u64,
    /// See there.
    pub down: u64,
}

/// What a prompt of a task is answered with, computed alone with the adapter, and how the full model of the task goes
/// along with that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AloneRecord {
    /// The task.
    pub task: u32,
    /// Which of its prompts.
    pub prompt: u32,
    /// The greedy answer, with the adapter, one sequence at a time.
    pub tokens: Vec<u32>,
    /// How near the two largest scores are to each other at each place of it, in millionths of the largest magnitude.
    pub gap_millionths: Vec<u64>,
    /// What the full model of the task says at each place, after the same text; `None` where no arm has any.
    pub merged: Option<Vec<u32>>,
}

/// Scores that are nearer to each other than so many millionths of the largest magnitude may change places by the order
/// of sums alone: a few hundred times what f32 rounds.
pub const CLOSE_MILLIONTHS: u64 = 100;

/// How surprising a task's text is, with some adapter or with none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLossRecord {
    /// Whose text, never trained on.
    pub text: u32,
    /// Whose adapter; `None` for the backbone.
    pub adapter: Option<u32>,
    /// Of each paragraph, tokens that are predicted.
    pub tokens: Vec<u32>,
    /// Of each paragraph, the loss of all of them together, in millionths of a nat.
    pub micronats: Vec<u64>,
}

/// What such a study found, one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterFinding {
    /// Something crossed the link so that a task can be served.
    Delivery(WeightsDelivery),
    /// A wave was served.
    Wave(WaveRecord),
    /// A prompt was answered alone.
    Alone(AloneRecord),
    /// A text was scored.
    Loss(TaskLossRecord),
}

impl AdaptersSpec {
    /// The requests of a wave, each a task and one of its prompts: as many of each task as may be, in an order that
    /// the seed and the repetition alone determine.
    #[must_use]
    pub fn requests(&self, seed: u64, repetition: u32, prompts: u32) -> Vec<(u32, u32)> {
        let tasks = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX).max(1);
        let mut random =
            ChaCha12Rng::seed_from_u64(seed ^ u64::from(repetition).wrapping_mul(0x9e37_79b9));
        let mut wave: Vec<(u32, u32)> = (0..self.wave)
            .map(|number| (number % tasks, random.next_u32() % prompts.max(1)))
            .collect();
        for last in (1..wave.len()).rev() {
            let below = u64::try_from(last + 1).unwrap_or(1);
            let other = (u64::from(random.next_u32()) * below) >> 32;
            wave.swap(last, usize::try_from(other).unwrap_or(0));
        }
        wave
    }
}

/// Bytes of a file that one frame carries at most.
pub const PIECE_BYTES: u64 = 64 << 10;

/// Frames of files with so many bytes each, and the one that has them loaded.
#[must_use]
pub fn delivery_frames(files: &[u64]) -> u64 {
    files
        .iter()
        .map(|bytes| bytes.div_ceil(PIECE_BYTES))
        .sum::<u64>()
        + 1
}

/// What a delivery of files with so many bytes in so many frames puts on the link, headers of frames included.
#[must_use]
pub const fn delivery_bytes(file_bytes: u64, frames: u64) -> u64 {
    file_bytes + frames * HEADER_BYTES
}

/// From a task that the second node cannot serve to one that it can: the bytes at the rate, with the headers of
/// packets, the round trip of an empty frame, and loading what came.
#[must_use]
pub fn cold_start_ns(up: u64, rate_bps: u64, (echo_ns, load_ns): (u64, u64)) -> u64 {
    let bits = u128::from(wire_bytes_of_frame(up.saturating_sub(HEADER_BYTES))) * 8;
    let link = bits * 1_000_000_000 / u128::from(rate_bps.max(1));
    let link = u64::try_from(link).unwrap_or(u64::MAX);
    link.saturating_add(echo_ns).saturating_add(load_ns)
}

/// Bytes of the task in front of a prompt.
pub const TASK_BYTES: u64 = 4;

/// What a request puts on the link, up and down: the task and the prompt, and a frame for each token.
#[must_use]
pub const fn request_bytes(prompt_tokens: u64, output_tokens: u64) -> (u64, u64) {
    (
        HEADER_BYTES + TASK_BYTES + 4 * prompt_tokens,
        output_tokens * (HEADER_BYTES + 4),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_one_task_takes_in_no_other_and_a_mixed_one_takes_the_first() {
        let waiting = [1, 2, 0, 2];
        assert_eq!(Serving::Together.next(&waiting, Some(2)), Some(0));
        assert_eq!(Serving::Switched.next(&waiting, Some(2)), Some(1));
        assert_eq!(Serving::Merged.next(&waiting, Some(3)), None);
        assert_eq!(Serving::Switched.next(&waiting, None), Some(0));
        assert_eq!(Serving::Together.next(&[], None), None);
    }

    #[test]
    fn every_arm_has_the_same_wave_and_every_repetition_another_with_as_many_of_each_task() {
        let spec = AdaptersSpec {
            tasks: ["a", "b", "c"].map(str::to_owned).to_vec(),
            wave: 12,
            repetitions: 1,
            deadline_ns: 1,
        };
        assert_eq!(spec.requests(7, 0, 4), spec.requests(7, 0, 4));
        assert_ne!(spec.requests(7, 0, 4), spec.requests(7, 1, 4));
        for task in 0..3 {
            let wave = spec.requests(7, 2, 4);
            assert_eq!(wave.iter().filter(|(own, _)| *own == task).count(), 4);
            assert!(wave.iter().all(|(_, prompt)| *prompt < 4));
        }
    }

    #[test]
    fn a_delivery_is_its_files_in_pieces_and_takes_their_bytes_at_the_rate() {
        let files = [100, 2 * PIECE_BYTES + 1];
        assert_eq!(delivery_frames(&files), 1 + 3 + 1);
        assert_eq!(delivery_bytes(1000, 5), 1080);
        // One packet: 52 bytes of headers around 80, at 8 kbit/s.
        assert_eq!(cold_start_ns(80, 8000, (7, 5)), 132_000_012);
        assert_eq!(request_bytes(3, 2), (16 + 4 + 12, 40));
    }
}
