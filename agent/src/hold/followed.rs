//! How well a holder follows its trace: told in a file of the state directory whenever somebody signals
//! that he wants to know, and with the holder's last word.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hexloop_proto::LateHistogram;
use hexloop_workloads::clock;
use serde::{Deserialize, Serialize};

use super::renew::{LOOK, write};
use super::shaping::FollowedSoFar;
use crate::guardian::HeldLink;
use crate::link::scheduling::Scheduling;
use crate::link::tc::interface::SteeredDirection;
use crate::sys::realtime;

/// How long a holder may take to answer: one that does not move is not waited for.
const ANSWER_LIMIT_NS: u64 = 1_000_000_000;

/// How well a holder has followed its trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// Since when the interface is shaped, in nanoseconds since 1970: tells this holder from others.
    pub since_unix_ns: u64,
    /// When this was told, in nanoseconds since the machine was started.
    pub at_boot_ns: u64,
    /// How the thread that follows the trace is scheduled, in words; `None` where nothing ever changes.
    pub scheduling: Option<String>,
    /// How long after its moment each row was in force that was entered.
    pub lateness: LateHistogram,
    /// Rows that were over before they could be entered.
    pub rows_left_out: u64,
    /// What became of the bytes; empty where the rates of a trace are all the same, which nobody steers.
    pub directions: Vec<SteeredDirection>,
}

impl Followed {
    pub(super) fn now(
        since_unix_ns: u64,
        scheduling: Option<&Scheduling>,
        so_far: FollowedSoFar,
    ) -> Followed {
        let is_demoted = realtime::demoted_threads() > 0;
        let in_words = |got: &Scheduling| {
            if is_demoted {
                let got = &got.description;
                format!("SCHED_OTHER since it ran for 2 s without a pause ({got} before)")
            } else {
                got.description.clone()
            }
        };
        let FollowedSoFar {
            lateness,
            rows_left_out,
            directions,
        } = so_far;
        Followed {
            since_unix_ns,
            at_boot_ns: clock::since_boot_ns(),
            scheduling: scheduling.map(in_words),
            lateness,
            rows_left_out,
            directions,
        }
    }
}

pub(super) fn place(state: &Path, interface: &str) -> PathBuf {
    state.join("followed").join(format!("{interface}.json"))
}

/// The holder's side. It is late for as long as writing takes, which its account then says.
pub(super) fn tell(state: &Path, interface: &str, followed: &Followed) {
    // Who does not hear it waits in vain, and not for long.
    let _ = write(&place(state, interface), followed);
}

fn read(path: &Path) -> io::Result<Followed> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// Asks the process that holds an interface how well it follows the trace; `None` where it is not
/// confirmed yet, or does not answer.
#[must_use]
pub fn followed(held: &HeldLink, state: &Path) -> Option<Followed> {
    if !held.is_alive || !held.held.confirmed {
        return None;
    }
    let asked_boot_ns = clock::since_boot_ns();
    if !held.owner.signal(LOOK).is_ok_and(|sent| sent) {
        return None;
    }
    let path = place(state, &held.held.interface.name);
    let is_answer = |followed: &Followed| {
        followed.since_unix_ns == held.held.since_unix_ns && followed.at_boot_ns >= asked_boot_ns
    };
    let deadline = clock::now() + ANSWER_LIMIT_NS;
    loop {
        let answer = read(&path).ok().filter(is_answer);
        if answer.is_some() || clock::now() >= deadline || !held.owner.is_alive() {
            return answer;
        }
        clock::sleep_until(clock::now() + 5_000_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::histogram::NanosecondHistogram;

    #[test]
    fn what_a_holder_tells_is_read_as_it_was_written() {
        let state = tempfile::tempdir().unwrap();
        let mut lateness = NanosecondHistogram::new();
        lateness.record(7);
        let so_far = FollowedSoFar {
            lateness: lateness.summary(),
            rows_left_out: 3,
            directions: Vec::new(),
        };
        let scheduling = Scheduling {
            description: "SCHED_FIFO 20 on any CPU".to_owned(),
            cpus: vec![0],
        };
        let told = Followed::now(9, Some(&scheduling), so_far);
        tell(state.path(), "eth9", &told);
        let read = read(&place(state.path(), "eth9")).unwrap();
        assert_eq!(read, told);
        assert_eq!((read.lateness.max_ns, read.rows_left_out), (Some(7), 3));
    }
}
