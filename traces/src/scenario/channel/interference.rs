//! What arrives of the cells that do not serve, in each subband.

use super::fader::{Fader, FaderSettings, Spreads, Way};
use super::link::SUBBANDS;
use super::sites::PathGain;
use crate::TraceError;

/// A cell that makes up this share of all that disturbs begins to fade, and from twice the share on
/// fades fully. What is weaker makes no difference: the sum of many hardly fades.
const FADES_FROM: f64 = 0.1;

/// The cells that disturb.
#[derive(Debug, Clone)]
pub(super) struct Interference {
    settings: FaderSettings,
    seed: u64,
    user: String,
    /// By cell; made when a cell first matters.
    faders: Vec<Option<Box<Fader>>>,
    /// Cells that fade, with the powers by the direct way and by others.
    fading: Vec<(usize, [f64; 2])>,
    steady_mw: f64,
    sum: [f64; SUBBANDS],
}

/// One cell's part of what disturbs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disturber {
    pub(super) cell: usize,
    pub(super) power_mw: f64,
    pub(super) path: PathGain,
}

impl Interference {
    /// What disturbs that user under a seed, of so many cells.
    pub(super) fn new(
        settings: FaderSettings,
        cells: usize,
        (seed, user): (u64, &str),
    ) -> Interference {
        Interference {
            settings,
            seed,
            user: user.to_owned(),
            faders: vec![None; cells],
            fading: Vec::new(),
            steady_mw: 0.0,
            sum: [0.0; SUBBANDS],
        }
    }

    /// Takes what arrives of each cell beside the user's own noise.
    pub(super) fn gather(
        &mut self,
        noise_mw: f64,
        disturbers: impl Iterator<Item = Disturber> + Clone,
    ) {
        let all_mw = disturbers
            .clone()
            .fold(noise_mw, |sum, disturber| sum + disturber.power_mw);
        self.fading.clear();
        self.steady_mw = 0.0;
        for Disturber {
            cell,
            power_mw,
            path,
        } in disturbers
        {
            let fades = (power_mw / all_mw / FADES_FROM - 1.0).clamp(0.0, 1.0);
            self.steady_mw += power_mw * (1.0 - fades);
            if fades > 0.0 {
                let scale = power_mw * fades / path.total();
                let powers = [path.direct * scale, path.scattered * scale];
                self.fading.push((cell, powers));
            }
        }
    }

    /// The cells that fade, of those gathered.
    pub(super) fn fading(&self) -> impl Iterator<Item = usize> {
        self.fading.iter().map(|(cell, _)| *cell)
    }

    /// The path to a cell that fades has these spreads where the user is, who comes into its reach
    /// in a way that is asked for then.
    pub(super) fn shape(
        &mut self,
        cell: usize,
        spreads: &Spreads,
        way: impl FnOnce() -> Way,
    ) -> Result<(), TraceError> {
        match &mut self.faders[cell] {
            Some(fader) => fader.reshape(spreads),
            none => {
                let entity = format!("{} disturbed by cell {cell}", self.user);
                let key = (self.seed, entity.as_str());
                let fader = Fader::new(&self.settings, spreads, &way(), key)?;
                *none = Some(Box::new(fader));
                Ok(())
            }
        }
    }

    /// What disturbs in each subband, over the whole carrier's width, after a way in metres.
    pub(super) fn spectrum(&mut self, way_m: f64) -> &[f64; SUBBANDS] {
        self.sum.fill(self.steady_mw);
        for (cell, powers) in &self.fading {
            if let Some(fader) = &mut self.faders[*cell] {
                fader.add(way_m, *powers, &mut self.sum);
            }
        }
        &self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::settings::{FadingModel, RadioLink};

    fn interference() -> Interference {
        let radio: RadioLink = toml::from_str(
            "carrier = \"3.5 GHz\"\nbandwidth = \"20 MHz\"\nnumerology = 0\nbase_power = \"30 dBm\"",
        )
        .unwrap();
        let settings = FaderSettings::new(&radio, FadingModel::Tdl, 0.0857);
        Interference::new(settings.of_interference(), 4, (1, "user 0"))
    }

    fn gather(interference: &mut Interference, noise_mw: f64, powers_mw: &[f64]) {
        let path = PathGain {
            scattered: 1e-9,
            ..PathGain::default()
        };
        let disturbers = powers_mw
            .iter()
            .enumerate()
            .map(|(cell, &power_mw)| Disturber {
                cell,
                power_mw,
                path,
            });
        interference.gather(noise_mw, disturbers);
        for cell in interference.fading().collect::<Vec<_>>() {
            let spreads = [(60e-9, Some(9.0)), (200e-9, None)];
            interference.shape(cell, &spreads, Way::default).unwrap();
        }
    }

    #[test]
    fn strong_cells_fade_and_many_weak_ones_do_not() {
        let mut all = interference();
        gather(&mut all, 10.0, &[0.5; 4]);
        for way in 0..10 {
            let steady = |power: &f64| (power - 2.0).abs() < 1e-12;
            assert!(all.spectrum(f64::from(way)).iter().all(steady));
        }
        gather(&mut all, 0.0, &[8.0, 0.5]);
        let (mut sum, mut square) = (0.0, 0.0);
        for way in 0..20_000 {
            let power = all.spectrum(f64::from(way) * 1.3)[3];
            assert!(power >= 0.5);
            sum += power / 20_000.0;
            square += power * power / 20_000.0;
        }
        assert!((sum - 8.5).abs() < 0.2, "{sum}");
        // One branch of Rayleigh fading: the deviation is the mean of what fades.
        let deviation = libm::sqrt(square - sum * sum);
        assert!((deviation - 8.0).abs() < 0.3, "{deviation}");
    }

    #[test]
    fn a_cell_that_grows_begins_to_fade_without_a_step() {
        let mut all = interference();
        let mut last: Option<f64> = None;
        for tenths in 0..100 {
            let power_mw = f64::from(tenths) * 0.1;
            gather(&mut all, 10.0, &[power_mw]);
            let now = all.spectrum(1.0)[0];
            let step = now - last.unwrap_or(now);
            assert!(step.abs() < 0.6, "{power_mw}: {step}");
            last = Some(now);
        }
    }
}
