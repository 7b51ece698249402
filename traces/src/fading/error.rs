//! What fading cannot be made of.

use super::Profile;

/// A setting from which no fading can be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FadingError {
    /// The profiles of TR 38.901 are normalised and need a delay spread.
    #[error(
        "profile {profile} is normalised; give it an rms delay spread, such as 100 ns (TR 38.901 \
         Table 7.7.3-1)"
    )]
    DelaySpreadMissing {
        /// The profile.
        profile: Profile,
    },
    /// The profiles of TS 38.101-4 have delays of their own.
    #[error("profile {profile} has fixed delays; leave the rms delay spread out")]
    DelaySpreadFixed {
        /// The profile.
        profile: Profile,
    },
    /// Only profiles with a line of sight have a K factor.
    #[error("profile {profile} has no line of sight and so no K factor; take D or E")]
    NoLineOfSight {
        /// The profile.
        profile: Profile,
    },
    /// A number outside of what the model means.
    #[error("{setting} is {value}; expected {expected}")]
    OutOfRange {
        /// What was set.
        setting: &'static str,
        /// To what.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// No profile has this name.
    #[error(
        "there is no fading profile {name:?}; expected TDL-A to TDL-E, CDL-A to CDL-E, TDLA30, TDLB100, TDLC300, \
         TDLC60, TDLD30, TDLA10 or TDLD10"
    )]
    UnknownProfile {
        /// The name.
        name: String,
    },
}
