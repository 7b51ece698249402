//! Amounts of bits, as exact as the integral of a rate.

use crate::curve::PER_BIT;

/// What a link has carried since T0, exactly: in bits x 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Carried(u128);

impl Carried {
    /// So many bits.
    #[must_use]
    pub const fn of_bits(bits: u64) -> Carried {
        Carried(bits as u128 * PER_BIT)
    }

    /// What came after `earlier`; nothing if that is more.
    #[must_use]
    pub const fn since(self, earlier: Carried) -> Carried {
        Carried(self.0.saturating_sub(earlier.0))
    }

    /// So many bits x 10^9.
    pub(super) const fn of_integral(integral: u128) -> Carried {
        Carried(integral)
    }

    /// In bits x 10^9.
    pub(super) const fn integral(self) -> u128 {
        self.0
    }

    /// Bits, rounded down.
    #[must_use]
    pub fn whole_bits(self) -> u64 {
        u64::try_from(self.0 / PER_BIT).unwrap_or(u64::MAX)
    }

    /// In bits x 10^9, for comparisons.
    pub(crate) fn as_f64(self) -> f64 {
        // A share of a slot is far below 2^53 bits; what is lost are parts of 10^-9 bit.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let value = self.0 as f64;
        value
    }

    /// What a channel that carries so much in `whole_ns` carries in `ns`, rounded down.
    pub(crate) fn part(self, ns: u64, whole_ns: u64) -> Carried {
        Carried(self.0 * u128::from(ns) / u128::from(whole_ns.max(1)))
    }

    /// How long it takes on a channel that carries `channel` in `whole_ns`, rounded up.
    pub(crate) fn time_on(self, channel: Carried, whole_ns: u64) -> u64 {
        let Some(time) = self.0.checked_mul(u128::from(whole_ns)) else {
            return u64::MAX;
        };
        match channel.0 {
            0 => u64::MAX,
            channel => u64::try_from(time.div_ceil(channel)).unwrap_or(u64::MAX),
        }
    }

    /// So much and `more`.
    #[must_use]
    pub const fn and(self, more: Carried) -> Carried {
        Carried(self.0 + more.0)
    }

    /// So much and `bits` more.
    #[must_use]
    pub fn and_bits(self, bits: u64) -> Carried {
        Carried(self.0 + u128::from(bits) * PER_BIT)
    }

    /// So much and the least that there is.
    #[must_use]
    pub const fn and_the_least(self) -> Carried {
        Carried(self.0 + 1)
    }
}
