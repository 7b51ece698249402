//! What a relayed link is best at.

use hexloop_topologies::plan::RelayModePlan;

/// How a relayed link is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModeChoice {
    /// Low latency where nothing acts on packets, else exact.
    #[default]
    Auto,
    /// As [`RelayMode::LowLatency`], or not at all.
    LowLatency,
    /// As [`RelayMode::Exact`].
    Exact,
    /// As [`RelayMode::Bulk`], or not at all.
    Bulk,
}

impl From<RelayModePlan> for ModeChoice {
    fn from(planned: RelayModePlan) -> ModeChoice {
        match planned {
            RelayModePlan::LowLatency => ModeChoice::LowLatency,
            RelayModePlan::Exact => ModeChoice::Exact,
            RelayModePlan::Bulk => ModeChoice::Bulk,
        }
    }
}

/// How a relayed link works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayMode {
    /// Packets pass at once, and super-packets whole.
    LowLatency,
    /// Every packet leaves at its due time; super-packets are cut into packets first.
    Exact,
    /// Packets pass in blocks, up to some milliseconds late: for many small ones.
    Bulk,
}

impl RelayMode {
    /// Its name in the record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RelayMode::LowLatency => "low-latency",
            RelayMode::Exact => "exact",
            RelayMode::Bulk => "bulk",
        }
    }
}

/// The mode for what is asked; `acts` says whether anything acts on packets one by one.
pub(crate) fn choose(choice: ModeChoice, acts: bool) -> Result<RelayMode, &'static str> {
    match (choice, acts) {
        (ModeChoice::Auto | ModeChoice::LowLatency, false) => Ok(RelayMode::LowLatency),
        (ModeChoice::Bulk, false) => Ok(RelayMode::Bulk),
        (ModeChoice::Auto, true) | (ModeChoice::Exact, _) => Ok(RelayMode::Exact),
        (ModeChoice::LowLatency, true) => Err(
            "mode low-latency passes packets through, but the trace, a fault or a capture acts on \
             each; choose mode exact or auto",
        ),
        (ModeChoice::Bulk, true) => Err(
            "mode bulk passes packets through, but the trace, a fault or a capture acts on each; \
             choose mode exact or auto",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_packets_one_by_one_needs_the_exact_mode() {
        assert_eq!(choose(ModeChoice::Auto, false), Ok(RelayMode::LowLatency));
        assert_eq!(choose(ModeChoice::Auto, true), Ok(RelayMode::Exact));
        assert_eq!(choose(ModeChoice::Exact, false), Ok(RelayMode::Exact));
        assert_eq!(choose(ModeChoice::Bulk, false), Ok(RelayMode::Bulk));
        assert!(choose(ModeChoice::Bulk, true).is_err());
        assert!(choose(ModeChoice::LowLatency, true).is_err());
    }
}
