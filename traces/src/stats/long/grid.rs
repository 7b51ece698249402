//! A quantity on an even grid of moments, for correlations.

/// The most points of a grid.
const MOST_POINTS: u64 = 1 << 20;

/// The finest step: 1 ms.
const FINEST_NS: u64 = 1_000_000;

/// The points that are looked at for a decay.
const DECAY_POINTS: usize = 1 << 16;

/// The mean of a quantity in every step of time, weighted by time.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    step_ns: u64,
    duration_ns: u64,
    /// Sum of value x ns, and ns.
    bins: Vec<(f64, u64)>,
    /// Whether the quantity was once not a number.
    broken: bool,
}

impl Grid {
    pub(super) const fn new(duration_ns: u64) -> Grid {
        let step_ns = duration_ns.div_ceil(MOST_POINTS);
        let step_ns = if step_ns > FINEST_NS {
            step_ns
        } else {
            FINEST_NS
        };
        Grid {
            step_ns,
            duration_ns,
            bins: Vec::new(),
            broken: false,
        }
    }

    pub(super) const fn step_ns(&self) -> u64 {
        self.step_ns
    }

    /// The quantity has no value for a while: there is no correlation.
    pub(super) const fn forget(&mut self) {
        self.broken = true;
    }

    #[expect(clippy::cast_precision_loss, reason = "sums for a correlation")]
    pub(super) fn add(&mut self, from_ns: u64, until_ns: u64, value: f64) {
        if self.broken {
            return;
        }
        let mut from_ns = from_ns;
        while from_ns < until_ns {
            let bin = from_ns / self.step_ns;
            let end_ns = (bin + 1).saturating_mul(self.step_ns).min(until_ns);
            // At most 2^20 bins by the choice of the step.
            let index = usize::try_from(bin).unwrap_or(usize::MAX);
            if index >= self.bins.len() {
                self.bins.resize(index + 1, (0.0, 0));
            }
            let (sum, ns) = &mut self.bins[index];
            *sum += value * (end_ns - from_ns) as f64;
            *ns += end_ns - from_ns;
            from_ns = end_ns;
        }
    }

    /// The values without their mean, if all are known and they differ.
    #[expect(clippy::cast_precision_loss, reason = "means for a correlation")]
    fn centred(&self, most: usize) -> Option<Vec<f64>> {
        let expected = self.duration_ns.div_ceil(self.step_ns);
        let whole = u64::try_from(self.bins.len()).is_ok_and(|bins| bins == expected);
        if self.broken || !whole || self.bins.iter().any(|&(_, ns)| ns == 0) {
            return None;
        }
        let bins = self.bins.iter().take(most);
        let mut values: Vec<f64> = bins.map(|&(sum, ns)| sum / ns as f64).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let mut largest = 0.0_f64;
        for value in &mut values {
            *value -= mean;
            largest = largest.max(value.abs());
        }
        (largest > mean.abs() * 1e-12).then_some(values)
    }

    /// The correlation of the quantity with itself `lag_ns` later. None where the step does not
    /// divide it, fewer than twice as many points as the lag has are there, or nothing changes.
    pub(super) fn correlation(&self, lag_ns: u64) -> Option<f64> {
        let lag = usize::try_from(lag_ns / self.step_ns).ok()?;
        // On a coarser grid the nearest lag would be another one by up to half a step.
        if lag_ns < 10 * self.step_ns && !lag_ns.is_multiple_of(self.step_ns) {
            return None;
        }
        let values = self.centred(usize::MAX)?;
        (values.len() >= 2 * lag && lag > 0).then(|| correlation(&values, lag))
    }

    /// The first lag at which the correlation is below one half, to 1 %.
    pub(super) fn decay_ns(&self) -> Option<u64> {
        let values = self.centred(DECAY_POINTS)?;
        let most = values.len() / 2;
        let next = |lag: &usize| Some(lag + (lag / 100).max(1)).filter(|&lag| lag < most);
        let mut lags = std::iter::successors(Some(1).filter(|&lag| lag < most), next);
        let lag = lags.find(|&lag| correlation(&values, lag) < 0.5)?;
        u64::try_from(lag).ok()?.checked_mul(self.step_ns)
    }
}

fn correlation(values: &[f64], lag: usize) -> f64 {
    let power: f64 = values.iter().map(|value| value * value).sum();
    let shared: f64 = values
        .iter()
        .zip(values.iter().skip(lag))
        .map(|(earlier, later)| earlier * later)
        .sum();
    shared / power
}
