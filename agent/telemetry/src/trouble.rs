//! Why there is no value.

/// Why a meter gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The source does not know this quantity.
    #[error("{source_name} does not support {what}")]
    NotSupported {
        /// The source.
        source_name: String,
        /// The quantity.
        what: String,
    },
    /// The user may not read it.
    #[error("no permission to read {what}; {remedy}")]
    NoPermission {
        /// The counter or file.
        what: String,
        /// What gives the permission.
        remedy: String,
    },
    /// The device was there and is no longer.
    #[error("{device} is lost: {reason}")]
    Lost {
        /// The device.
        device: String,
        /// What the driver said.
        reason: String,
    },
    /// The counter went back without having reached its range.
    #[error(
        "the energy counter of {device} went back from {before_uj} to {after_uj} uJ: it was reset"
    )]
    Reset {
        /// The device.
        device: String,
        /// The value before.
        before_uj: u64,
        /// The value after.
        after_uj: u64,
    },
    /// Too much time between two looks: the counter may have turned over unseen.
    #[error("the counter of {device} was not read for {gap_ns} ns and may have turned over unseen")]
    MissedWrap {
        /// The device.
        device: String,
        /// How long nobody looked.
        gap_ns: u64,
    },
    /// The window is shorter than the counter can resolve.
    #[error(
        "the window of {device} spans {refreshes} refreshes of its counter (one per {} ms); \
         at least {needed} are needed", period_ms(*.period_ns)
    )]
    TooShort {
        /// The device.
        device: String,
        /// Refreshes that the window spans.
        refreshes: u64,
        /// What is needed.
        needed: u64,
        /// The measured refresh period.
        period_ns: u64,
    },
    /// The counter did not move at all.
    #[error("the counter of {device} stood still for {span_ns} ns")]
    StoodStill {
        /// The device.
        device: String,
        /// For how long.
        span_ns: u64,
    },
    /// Its turn has not come: reading it is dear, and it is read less often than others.
    #[error("the counter of {device} is read every {} ms, because a reading of it is dear",
        period_ms(*.period_ns))]
    NotDue {
        /// The device.
        device: String,
        /// Time between readings of it.
        period_ns: u64,
    },
    /// Reading it failed in another way.
    #[error("cannot read {what}: {reason}")]
    Failed {
        /// The counter or file.
        what: String,
        /// Why.
        reason: String,
    },
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn period_ms(period_ns: u64) -> f64 {
    (period_ns as f64 / 1e4).round() / 1e2
}
