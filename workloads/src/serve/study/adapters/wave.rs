//! A wave of requests: who is computed next, and with whom.

use std::collections::VecDeque;

use super::WaveBooks;
use super::stage::Held;
use crate::engine::Slots;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::study::books::WayBack;
use crate::serve::study::door::Refusal;
use crate::study::adapters::{AdapterServing, Serving};
use crate::wire::FrameKind;

/// The most requests of a wave.
const MOST_REQUESTS: u32 = 1 << 10;

struct Request {
    id: u32,
    task: u32,
    prompt: Vec<u32>,
    output: u32,
}

/// A sequence in the batch.
struct Running {
    id: u32,
    task: u32,
    last: u32,
    made: u32,
    output: u32,
}

/// A wave that comes.
pub(super) struct Wave {
    arm: AdapterServing,
    requests: u32,
    positions: u32,
    waiting: VecDeque<Request>,
    books: WaveBooks,
}

impl Wave {
    /// A wave of so many requests, none longer than so many positions with its answer.
    pub(super) fn new(arm: AdapterServing, requests: u32, positions: u32) -> Wave {
        Wave {
            arm,
            requests: requests.min(MOST_REQUESTS),
            positions,
            waiting: VecDeque::new(),
            books: WaveBooks::default(),
        }
    }

    pub(super) const fn arm(&self) -> AdapterServing {
        self.arm
    }

    /// A request has come; what is wrong with it in words.
    pub(super) fn add(
        &mut self,
        id: u32,
        task: u32,
        (prompt, output): (Vec<u32>, u32),
    ) -> Result<(), String> {
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        if length.saturating_add(output) > self.positions {
            return Err("it is longer than the wave's".to_owned());
        }
        self.waiting.push_back(Request {
            id,
            task,
            prompt,
            output,
        });
        Ok(())
    }

    /// So many bytes have come.
    pub(super) const fn came(&mut self, bytes: u64) {
        self.books.up += bytes;
    }

    /// Whether it is all there.
    pub(super) fn is_complete(&self) -> bool {
        u32::try_from(self.waiting.len()) == Ok(self.requests)
    }

    /// Serves it: places of the batch are filled as they become free, and every token is sent when it is there.
    pub(super) fn play(mut self, held: &Held, way_back: &WayBack) -> Result<WaveBooks, Refusal> {
        let mut running: Vec<Running> = Vec::new();
        let mut slots = held.backbone.new_slots(self.arm.batch, self.positions)?;
        let mut before = None;
        loop {
            while self.has_room(&running)
                && let Some(request) = self.next(&running)
            {
                if self.arm.serving != Serving::Together && before != Some(request.task) {
                    self.books.switches += u64::from(before.is_some());
                }
                before = Some(request.task);
                self.begin(request, (held, way_back), (&mut running, &mut slots))?;
            }
            if running.is_empty() {
                return Ok(self.books);
            }
            let next = self.pass(held, &running, &mut slots)?;
            for (running, token) in running.iter_mut().zip(next) {
                running.last = token;
                self.books.down += token_of(way_back, running)?;
                running.made += 1;
            }
            let mut slot = 0;
            while let Some(one) = running.get(slot) {
                if one.made < one.output {
                    slot += 1;
                    continue;
                }
                running.swap_remove(slot);
                let slot = u32::try_from(slot).unwrap_or(u32::MAX);
                held.backbone.empty_slot(&mut slots, slot)?;
            }
        }
    }

    fn has_room(&self, running: &[Running]) -> bool {
        u32::try_from(running.len()).is_ok_and(|count| count < self.arm.batch)
    }

    fn next(&mut self, running: &[Running]) -> Option<Request> {
        let tasks: Vec<u32> = self.waiting.iter().map(|request| request.task).collect();
        let task = running.first().map(|running| running.task);
        let index = self.arm.serving.next(&tasks, task)?;
        self.waiting.remove(index)
    }

    /// Reads a prompt, and gives its sequence a place.
    fn begin(
        &mut self,
        request: Request,
        (held, way_back): (&Held, &WayBack),
        (running, slots): (&mut Vec<Running>, &mut Slots),
    ) -> Result<(), Refusal> {
        let Request {
            id,
            task,
            prompt,
            output,
        } = request;
        let part = self.part(held, task)?;
        let mut cache = part.new_cache();
        let states = match self.arm.serving {
            Serving::Merged => part.carry_tokens(&prompt, &mut cache)?,
            Serving::Together | Serving::Switched => {
                let adapter = held.adapter(task).ok_or_else(gone)?;
                part.carry_adapted(&prompt, &mut cache, adapter)?
            }
        };
        let mut one = Running {
            id,
            task,
            last: part.next_token(&states)?,
            made: 0,
            output,
        };
        self.books.down += token_of(way_back, &one)?;
        one.made = 1;
        if one.made < output {
            part.fill_slot(slots, &cache)?;
            running.push(one);
        }
        Ok(())
    }

    /// The model that a task is computed with.
    fn part<'a>(&self, held: &'a Held, task: u32) -> Result<&'a Part, JobError> {
        match self.arm.serving {
            Serving::Together | Serving::Switched => Ok(&held.backbone),
            Serving::Merged => held.model(task).ok_or_else(gone),
        }
    }

    /// One more token of every sequence.
    fn pass(
        &mut self,
        held: &Held,
        running: &[Running],
        slots: &mut Slots,
    ) -> Result<Vec<u32>, JobError> {
        self.books.passes += 1;
        self.books.sequences += u64::try_from(running.len()).unwrap_or(0);
        let tokens: Vec<u32> = running.iter().map(|running| running.last).collect();
        let Some(first) = running.first() else {
            return Ok(Vec::new());
        };
        let part = self.part(held, first.task)?;
        match self.arm.serving {
            Serving::Merged => {
                let made = part.carry_slots(&tokens, slots)?;
                Ok(made.into_iter().map(|(token, _)| token).collect())
            }
            Serving::Together | Serving::Switched => {
                let (adapters, _) = held.adapter(first.task).ok_or_else(gone)?;
                let places = running.iter().map(|running| {
                    let place = held.adapter(running.task).map(|(_, place)| place);
                    place.ok_or_else(gone).map(Some)
                });
                let places: Vec<Option<u32>> = places.collect::<Result<_, _>>()?;
                part.carry_slots_adapted(&tokens, slots, (adapters, &places))
            }
        }
    }
}

fn token_of(way_back: &WayBack, running: &Running) -> Result<u64, Refusal> {
    let body = token_bytes(&[running.last]);
    way_back.send((FrameKind::Token, running.id), running.made, &body)?;
    let body = u64::try_from(body.len()).unwrap_or(0);
    Ok(crate::wire::HEADER_BYTES + body)
}

fn gone() -> JobError {
    JobError::Spec {
        why: "a task whose weights are not held any more is to be served".to_owned(),
    }
}
