//! The capture of a run's links: which can be captured, when, and what the record says of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hexloop_proto::{CaptureOutcome, Direction, EventBody, LinkCapture};
use hexloop_topologies::plan::{LinkPlan, RelayModePlan};

use super::error::PlayError;
use super::sink::EventSink;
use crate::capture::{Capture, Captured, LinkFiles, PreparedCapture, Room, file_name};
use crate::link::{Link, LinkDescription, RelayMode};

/// Where packets are to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureWish {
    /// A directory that exists.
    pub directory: PathBuf,
    /// Bytes of its file system that captures leave free.
    pub keep_free_bytes: u64,
}

/// Whether a link may be shown to a capture: one that asks for another mode than exact would be
/// refused, as a capture acts on packets.
pub(super) const fn may_be_seen(link: &LinkPlan) -> bool {
    matches!(link.mode, RelayModePlan::Exact)
}

/// Why a link cannot be captured, if it cannot.
fn why_not(link: &LinkDescription) -> Option<String> {
    match (link.datapath, link.mode) {
        ("relay", Some(RelayMode::Exact)) => None,
        ("relay", mode) => {
            let mode = mode.map_or("", RelayMode::name);
            Some(format!(
                "in mode {mode} the relay passes packets on without looking at them; mode exact is \
                 captured"
            ))
        }
        (datapath, _) => Some(format!(
            "on datapath {datapath} the kernel keeps the packets' times; the relay is captured"
        )),
    }
}

/// The captures of a plan's links.
#[derive(Debug)]
pub(super) struct LinkCaptures {
    running: Capture,
    /// Every link by its number, and why it is not captured, if it is not.
    links: Vec<(String, Option<String>)>,
}

impl LinkCaptures {
    /// Makes the files of all links that can be captured, and tells of those that cannot.
    /// Captures nothing yet.
    pub(super) fn start(
        wish: &CaptureWish,
        prepared: PreparedCapture,
        made: &[(String, Link)],
        events: &EventSink,
    ) -> Result<LinkCaptures, PlayError> {
        let system = |action| move |source| PlayError::System { action, source };
        let room = Room::leaving(wish.keep_free_bytes);
        let room = room.map_err(system("find out how large a capture may be"))?;
        let mut files = BTreeMap::new();
        let mut links = Vec::new();
        for (number, (name, link)) in made.iter().enumerate() {
            let why = why_not(&link.description()).or_else(|| {
                match LinkFiles::create(&wish.directory, name, room) {
                    Ok(made) => {
                        files.insert(number, made);
                        None
                    }
                    Err(error) => Some(format!("its files cannot be made: {error}")),
                }
            });
            if let Some(why) = &why {
                let message = format!("link {name} is not captured: {why}");
                events.emit(EventBody::Warning { message });
            }
            links.push((name.clone(), why));
        }
        let running = prepared.start(files);
        let running = running.map_err(system("start the thread that writes captures"))?;
        Ok(LinkCaptures { running, links })
    }

    /// Captures from here on, or no longer.
    pub(super) fn set_open(&self, is_open: bool) {
        self.running.set_open(is_open);
    }

    /// Ends the captures and records what came of them.
    pub(super) fn finish(self, events: &EventSink) {
        let written = self.running.finish();
        for (number, (link, why)) in self.links.iter().enumerate() {
            for (side, direction) in Direction::BOTH.into_iter().enumerate() {
                let captured = match (&written, why) {
                    (_, Some(why)) => Err(why.clone()),
                    (Err(error), None) => Err(error.to_string()),
                    (Ok(written), None) => {
                        let files = written.get(&number);
                        let files = files.map(|files| files[side].clone());
                        files.ok_or_else(|| "its writer gave no account of it".to_owned())
                    }
                };
                if let Some(message) = complaint(link, direction, &captured) {
                    events.emit(EventBody::Warning { message });
                }
                events.emit(EventBody::Captured(LinkCapture {
                    link: link.clone(),
                    direction,
                    outcome: outcome(link, direction, captured),
                }));
            }
        }
    }
}

/// What readers must know who take the file for all that passed.
fn complaint(
    link: &str,
    direction: Direction,
    captured: &Result<Captured, String>,
) -> Option<String> {
    let Ok(captured) = captured else {
        // That was told when it was found out.
        return None;
    };
    let (missed, direction) = (captured.missed, direction.name());
    match &captured.cut_short {
        Some(why) => Some(format!(
            "the capture of link {link} {direction} ends early and lacks {missed} packets: {why}"
        )),
        None if missed > 0 => Some(format!(
            "the capture of link {link} {direction} lacks {missed} packets, which came faster than \
             they could be written"
        )),
        None => None,
    }
}

fn outcome(link: &str, direction: Direction, captured: Result<Captured, String>) -> CaptureOutcome {
    match captured {
        Ok(captured) => CaptureOutcome::Written {
            file: file_name(link, direction),
            packets: captured.packets,
            missed_packets: captured.missed,
            cut_short: captured.cut_short,
        },
        Err(why) => CaptureOutcome::Unavailable { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_relay_plays_packet_by_packet_is_captured() {
        let why = |datapath, mode| {
            why_not(&LinkDescription {
                datapath,
                mode,
                reason: String::new(),
                scheduling: String::new(),
            })
        };
        assert_eq!(why("relay", Some(RelayMode::Exact)), None);
        for (datapath, mode, named) in [
            ("relay", Some(RelayMode::LowLatency), "mode low-latency"),
            ("relay", Some(RelayMode::Bulk), "mode bulk"),
            ("tc", None, "datapath tc"),
            ("edt", None, "datapath edt"),
        ] {
            let told = why(datapath, mode).unwrap();
            assert!(told.contains(named), "{told}");
        }
    }

    #[test]
    fn what_a_capture_lacks_is_told_by_the_name_of_its_link() {
        let captured = |missed, cut_short: Option<&str>| {
            Ok(Captured {
                packets: 9,
                missed,
                cut_short: cut_short.map(str::to_owned),
            })
        };
        let told = |captured: &_| complaint("radio", Direction::Up, captured);
        assert_eq!(told(&captured(0, None)), None);
        for (captured, parts) in [
            (captured(3, None), ["radio up", "3 packets", "faster"]),
            (
                captured(4, Some("no room")),
                ["radio up", "4 packets", "no room"],
            ),
        ] {
            let text = told(&captured).unwrap();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
