//! What the edge knows of requests that are not in the batch yet, and what it decides about them: at once, in the
//! thread that hears of one, while the engine computes.

use std::collections::VecDeque;

use super::{Order, wire_id};
use crate::clock::{self, MonotonicNs};
use crate::serve::connection::{ConnectionError, Frame, FrameWriter, Stream};
use crate::serve::signal::Socket;
use crate::study::shared::policy::{self, Places, Policy, Waiting};
use crate::wire::FrameKind;

/// Uploads that are under way at a time where the edge says when: while one is, the next user hears that it may
/// send, so that the links are never without work.
const UPLOADS: usize = 2;

/// A user's connection.
pub(super) struct Client {
    pub(super) writer: FrameWriter<Stream>,
    /// Ends its reader when dropped.
    pub(super) _socket: Socket,
}

/// What only the engine can do.
#[derive(Debug)]
pub(super) enum Task {
    /// Say what computing costs.
    Measure,
    /// Begin a round.
    Begin(Order),
    /// End it, and give account.
    End,
}

/// A prompt that has come.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) user: usize,
    pub(super) id: u32,
    pub(super) deadline_ns: MonotonicNs,
    pub(super) tokens: Vec<u32>,
    pub(super) output: u32,
}

/// A request that asks to upload, or does.
#[derive(Debug)]
struct Asking {
    user: usize,
    id: u32,
    deadline_ns: MonotonicNs,
    /// When the upload will have come; `None` before it may be sent.
    there_ns: Option<MonotonicNs>,
}

#[derive(Default)]
pub(super) struct Desk {
    pub(super) clients: Vec<Option<Client>>,
    pub(super) tasks: VecDeque<(usize, Task)>,
    pub(super) order: Option<Order>,
    /// When each place of the batch becomes free, and how long one is taken.
    pub(super) places: Places,
    asking: Vec<Asking>,
    ready: VecDeque<Prompt>,
    /// Bytes of frames of requests.
    pub(super) up: u64,
    pub(super) down: u64,
    /// Whether everybody has gone.
    pub(super) over: bool,
}

impl Desk {
    pub(super) fn write(
        &mut self,
        (user, kind, id): (usize, FrameKind, u32),
        position: u32,
        body: &[u8],
    ) -> Result<u64, ConnectionError> {
        match self.clients.get_mut(user).and_then(Option::as_mut) {
            Some(client) => client.writer.write(kind, id, position, body),
            // It has gone, and wants to hear nothing more.
            None => Ok(0),
        }
    }

    /// A frame of a request, which is counted.
    pub(super) fn answer(
        &mut self,
        to: (usize, FrameKind, u32),
        position: u32,
        body: &[u8],
    ) -> Result<(), ConnectionError> {
        let written = self.write(to, position, body)?;
        self.down += written;
        Ok(())
    }

    /// Begins a round with empty books.
    pub(super) fn begin(&mut self, order: Order, places: Places) {
        self.order = Some(order);
        self.places = places;
        self.asking.clear();
        self.ready.clear();
        (self.up, self.down) = (0, 0);
    }

    /// Forgets everything that waits.
    pub(super) fn end(&mut self) {
        self.order = None;
        self.asking.clear();
        self.ready.clear();
    }

    fn is_of_round(&self, id: u32) -> bool {
        let number = self.order.as_ref().map(|order| order.number);
        number.is_some_and(|number| wire_id(number, id) == id)
    }

    /// Somebody asks whether to upload.
    pub(super) fn asked(&mut self, user: usize, frame: &Frame) -> Result<(), ConnectionError> {
        let id = frame.header.request;
        let deadline = frame.body.first_chunk::<8>();
        let deadline = deadline.ok_or_else(|| frame.content_error("it holds no deadline"))?;
        if !self.is_of_round(id) {
            return Ok(());
        }
        self.up += crate::wire::HEADER_BYTES + u64::from(frame.header.body_bytes);
        let deadline_ns = self.leaves_by(user, u64::from_le_bytes(*deadline));
        self.asking.push(Asking {
            user,
            id,
            deadline_ns,
            there_ns: None,
        });
        self.decide()
    }

    /// By when the last token must leave to be there in time.
    fn leaves_by(&self, user: usize, deadline_ns: u64) -> u64 {
        let echo = self
            .order
            .as_ref()
            .and_then(|order| order.echo_ns.get(user));
        deadline_ns.saturating_sub(echo.copied().unwrap_or(0) / 2)
    }

    /// A prompt has come.
    pub(super) fn came(&mut self, mut prompt: Prompt, bytes: u64) -> Result<(), ConnectionError> {
        if !self.is_of_round(prompt.id) {
            return Ok(());
        }
        self.up += bytes;
        prompt.deadline_ns = self.leaves_by(prompt.user, prompt.deadline_ns);
        self.asking.retain(|asking| asking.id != prompt.id);
        self.ready.push_back(prompt);
        self.decide()
    }

    /// The next to be computed, if anybody waits.
    pub(super) fn next(&mut self) -> Option<Prompt> {
        if self.order.as_ref()?.policy == Policy::Fcfs {
            return self.ready.pop_front();
        }
        let ready = self.ready.iter().enumerate();
        let first = ready.min_by_key(|(_, it)| (it.deadline_ns, it.id));
        let index = first.map(|(index, _)| index)?;
        self.ready.remove(index)
    }

    /// Refuses whom the policy refuses, and lets the next upload come.
    pub(super) fn decide(&mut self) -> Result<(), ConnectionError> {
        let Some(policy) = self.order.as_ref().map(|order| order.policy) else {
            return Ok(());
        };
        if policy == Policy::Fcfs {
            return Ok(());
        }
        let now = clock::now();
        let ready = self.ready.iter().map(|prompt| Waiting {
            key: u64::from(prompt.id),
            deadline_ns: prompt.deadline_ns,
            upload_ns: 0,
            uploaded_ns: Some(0),
        });
        let asking = self.asking.iter().map(|asking| Waiting {
            key: u64::from(asking.id),
            deadline_ns: asking.deadline_ns,
            upload_ns: self.upload_ns(asking.user),
            uploaded_ns: asking.there_ns,
        });
        let waiting: Vec<Waiting> = ready.chain(asking).collect();
        for key in policy::refused(now, &waiting, &self.places) {
            self.refuse(key)?;
        }
        if policy.asks() {
            self.let_upload(now)?;
        }
        Ok(())
    }

    fn upload_ns(&self, user: usize) -> u64 {
        let order = self.order.as_ref();
        let time = order.and_then(|order| order.upload_ns.get(user));
        time.copied().unwrap_or(0)
    }

    /// One whose upload is under way is not refused before that has come.
    fn refuse(&mut self, key: u64) -> Result<(), ConnectionError> {
        let asks = |it: &Asking| u64::from(it.id) == key && it.there_ns.is_none();
        let user = if let Some(index) = self.asking.iter().position(asks) {
            Some(self.asking.remove(index).user)
        } else {
            let ready = self.ready.iter().position(|it| u64::from(it.id) == key);
            ready.and_then(|index| Some(self.ready.remove(index)?.user))
        };
        let Some((user, id)) = user.zip(u32::try_from(key).ok()) else {
            return Ok(());
        };
        self.answer((user, FrameKind::Refused, id), 0, &[])
    }

    fn let_upload(&mut self, now: MonotonicNs) -> Result<(), ConnectionError> {
        loop {
            let under_way = self.asking.iter().filter_map(|it| it.there_ns);
            let (count, last) = under_way.fold((0, now), |(count, last), there| {
                (count + 1, there.max(last))
            });
            let asking = self.asking.iter().enumerate();
            let waiting = asking.filter(|(_, it)| it.there_ns.is_none());
            let next = waiting.min_by_key(|(_, it)| (it.deadline_ns, it.id));
            let Some((index, user)) = next.map(|(index, it)| (index, it.user)) else {
                return Ok(());
            };
            if count >= UPLOADS {
                return Ok(());
            }
            let there = last.saturating_add(self.upload_ns(user));
            let Some(asking) = self.asking.get_mut(index) else {
                return Ok(());
            };
            asking.there_ns = Some(there);
            let id = asking.id;
            self.answer((user, FrameKind::Grant, id), 0, &[])?;
        }
    }
}
