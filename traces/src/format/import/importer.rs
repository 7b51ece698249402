//! The list of importers, and which of them a file is for.

use super::{
    ImportOptions, Recording, cellreplay, dataset, errant, iperf3, lens5g, mahimahi, netem_trace,
    nuwins, pensieve, ping, positions, snr, theaterq,
};
use crate::{Trace, TraceError};

/// One format that can be imported.
#[derive(Debug, Clone, Copy)]
pub struct Importer {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is and which files it takes, in one line.
    pub about: &'static str,
    /// The most files it takes.
    pub most_files: usize,
    /// Whether a file can hardly be anything else.
    pub detect: fn(&Recording<'_>) -> bool,
    /// Makes a trace. There is at least one file and at most `most_files`.
    pub import: fn(&[Recording<'_>], &ImportOptions) -> Result<Trace, TraceError>,
}

/// All of them, in the order in which they are listed.
pub const IMPORTERS: &[Importer] = &[
    mahimahi::IMPORTER,
    cellreplay::IMPORTER,
    netem_trace::IMPORTER,
    theaterq::IMPORTER,
    pensieve::IMPORTER,
    errant::IMPORTER,
    dataset::UCC,
    dataset::LUMOS,
    dataset::TRACKER,
    dataset::RTT,
    dataset::IRTT,
    ping::IMPORTER,
    iperf3::IMPORTER,
    nuwins::IMPORTER,
    lens5g::IMPORTER,
    snr::IMPORTER,
    positions::IMPORTER,
    dataset::TABLE,
];

/// The importer of that name.
#[must_use]
pub fn importer_named(name: &str) -> Option<&'static Importer> {
    IMPORTERS.iter().find(|importer| importer.name == name)
}

/// The importers that a file may be for. One is an answer; several are a question.
#[must_use]
pub fn detect(recording: &Recording<'_>) -> Vec<&'static Importer> {
    IMPORTERS
        .iter()
        .filter(|importer| (importer.detect)(recording))
        .collect()
}
