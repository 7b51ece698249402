//! The one thread that reads the taps of all links.

use std::fmt;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hexloop_workloads::clock::{self, MonotonicNs};

use super::{DeliveredWindows, StepWatch, TICK_NS, Taps, Watch, Watched};
use crate::link::relay::{Meter, Share};
use crate::link::{LinkError, scheduling};

/// Starts the thread with the first watch, and ends it when it is dropped.
#[derive(Default)]
pub(crate) struct TapStation {
    running: Mutex<Option<Running>>,
}

struct Running {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
    next: u64,
}

enum Order {
    Watch(u64, Box<(Watch, Taps)>, SyncSender<Watched>),
    /// Look at this one now: its playback has ended.
    Look(u64),
}

/// A watch that goes on.
#[derive(Debug)]
pub(crate) struct Watching {
    number: u64,
    link: String,
    orders: Sender<Order>,
    result: Receiver<Watched>,
}

impl fmt::Debug for TapStation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TapStation").finish_non_exhaustive()
    }
}

impl TapStation {
    /// Watches until the shaper has closed its side of the watch's channel.
    pub(crate) fn watch(&self, watch: Watch, taps: Taps) -> Result<Watching, LinkError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match &mut *running {
            Some(running) => running,
            place => place.insert(start(watch.cpu)?),
        };
        let number = running.next;
        running.next += 1;
        let link = watch.link.clone();
        let (done, result) = sync_channel(1);
        let order = Order::Watch(number, Box::new((watch, taps)), done);
        let watching = Watching {
            number,
            link,
            orders: running.orders.clone(),
            result,
        };
        match watching.orders.send(order) {
            Ok(()) => Ok(watching),
            Err(_closed) => Err(watching.gone()),
        }
    }
}

impl Drop for TapStation {
    fn drop(&mut self) {
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { orders, thread, .. }) = running.take() {
            drop(orders);
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Watching {
    fn gone(&self) -> LinkError {
        LinkError::ThreadGone {
            link: self.link.clone(),
            name: "tap",
        }
    }

    /// What was seen, once the playback has ended.
    pub(crate) fn finish(self) -> Result<Watched, LinkError> {
        // A thread that is gone shows in the answer.
        let _ = self.orders.send(Order::Look(self.number));
        self.result.recv().map_err(|_closed| self.gone())
    }
}

fn start(cpu: Option<u32>) -> Result<Running, LinkError> {
    let (orders, inbox) = channel();
    let name = "hx-tap".to_owned();
    let work = move || {
        scheduling::pin(cpu);
        Reader::default().run(&inbox);
    };
    match thread::Builder::new().name(name.clone()).spawn(work) {
        Ok(thread) => Ok(Running {
            orders,
            thread,
            next: 0,
        }),
        Err(source) => Err(LinkError::Thread { name, source }),
    }
}

struct Active {
    number: u64,
    watch: Watch,
    taps: Taps,
    done: SyncSender<Watched>,
    counts: [DeliveredWindows; 2],
    windows_dropped: u64,
    steps: StepWatch,
    share: Share,
}

#[derive(Default)]
struct Reader {
    active: Vec<Active>,
    meter: Meter,
}

impl Reader {
    fn run(mut self, inbox: &Receiver<Order>) {
        let mut tick: MonotonicNs = 0;
        loop {
            let order = if self.active.is_empty() {
                inbox
                    .recv()
                    .map_err(|_closed| RecvTimeoutError::Disconnected)
            } else {
                inbox.recv_timeout(Duration::from_nanos(tick.saturating_sub(clock::now())))
            };
            match order {
                Ok(Order::Watch(number, watch, done)) => self.begin(number, *watch, done),
                Ok(Order::Look(number)) => self.look(|active| active.number == number),
                Err(RecvTimeoutError::Timeout) => {
                    self.look(|_| true);
                    tick = clock::now() + TICK_NS;
                }
                // Nobody is left who could wait for a watch.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if clock::now() >= tick {
                self.look(|_| true);
                tick = clock::now() + TICK_NS;
            }
        }
    }

    fn begin(&mut self, number: u64, (watch, taps): (Watch, Taps), done: SyncSender<Watched>) {
        self.active.push(Active {
            number,
            watch,
            taps,
            done,
            counts: [DeliveredWindows::default(), DeliveredWindows::default()],
            windows_dropped: 0,
            steps: StepWatch::new(),
            share: self.meter.begin(clock::thread_cpu_ns()),
        });
    }

    /// Looks at some of them, and takes those out that have ended.
    fn look(&mut self, which: impl Fn(&Active) -> bool) {
        let mut place = 0;
        while place < self.active.len() {
            let active = &mut self.active[place];
            if which(active) && active.look(&mut self.meter) {
                let active = self.active.swap_remove(place);
                active.end(self.meter);
            } else {
                place += 1;
            }
        }
    }
}

impl Active {
    /// Reads what has come in; true when the shaper has ended.
    fn look(&mut self, meter: &mut Meter) -> bool {
        let mut closed = Vec::new();
        let ended = loop {
            match self.watch.from_shaper.try_recv() {
                Ok(window) => closed.push(window),
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        let (t0, window_ns) = (self.watch.t0, self.watch.window_ns);
        let counts = &mut self.counts;
        let mut work = 1;
        // Read after the windows were taken: what belongs to them lies in the ring by now.
        self.taps.read(self.steps.look().0, |side, arrival| {
            work += 1;
            if let Some(since) = arrival.at.checked_sub(t0) {
                counts[side].add(since / window_ns, arrival.ip_bytes, arrival.packets);
            }
        });
        meter.note(Some(&mut self.share), work);
        for window in closed {
            if !self.watch.send(window, &mut self.counts) {
                self.windows_dropped += 1;
            }
        }
        ended
    }

    fn end(self, meter: Meter) {
        let skipped: u64 = self.counts.iter().map(|counts| counts.skipped).sum();
        let watched = Watched {
            missed: self.taps.missed(),
            failures: self.taps.failures(),
            taps: self.taps,
            windows_dropped: self.windows_dropped + skipped,
            clock_step_ns: self.steps.largest_ns,
            cpu_ns: self.share.cpu_ns(meter, clock::thread_cpu_ns()),
        };
        // Whoever asked may have given up.
        let _ = self.done.send(watched);
    }
}
