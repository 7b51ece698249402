//! What was captured of the links.

use std::collections::BTreeMap;

use hexloop_agent::capture::file_name;
use hexloop_proto::{CaptureOutcome, Direction, LinkCapture};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Summary;
use crate::record::{CAPTURES, CaptureFile};
use crate::results::Results;

/// Why a capture has no account.
const NO_ACCOUNT: &str = "the agent ended before it gave an account of the capture";

/// The capture of one direction of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureSummary {
    /// The link.
    pub link: String,
    /// `down` or `up`.
    pub direction: String,
    /// The file, below the run directory; null where there is none.
    pub file: Option<String>,
    /// Packets in it; where nobody gave an account of it, those in its whole blocks.
    pub packets: Option<u64>,
    /// Packets that passed meanwhile and are not in it; null where nobody gave an account of it.
    pub missed_packets: Option<u64>,
    /// Length of a file that nobody gave an account of, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of those, what is left of a last block that is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_bytes: Option<u64>,
    /// Why there is no file, why it ends early, or why there is no account of it.
    pub reason: Option<String>,
}

pub(super) fn captures(results: &Results) -> Vec<CaptureSummary> {
    results.captures.iter().map(capture).collect()
}

impl Summary {
    /// Adds the captures that nobody gave an account of, as their files were found.
    pub(crate) fn add_unaccounted_captures(
        &mut self,
        found: &BTreeMap<(String, Direction), Option<CaptureFile>>,
    ) {
        let found = found.iter();
        self.captures
            .extend(found.map(|((link, direction), file)| unaccounted(link, *direction, *file)));
    }
}

fn unaccounted(link: &str, direction: Direction, file: Option<CaptureFile>) -> CaptureSummary {
    let cut_bytes = file.map(|file| file.cut_bytes).filter(|bytes| *bytes > 0);
    let reason = match (file, cut_bytes) {
        (None, _) => format!("{NO_ACCOUNT}, and there is no file"),
        (Some(CaptureFile { packets: None, .. }), _) => {
            format!("{NO_ACCOUNT}, and the file has no beginning of one")
        }
        (Some(_), Some(bytes)) => {
            format!("{NO_ACCOUNT}; the file ends within a block, of which it has {bytes} bytes")
        }
        (Some(_), None) => format!("{NO_ACCOUNT}; the file ends with a whole block"),
    };
    CaptureSummary {
        link: link.to_owned(),
        direction: direction.name().to_owned(),
        file: file.map(|_| format!("{CAPTURES}/{}", file_name(link, direction))),
        packets: file.and_then(|file| file.packets),
        missed_packets: None,
        bytes: file.map(|file| file.bytes),
        cut_bytes,
        reason: Some(reason),
    }
}

fn capture(capture: &LinkCapture) -> CaptureSummary {
    let (link, direction) = (capture.link.clone(), capture.direction.name().to_owned());
    match &capture.outcome {
        CaptureOutcome::Written {
            file,
            packets,
            missed_packets,
            cut_short,
        } => CaptureSummary {
            link,
            direction,
            file: Some(format!("{CAPTURES}/{file}")),
            packets: Some(*packets),
            missed_packets: Some(*missed_packets),
            bytes: None,
            cut_bytes: None,
            reason: cut_short.clone(),
        },
        CaptureOutcome::Unavailable { why } => CaptureSummary {
            link,
            direction,
            file: None,
            packets: None,
            missed_packets: None,
            bytes: None,
            cut_bytes: None,
            reason: Some(why.clone()),
        },
    }
}

impl CaptureSummary {
    /// The same in words, without the link.
    pub(crate) fn told(&self) -> String {
        let direction = &self.direction;
        let why = self.reason.as_deref().unwrap_or("nobody says why");
        let (file, packets) = match (&self.file, self.packets, self.bytes) {
            (Some(file), Some(packets), Some(bytes)) => {
                return format!(
                    "{direction} {packets} packets in {file} ({bytes} bytes), perhaps not all: {why}"
                );
            }
            (Some(file), None, Some(bytes)) => {
                return format!("{direction} nothing readable in {file} ({bytes} bytes): {why}");
            }
            (Some(file), Some(packets), None) => (file, packets),
            _ => return format!("{direction} not captured: {why}"),
        };
        let lacking = self.missed_packets.filter(|missed| *missed > 0);
        let lacking = lacking.map_or_else(String::new, |missed| format!(", which lacks {missed}"));
        let early = self.reason.as_ref();
        let early = early.map_or_else(String::new, |why| format!(" and ends early: {why}"));
        format!("{direction} {packets} packets in {file}{lacking}{early}")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture;

    #[test]
    fn captures_without_an_account_are_listed_as_their_files_are() {
        let found = |file| unaccounted("radio", Direction::Up, file);
        let file = |packets, cut_bytes| {
            Some(CaptureFile {
                bytes: 5000,
                packets,
                cut_bytes,
            })
        };
        let whole = found(file(Some(7), 0));
        assert_eq!(whole.file.as_deref(), Some("captures/radio-up.pcapng"));
        assert_eq!((whole.packets, whole.bytes), (Some(7), Some(5000)));
        // Nobody counted them.
        assert_eq!((whole.missed_packets, whole.cut_bytes), (None, None));
        for (capture, told) in [
            (
                whole,
                "up 7 packets in captures/radio-up.pcapng (5000 bytes), perhaps not all: ",
            ),
            (
                found(file(Some(7), 17)),
                "ends within a block, of which it has 17 bytes",
            ),
            (
                found(file(None, 5000)),
                "up nothing readable in captures/radio-up.pcapng",
            ),
            (found(None), "up not captured: the agent ended before"),
        ] {
            assert!(capture.told().contains(told), "{}", capture.told());
        }
    }

    #[test]
    fn only_what_the_events_do_not_account_for_is_looked_at() {
        let mut records = fixture::records();
        let link = records.plan.links[0].name.clone();
        records.results.captures = vec![LinkCapture {
            link: link.clone(),
            direction: Direction::Down,
            outcome: CaptureOutcome::Unavailable {
                why: "datapath tc".to_owned(),
            },
        }];
        let directory = tempfile::tempdir().unwrap();
        let look = || {
            let (plan, results) = (&records.plan, &records.results);
            crate::record::unaccounted_captures(directory.path(), plan, results).unwrap()
        };
        // Nobody asked for captures.
        assert_eq!(look(), BTreeMap::new());
        let captures = directory.path().join(CAPTURES);
        fs::create_dir(&captures).unwrap();
        fs::write(captures.join(file_name(&link, Direction::Down)), "x").unwrap();
        fs::write(captures.join(file_name(&link, Direction::Up)), "x").unwrap();
        let found = look();
        let cut = CaptureFile {
            bytes: 1,
            packets: None,
            cut_bytes: 1,
        };
        let mut of_link = found.iter().filter(|((name, _), _)| *name == link);
        let expected = (&(link.clone(), Direction::Up), &Some(cut));
        assert_eq!((of_link.next(), of_link.next()), (Some(expected), None));
        records.unaccounted = found;
        let summary = records.summary(directory.path());
        let listed = summary
            .captures
            .iter()
            .filter(|capture| capture.link == link);
        let reasons: Vec<_> = listed.map(|capture| capture.reason.as_deref()).collect();
        assert!(
            matches!(reasons[..], [Some("datapath tc"), Some(_)]),
            "{reasons:?}"
        );
    }
}
