//! What multimodal splits are to be tried with.

use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::multimodal::{Encoder, MERGES};

use super::integers;
use super::speculative::listed;
use crate::check::Reporter;
use crate::experiment::Technique;
use crate::section::Section;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 2] = ["encoders", "merges"];

/// Keys of others that mean nothing to it.
pub(super) const FOREIGN: [&str; 8] = [
    "cuts",
    "in_flight",
    "drafts",
    "crossing",
    "drawing",
    "held_out_prompts",
    "prompt_tokens",
    "output_tokens",
];

pub(super) fn read(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Technique {
    let encoder = |text: &str| match text {
        "edge" => Some(Encoder::Edge),
        "device" => Some(Encoder::Device),
        _ => None,
    };
    let help = "write `edge` or `device`";
    let encoders = listed(reporter, section, ("encoders", help), encoder)
        .unwrap_or_else(|| vec![Encoder::Edge, Encoder::Device]);
    let help = "write `f32`, `f16`, `int8`, `int4` or `top-k`";
    let codings = listed(reporter, section, ("codings", help), Coding::by_name);
    if codings.is_some() && encoders == [Encoder::Edge] {
        let message = "no visual tokens cross the link, and nothing else is coded".to_owned();
        let help = "add `device` to `encoders`, or leave `codings` away".to_owned();
        reporter.report(section.place("codings"), message, Some(help));
    }
    if section.written("around_percent").is_some() && encoders.len() == 1 {
        let message = "the critical rate is that of an image and of visual tokens".to_owned();
        let help = "give `rates` alone, or both `encoders`".to_owned();
        reporter.report(section.place("around_percent"), message, Some(help));
    }
    Technique::Multimodal {
        encoders,
        merges: merges(reporter, section),
        codings: codings.unwrap_or_else(|| vec![Coding::F32]),
    }
}

/// How many patches become one visual token; each of [`MERGES`] unless given.
fn merges(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Vec<u32> {
    if section.written("merges").is_none() {
        return MERGES.to_vec();
    }
    let mut merges: Vec<u32> = Vec::new();
    for merge in integers(section, "merges", 1) {
        let message = match () {
            () if merges.contains(&merge) => format!("{merge} comes twice"),
            () if !MERGES.contains(&merge) => format!("{merge} patches are no square to merge"),
            () => {
                merges.push(merge);
                continue;
            }
        };
        let help = format!(
            "known squares: {}",
            MERGES.map(|merge| merge.to_string()).join(", ")
        );
        reporter.report(section.place("merges"), message, Some(help));
    }
    merges
}
