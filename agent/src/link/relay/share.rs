//! How the CPU time of a thread that serves many links is shared among them: by the packets and
//! errands that it did for each.

/// The work of one thread.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    /// All work so far.
    pub(crate) total: u64,
}

/// One link's part of it since some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    cpu_at_start_ns: u64,
    total_at_start: u64,
    own: u64,
}

impl Meter {
    /// Begins an account.
    pub(crate) const fn begin(&self, cpu_ns: u64) -> Share {
        Share {
            cpu_at_start_ns: cpu_ns,
            total_at_start: self.total,
            own: 0,
        }
    }

    /// Books work for one link.
    pub(crate) const fn note(&mut self, share: Option<&mut Share>, work: u64) {
        self.total += work;
        if let Some(share) = share {
            share.own += work;
        }
    }
}

impl Share {
    /// This link's part of the CPU time since the account began.
    pub(crate) fn cpu_ns(&self, meter: Meter, cpu_ns: u64) -> u64 {
        let used = cpu_ns.saturating_sub(self.cpu_at_start_ns);
        let total = meter.total.saturating_sub(self.total_at_start).max(1);
        let part = u128::from(used) * u128::from(self.own) / u128::from(total);
        u64::try_from(part).unwrap_or(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_two_links_make_the_whole() {
        let mut meter = Meter { total: 1000 };
        let (mut one, mut two) = (meter.begin(50), meter.begin(50));
        meter.note(Some(&mut one), 30);
        meter.note(Some(&mut two), 10);
        assert_eq!(one.cpu_ns(meter, 450), 300);
        assert_eq!(two.cpu_ns(meter, 450), 100);
        meter.note(None, 40);
        assert_eq!(two.cpu_ns(meter, 450), 50);
    }
}
