//! Radio link monitoring: out of sync, in sync, and failure (TS 38.133 clause 8.1, TS 38.331
//! clause 5.3.10).
//!
//! Qout and Qin stand for a hypothetical control channel that fails in 10 % and 2 % of the cases;
//! what is compared is the wideband SINR, a usual abstraction (TR 36.839 clause 5.2 takes -8 and
//! -6 dB). Out-of-sync and in-sync are told once per indication period.

use super::next_multiple;

/// When a radio link counts as failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RadioLinkSettings {
    /// SINR below which the link is out of sync, in dB.
    pub q_out_db: f64,
    /// SINR above which it is in sync again, in dB.
    pub q_in_db: f64,
    /// Indications out of sync in a row that start the timer.
    pub n310: u32,
    /// Indications in sync in a row that stop it.
    pub n311: u32,
    /// How long the timer runs before the link has failed, in ns.
    pub t310_ns: u64,
    /// Time between indications, in ns.
    pub period_ns: u64,
}

impl Default for RadioLinkSettings {
    /// -8 and -6 dB, N310 1, N311 1, T310 1 s, an indication every 10 ms (TR 36.839 clause 5.2
    /// and the defaults of TS 38.331 clause 9.2.3).
    fn default() -> RadioLinkSettings {
        RadioLinkSettings {
            q_out_db: -8.0,
            q_in_db: -6.0,
            n310: 1,
            n311: 1,
            t310_ns: 1_000_000_000,
            period_ns: 10_000_000,
        }
    }
}

/// What has been indicated so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RadioLinkMonitor {
    out_in_a_row: u32,
    in_in_a_row: u32,
    /// When T310 runs out, if it runs.
    expires_ns: Option<u64>,
    next_ns: u64,
}

impl RadioLinkMonitor {
    /// Starts anew, as after a change of cell.
    pub fn reset(&mut self, now_ns: u64) {
        *self = RadioLinkMonitor {
            next_ns: now_ns,
            ..RadioLinkMonitor::default()
        };
    }

    /// Whether T310 runs.
    #[must_use]
    pub const fn timer_runs(&self) -> bool {
        self.expires_ns.is_some()
    }

    /// Takes the SINR of now in; true when the radio link has failed.
    pub fn update(&mut self, settings: &RadioLinkSettings, now_ns: u64, sinr_db: f64) -> bool {
        if now_ns >= self.next_ns {
            // Indications that fell between two calls are one: nothing was measured then.
            self.next_ns = next_multiple(now_ns, settings.period_ns);
            if sinr_db < settings.q_out_db {
                self.out_in_a_row += 1;
                self.in_in_a_row = 0;
                if self.out_in_a_row >= settings.n310 && self.expires_ns.is_none() {
                    self.expires_ns = Some(now_ns + settings.t310_ns);
                }
            } else if sinr_db > settings.q_in_db {
                self.in_in_a_row += 1;
                self.out_in_a_row = 0;
                if self.in_in_a_row >= settings.n311 {
                    self.expires_ns = None;
                }
            } else {
                (self.out_in_a_row, self.in_in_a_row) = (0, 0);
            }
        }
        self.expires_ns
            .is_some_and(|expires_ns| now_ns >= expires_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The millisecond in which the link fails.
    fn run(sinr_db: impl Fn(f64) -> f64) -> Option<u32> {
        let settings = RadioLinkSettings::default();
        let mut monitor = RadioLinkMonitor::default();
        (0..5_000_u32).find(|&ms| {
            let now_ns = u64::from(ms) * 1_000_000;
            monitor.update(&settings, now_ns, sinr_db(f64::from(ms) / 1e3))
        })
    }

    #[test]
    fn a_link_fails_when_the_timer_runs_out_and_not_when_it_recovers_before() {
        let failed = run(|t_s| if t_s < 0.5 { 0.0 } else { -9.0 });
        assert_eq!(failed, Some(1_500));
        assert_eq!(
            run(|t_s| if (0.5..1.4).contains(&t_s) { -9.0 } else { 0.0 }),
            None
        );
        // Between the thresholds the timer goes on.
        let late = run(|t_s| {
            if t_s < 0.5 {
                0.0
            } else if t_s < 0.6 {
                -9.0
            } else {
                -7.0
            }
        });
        assert!(late.is_some());
        assert_eq!(run(|_| -7.5), None);
    }
}
