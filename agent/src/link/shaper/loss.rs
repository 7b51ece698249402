//! Packet loss, independent or in bursts.

use rand_core::Rng;

const PARTS: u64 = 1_000_000_000;

/// The two-state model of Gilbert (Bell System Technical Journal 39, 1960) with every packet of
/// the bad state lost: for a loss share p and a mean burst of b packets the bad state is left
/// with probability 1/b and entered with p / (b (1 - p)).
#[derive(Debug, Default)]
pub(super) struct LossModel {
    bad: bool,
}

impl LossModel {
    /// Whether the next packet is lost, at this loss share (parts per 10^9) and mean burst
    /// length (thousandths of a packet; up to 1000 means independent losses).
    pub(super) fn loses(
        &mut self,
        loss_ppb: u32,
        loss_burst_milli: u32,
        random: &mut impl Rng,
    ) -> bool {
        let loss = u64::from(loss_ppb).min(PARTS);
        if loss == 0 || loss == PARTS {
            self.bad = loss == PARTS;
            return self.bad;
        }
        let drawn = (u64::from(random.next_u32()) * PARTS) >> 32;
        if loss_burst_milli <= 1000 {
            self.bad = drawn < loss;
            return self.bad;
        }
        let leave = PARTS * 1000 / u64::from(loss_burst_milli);
        let enter = leave * loss / (PARTS - loss);
        self.bad = if self.bad {
            drawn >= leave
        } else {
            drawn < enter
        };
        self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_traces::stream;

    fn losses(loss_ppb: u32, burst_milli: u32) -> (f64, f64) {
        let mut random = stream(7, "loss test");
        let mut model = LossModel::default();
        let (mut lost, mut bursts, mut previous) = (0_u32, 0_u32, false);
        for _ in 0..400_000 {
            let now = model.loses(loss_ppb, burst_milli, &mut random);
            lost += u32::from(now);
            bursts += u32::from(now && !previous);
            previous = now;
        }
        (
            f64::from(lost) / 400_000.0,
            f64::from(lost) / f64::from(bursts.max(1)),
        )
    }

    #[test]
    fn independent_loss_has_the_asked_share() {
        let (share, _) = losses(50_000_000, 1000);
        assert!((share - 0.05).abs() < 0.002, "{share}");
    }

    #[test]
    fn bursts_have_the_asked_length_at_the_same_share() {
        let (share, burst) = losses(50_000_000, 4000);
        assert!((share - 0.05).abs() < 0.005, "{share}");
        assert!((burst - 4.0).abs() < 0.2, "{burst}");
    }

    #[test]
    fn nothing_and_everything_need_no_luck() {
        assert!(losses(0, 1000).0 < f64::EPSILON);
        assert!(losses(1_000_000_000, 1000).0 > 1.0 - f64::EPSILON);
    }
}
