//! What early exits and cascades are to be tried with.

use hexloop_traces::units::Share;
use hexloop_workloads::study::own::{Rule, Threshold};

use super::speculative::listed;
use crate::check::Reporter;
use crate::section::Section;

/// The keys that mean something to both of them alone.
pub(super) const KEYS: [&str; 3] = ["thresholds", "patience", "outage"];

/// And to cascades alone.
pub(super) const CASCADE_KEYS: [&str; 1] = ["rules"];

/// Thresholds that are tried where none are given, in parts per million.
const USUAL_PPM: [u32; 5] = [0, 300_000, 500_000, 700_000, 900_000];

/// The thresholds; the remote placement, which is what all are compared with, is always among them.
pub(super) fn thresholds(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Vec<Threshold> {
    let read = |text: &str| match text {
        "remote" => Some(Threshold::REMOTE),
        "device" => Some(Threshold::DEVICE),
        _ => {
            let share: Share = text.parse().ok()?;
            let least_ppm = share.ppb() / 1000;
            (least_ppm <= 1_000_000).then_some(Threshold { least_ppm })
        }
    };
    let help = "write a share such as `90 %`, `device` for one that keeps everything, or `remote` for one \
                that keeps nothing";
    let listed = listed(reporter, section, ("thresholds", help), read);
    let usual = || USUAL_PPM.map(|least_ppm| Threshold { least_ppm }).to_vec();
    let mut thresholds = listed.unwrap_or_else(usual);
    thresholds.push(Threshold::REMOTE);
    thresholds.sort_unstable();
    thresholds.dedup();
    thresholds
}

/// What makes an answer of a cascade sure.
pub(super) fn rules(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Vec<Rule> {
    let read = |text: &str| match text {
        "mean" => Some(Rule::Mean),
        "least" => Some(Rule::Least),
        _ => None,
    };
    let help = "write `mean` or `least`";
    let listed = listed(reporter, section, ("rules", help), read);
    listed.unwrap_or_else(|| vec![Rule::Mean])
}
