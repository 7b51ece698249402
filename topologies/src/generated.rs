//! Generated traces: from their section of the experiment file to the generator's settings.

use hexloop_traces::{Trace, TraceError};

use crate::check::Reporter;
use crate::experiment::TraceSource;
use crate::section::Section;

/// Settings of the street generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreetSettings {
    /// Length.
    pub duration_ns: u64,
}

pub(crate) fn street(_reporter: &mut Reporter<'_>, section: &Section<'_>) -> TraceSource {
    TraceSource::Street(StreetSettings {
        duration_ns: section.time_ns("duration"),
    })
}

pub(crate) fn generate(_settings: &StreetSettings, _seed: u64) -> Result<Trace, TraceError> {
    Err(TraceError::Empty)
}

pub(crate) fn parse(_text: &str) -> Result<Trace, TraceError> {
    Err(TraceError::Empty)
}

pub(crate) fn canonical(_trace: &Trace) -> String {
    String::new()
}
