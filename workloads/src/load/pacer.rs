//! When requests are sent: by a thread that waits on absolute deadlines, and has the next request written before its
//! time comes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use tokio::sync::mpsc::UnboundedSender;

use super::conversation::{Conversation, Question};
use super::draw::of_user;
use super::exchange::Place;
use super::spec::{Arrivals, LoadJobSpec, Think};
use crate::clock::{self, MonotonicNs};

/// A wait that is longer is for answers too; the rest of it is for the clock alone.
const LAST_WAIT_NS: u64 = 200_000;

/// Stands for the user of a conversation of an open loop, in its first turn.
const OPEN: u32 = u32::MAX;

/// The same in later turns.
const LATER: u32 = u32::MAX - 1;

/// A request that is to be sent now.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) place: Place,
    pub(super) conversation: Conversation,
    pub(super) question: Question,
    /// The user of a closed loop.
    pub(super) user: u32,
}

/// A request that is over.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) conversation: Conversation,
    pub(super) user: u32,
    /// When it was over for its user.
    pub(super) at: MonotonicNs,
    /// What was answered; `None` if the request failed.
    pub(super) text: Option<String>,
}

/// What has been sent so far; whoever ends the phase closes it.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) requests: u32,
    pub(super) conversations: u32,
    pub(super) closed: bool,
}

/// A turn that waits for its moment.
#[derive(Debug)]
struct Due {
    at: MonotonicNs,
    order: u64,
    user: u32,
    conversation: Conversation,
    /// Written as soon as it is known what it says, long before its moment.
    question: Question,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// How users of a closed loop go on.
#[derive(Debug)]
struct Users {
    think: Think,
    random: Vec<ChaCha12Rng>,
    /// Whether the next ones begin only when all have ended (MLPerf's multi-stream).
    together: bool,
}

/// The load's clockwork.
#[derive(Debug)]
pub(super) struct Pacer {
    spec: LoadJobSpec,
    t0: MonotonicNs,
    /// Conversations of an open loop that have not begun.
    schedule: VecDeque<u64>,
    users: Option<Users>,
    due: BinaryHeap<Reverse<Due>>,
    under_way: u32,
    /// Conversations that were made up so far.
    made: u32,
    pushed: u64,
    sent: Arc<Mutex<Sent>>,
}

impl Pacer {
    pub(super) fn new(spec: LoadJobSpec, t0: MonotonicNs, sent: Arc<Mutex<Sent>>) -> Pacer {
        let schedule = spec.load.schedule(spec.seed).unwrap_or_default();
        let no_think = Think {
            mean_ns: 0,
            exponential: false,
        };
        let users = match &spec.load.arrivals {
            Arrivals::Closed { users, think } => Some((*users, *think, false)),
            Arrivals::SingleStream => Some((1, no_think, false)),
            Arrivals::MultiStream { samples } => Some((*samples, no_think, true)),
            _ => None,
        };
        let users = users.map(|(count, think, together)| Users {
            think,
            random: (0..count).map(|user| of_user(spec.seed, user)).collect(),
            together,
        });
        let mut pacer = Pacer {
            spec,
            t0,
            schedule: schedule.into(),
            users,
            due: BinaryHeap::new(),
            under_way: 0,
            made: 0,
            pushed: 0,
            sent,
        };
        pacer.all_users(t0);
        pacer.take_from_schedule();
        pacer
    }

    /// Sends everything at its moment, until nothing is left or nobody takes it any more.
    pub(super) fn play(mut self, orders: &UnboundedSender<Order>, back: &Receiver<Back>) {
        while let Some(Reverse(due)) = self.due.pop() {
            if due.user == OPEN {
                // The next one is written while this one waits.
                self.take_from_schedule();
            }
            let conversation = due.conversation;
            clock::sleep_until(due.at.saturating_add(self.spec.send_delay_ns));
            let Some(id) = self.count(conversation.turn == 0) else {
                return;
            };
            let place = Place {
                id,
                conversation: conversation.number,
                turn: conversation.turn,
                scheduled: due.at,
                deadline: due.at.saturating_add(self.spec.load.deadline_ns),
            };
            self.under_way += 1;
            let order = Order {
                place,
                conversation,
                question: due.question,
                user: due.user,
            };
            if orders.send(order).is_err() {
                return;
            }
            while let Ok(back) = back.try_recv() {
                self.take_back(back);
            }
            if !self.wait(back) {
                return;
            }
        }
    }

    /// Takes answers until the next turn is nearly due. Whether there is anything left to do.
    fn wait(&mut self, back: &Receiver<Back>) -> bool {
        loop {
            let now = clock::now();
            let next = self.due.peek().map(|Reverse(due)| due.at);
            let wait = match next {
                Some(at) => at.saturating_sub(now).saturating_sub(LAST_WAIT_NS),
                None if self.under_way == 0 => return false,
                None => u64::MAX,
            };
            if wait == 0 {
                return true;
            }
            let answer = match next {
                Some(_) => back.recv_timeout(Duration::from_nanos(wait)),
                None => back
                    .recv()
                    .map_err(|_closed| RecvTimeoutError::Disconnected),
            };
            match answer {
                Ok(back) => self.take_back(back),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, unless the phase is over.
    fn count(&self, begins: bool) -> Option<u32> {
        let mut sent = self.sent();
        if sent.closed {
            return None;
        }
        let id = sent.requests;
        sent.requests += 1;
        sent.conversations += u32::from(begins);
        Some(id)
    }

    /// Has the next conversation of an open loop wait for its moment.
    fn take_from_schedule(&mut self) {
        if let Some(at) = self.schedule.pop_front() {
            self.push(self.t0.saturating_add(at), OPEN, None);
        }
    }

    fn push(&mut self, at: MonotonicNs, user: u32, conversation: Option<Conversation>) {
        let mut conversation = conversation.unwrap_or_else(|| {
            self.made += 1;
            Conversation::begin(&self.spec.load, self.spec.seed, self.made - 1)
        });
        let question = conversation.ask(&self.spec.load);
        self.pushed += 1;
        let order = self.pushed;
        self.due.push(Reverse(Due {
            at,
            order,
            user,
            conversation,
            question,
        }));
    }

    fn take_back(&mut self, back: Back) {
        self.under_way = self.under_way.saturating_sub(1);
        let mut conversation = back.conversation;
        let answered = back.text.as_deref();
        let pause = answered.and_then(|text| conversation.answered(&self.spec.load, text));
        if let Some(pause_ns) = pause {
            let user = match &self.users {
                Some(_) => back.user,
                None => LATER,
            };
            self.push(back.at.saturating_add(pause_ns), user, Some(conversation));
            return;
        }
        match &self.users {
            Some(users) if !users.together => self.user_thinks(back.user, back.at),
            Some(_) if self.under_way == 0 && self.due.is_empty() => self.all_users(back.at),
            _ => {}
        }
    }

    fn all_users(&mut self, from: MonotonicNs) {
        let count = self.users.as_ref().map_or(0, |users| users.random.len());
        for user in 0..u32::try_from(count).unwrap_or(u32::MAX) {
            self.user_thinks(user, from);
        }
    }

    /// A user begins a conversation after thinking, unless that is after the end of arrivals.
    fn user_thinks(&mut self, user: u32, from: MonotonicNs) {
        let Some(users) = &mut self.users else { return };
        let place = usize::try_from(user).unwrap_or(usize::MAX);
        let Some(random) = users.random.get_mut(place) else {
            return;
        };
        let at = from.saturating_add(users.think.draw(random));
        if at < self.t0.saturating_add(self.spec.load.arrivals_for_ns) {
            self.push(at, user, None);
        }
    }
}
