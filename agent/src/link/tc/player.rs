//! The thread that plays a trace on queueing disciplines: it sets the rows of the trace when
//! their time has come, looks at the classes in between, and steers their bytes.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use hexloop_workloads::clock;

use super::LinkError;
use super::playing::Playing;
use super::stage::Stage;
use crate::link::histogram::NanosecondHistogram;
use crate::link::netlink::RouteSocket;
use crate::link::relay::{Play, Played};
use crate::link::remote::Order;

/// Between two commands the thread looks up this often; a command wakes it.
const IDLE: Duration = Duration::from_secs(1);

/// A command is noticed within this time while a trace plays.
const LONGEST_SLEEP_NS: u64 = 20_000_000;

pub(super) enum Command {
    Play(Box<Play>),
    Change(Order),
    Stop(SyncSender<Result<TcPlayed, LinkError>>),
    Quit,
}

/// What was played, and how far the bytes were from the trace.
#[derive(Debug)]
pub(super) struct TcPlayed {
    pub(super) played: Played,
    /// See [`super::TcPlayer::largest_error_bytes`].
    pub(super) largest_error_bytes: [u64; 2],
}

pub(super) struct Worker {
    /// In the namespace of all the stages' interfaces.
    socket: RouteSocket,
    /// In the order of [`hexloop_traces::Direction::BOTH`].
    stages: [Stage; 2],
    inbox: Receiver<Command>,
    playing: Option<Playing>,
}

impl Worker {
    pub(super) const fn new(
        socket: RouteSocket,
        stages: [Stage; 2],
        inbox: Receiver<Command>,
    ) -> Worker {
        Worker {
            socket,
            stages,
            inbox,
            playing: None,
        }
    }

    pub(super) fn run(mut self) {
        while self.obey() {
            let Some(playing) = &self.playing else {
                thread::park_timeout(IDLE);
                continue;
            };
            let due = playing.due();
            let now = clock::now();
            if due > now {
                clock::sleep_until(due.min(now + LONGEST_SLEEP_NS));
                if clock::now() < due {
                    continue;
                }
            }
            self.stand_still();
            self.act();
        }
    }

    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Play(play)) => self.start(play),
                Ok(Command::Change(order)) => {
                    let made = self.change(&order);
                    let _ = order.reply.send(made);
                }
                Ok(Command::Stop(reply)) => {
                    let played = self.finish();
                    // The asker may have given up waiting.
                    let _ = reply.send(played);
                }
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn start(&mut self, play: Box<Play>) {
        let mut playing = Playing::new(play);
        for stage in &mut self.stages {
            if let Err(failure) = stage.start(&mut self.socket, playing.play.seed) {
                playing.failure = Some(failure);
            }
        }
        self.playing = Some(playing);
    }

    /// Changes what is played; `None` if nothing is.
    fn change(&mut self, order: &Order) -> Result<Option<u64>, LinkError> {
        let Some(playing) = &mut self.playing else {
            return Ok(None);
        };
        let made = playing.change(&mut self.socket, &mut self.stages, order);
        made.map(Some)
    }

    fn finish(&mut self) -> Result<TcPlayed, LinkError> {
        let playing = self.playing.take();
        let mut cleared = Ok(());
        for stage in &mut self.stages {
            cleared = cleared.and(stage.clear(&mut self.socket));
        }
        let [down, up] = &self.stages;
        let largest_error_bytes = [down.largest_error_bytes(), up.largest_error_bytes()];
        let Some(playing) = playing else {
            cleared?;
            let empty = NanosecondHistogram::new;
            return Ok(TcPlayed {
                played: Played::undisturbed([empty(), empty()], 0),
                largest_error_bytes,
            });
        };
        if let Some(failure) = playing.failure {
            return Err(failure);
        }
        cleared?;
        let late_start_ns = playing.late_start_ns;
        let played = Played::undisturbed(
            playing.sides.map(|side| side.lateness),
            clock::thread_cpu_ns().saturating_sub(playing.cpu_at_start_ns),
        );
        Ok(TcPlayed {
            played: Played {
                late_start_ns,
                ..played
            },
            largest_error_bytes,
        })
    }

    /// A fault: the thread does nothing for a while.
    fn stand_still(&mut self) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        if let Some((from, until)) = playing.play.pause
            && clock::now() >= playing.play.t0 + from
        {
            playing.play.pause = None;
            clock::sleep_until(playing.play.t0 + until);
        }
    }

    /// Does what is due. After a failure nothing is changed any more; the failure is the
    /// answer to the end of the playback.
    fn act(&mut self) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        if playing.failure.is_some() {
            playing.give_up();
            return;
        }
        if let Err(failure) = playing.act(&mut self.socket, &mut self.stages) {
            playing.failure = Some(failure);
        }
    }
}
