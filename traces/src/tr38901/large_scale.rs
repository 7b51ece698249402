//! Large-scale parameters: clause 7.5 step 4, tables 7.5-6 to 7.5-12.
//!
//! Delay spread, angular spreads, K factor and shadowing of a link, their distributions, how they
//! depend on each other and how far along a track they stay alike.

mod column;
mod table;
mod zenith;

use column::{ClusterDelay, Formula, column, correlations, square_root};

use super::path_loss::{Geometry, PathLoss};
use super::{Condition, Scenario, SpecVersion, shadowing};

/// How many parameters there are.
pub const COUNT: usize = 7;

/// The parameters in the order of step 4, which is that of the vectors and matrices here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Parameter {
    /// Shadowing in dB; positive is more received power.
    Shadowing = 0,
    /// K factor in dB.
    K = 1,
    /// log10 of the delay spread in s.
    DelaySpread = 2,
    /// log10 of the azimuth spread of departure in degrees.
    Asd = 3,
    /// log10 of the azimuth spread of arrival in degrees.
    Asa = 4,
    /// log10 of the zenith spread of departure in degrees.
    Zsd = 5,
    /// log10 of the zenith spread of arrival in degrees.
    Zsa = 6,
}

/// The dimensions of a factory hall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hall {
    /// Its volume.
    pub volume_m3: f64,
    /// Its walls, floor and ceiling together.
    pub surface_m2: f64,
}

impl Hall {
    /// A hall of that length, width and height in metres.
    #[must_use]
    pub const fn cuboid(length_m: f64, width_m: f64, height_m: f64) -> Hall {
        Hall {
            volume_m3: length_m * width_m * height_m,
            surface_m2: 2.0 * (length_m * width_m + length_m * height_m + width_m * height_m),
        }
    }

    /// The hall of the calibration, table 7.8-7; that table has none for `InF-HH`, which gets the
    /// larger one.
    #[must_use]
    pub const fn usual(scenario: Scenario) -> Option<Hall> {
        match scenario {
            Scenario::InfSl | Scenario::InfDh => Some(Hall::cuboid(120.0, 60.0, 10.0)),
            Scenario::InfDl | Scenario::InfSh | Scenario::InfHh => {
                Some(Hall::cuboid(300.0, 150.0, 10.0))
            }
            _ => None,
        }
    }
}

/// Why there are no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoParameters {
    /// The table has no such column.
    #[error("TR 38.901 v{spec} has no large-scale parameters of {scenario} {condition}")]
    NoColumn {
        /// The scenario.
        scenario: Scenario,
        /// The condition.
        condition: Condition,
        /// The version.
        spec: SpecVersion,
    },
    /// A factory's delay spread depends on its hall.
    #[error("the delay spread of {scenario} needs the hall's volume and surface")]
    NoHall {
        /// The scenario.
        scenario: Scenario,
    },
}

/// The distribution of a link's large-scale parameters at one carrier.
#[derive(Debug, Clone, PartialEq)]
pub struct LargeScale {
    path_loss: PathLoss,
    condition: Condition,
    /// The carrier that the table is read at.
    table_ghz: f64,
    /// Means and standard deviations; those of shadowing and ZSD depend on the place and stand in
    /// functions.
    mean: [f64; COUNT],
    sigma: [f64; COUNT],
    has_k: bool,
    distances_m: [f64; COUNT],
    /// Lower triangular square root of the cross-correlations.
    root: [[f64; COUNT]; COUNT],
    clusters: Clusters,
}

/// What the steps after step 4 need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clusters {
    /// `N`.
    pub count: u32,
    /// `M`.
    pub rays: u32,
    /// `r_tau`.
    pub delay_scaling: f64,
    /// `c_DS`; `None` where the table has none.
    pub delay_spread_ns: Option<f64>,
    /// `c_ASD`, `c_ASA` and `c_ZSA`.
    pub spreads_deg: [f64; 3],
    /// `zeta`.
    pub shadowing_db: f64,
    /// Mean and standard deviation of the cross-polarisation ratio.
    pub xpr_db: [f64; 2],
}

/// Large-scale parameters of a link at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LargeScaleSample {
    /// Shadowing; positive is more received power than the path loss says (note 3 of the table).
    pub shadowing_db: f64,
    /// K factor; only in line of sight.
    pub k_db: Option<f64>,
    /// Delay spread.
    pub delay_spread_s: f64,
    /// Azimuth spread of departure, at most 104 degrees.
    pub asd_deg: f64,
    /// Azimuth spread of arrival, at most 104 degrees.
    pub asa_deg: f64,
    /// Zenith spread of departure, at most 52 degrees.
    pub zsd_deg: f64,
    /// Zenith spread of arrival, at most 52 degrees.
    pub zsa_deg: f64,
}

/// The carrier at which the table's formulas are read: below 2 GHz in `UMi`, and below 6 GHz in
/// `UMa` and `InH`, that frequency (notes of table 7.5-6).
#[must_use]
pub fn table_carrier_ghz(scenario: Scenario, carrier_ghz: f64) -> f64 {
    match scenario {
        Scenario::Umi => carrier_ghz.max(2.0),
        Scenario::Uma | Scenario::InhOpen | Scenario::InhMixed => carrier_ghz.max(6.0),
        _ => carrier_ghz,
    }
}

impl LargeScale {
    /// The parameters of a link in that condition. Factories need their hall.
    ///
    /// # Errors
    /// The version's table has no such column, or the hall is missing.
    pub fn new(
        scenario: Scenario,
        condition: Condition,
        spec: SpecVersion,
        carrier_ghz: f64,
        hall: Option<Hall>,
    ) -> Result<LargeScale, NoParameters> {
        let column = column(scenario, condition, spec).ok_or(NoParameters::NoColumn {
            scenario,
            condition,
            spec,
        })?;
        let table_ghz = table_carrier_ghz(scenario, carrier_ghz);
        let at = |formula: Formula| {
            formula
                .at(table_ghz, hall)
                .ok_or(NoParameters::NoHall { scenario })
        };
        let k = column.k.unwrap_or([0.0, 0.0]);
        let mut mean = [0.0, k[0], 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut sigma = [0.0, k[1], 0.0, 0.0, 0.0, 0.0, 0.0];
        for (parameter, [of_mean, of_sigma]) in [
            (Parameter::DelaySpread, column.ds),
            (Parameter::Asd, column.asd),
            (Parameter::Asa, column.asa),
            (Parameter::Zsa, column.zsa),
        ] {
            mean[parameter as usize] = at(of_mean)?;
            sigma[parameter as usize] = at(of_sigma)?;
        }
        let zsd = zenith::sigma(scenario, condition, table_ghz);
        sigma[Parameter::Zsd as usize] = zsd;
        Ok(LargeScale {
            path_loss: PathLoss::new(scenario, carrier_ghz),
            condition,
            table_ghz,
            mean,
            sigma,
            has_k: column.k.is_some(),
            distances_m: column.distances_m,
            root: square_root(&correlations(column)),
            clusters: Clusters {
                count: column.clusters,
                rays: 20,
                delay_scaling: column.delay_scaling,
                delay_spread_ns: match column.cluster_ds {
                    ClusterDelay::Unspecified => None,
                    ClusterDelay::Ns(ns) => Some(ns),
                    ClusterDelay::FallsWithCarrier => {
                        Some((6.5622 - 3.4084 * libm::log10(table_ghz)).max(0.25))
                    }
                },
                spreads_deg: column.cluster_spreads_deg,
                shadowing_db: column.cluster_shadowing_db,
                xpr_db: column.xpr,
            },
        })
    }

    /// The condition whose parameters these are.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        self.condition
    }

    /// Mean and standard deviation of log10(DS / 1 s).
    #[must_use]
    pub const fn delay_spread(&self) -> (f64, f64) {
        let at = Parameter::DelaySpread as usize;
        (self.mean[at], self.sigma[at])
    }

    /// Mean and standard deviation of a parameter at a place, in the units of [`Parameter`].
    #[must_use]
    pub fn distribution(&self, parameter: Parameter, geometry: &Geometry) -> (f64, f64) {
        let at = parameter as usize;
        let scenario = self.path_loss.scenario();
        match parameter {
            Parameter::Shadowing => (0.0, self.shadowing_sigma_db(geometry)),
            Parameter::Zsd => {
                let mean = zenith::mean(scenario, self.condition, self.table_ghz, geometry);
                (mean, self.sigma[at])
            }
            _ => (self.mean[at], self.sigma[at]),
        }
    }

    /// Standard deviation of the shadowing at a place, in dB.
    #[must_use]
    pub fn shadowing_sigma_db(&self, geometry: &Geometry) -> f64 {
        shadowing::sigma_db(self.condition, &self.path_loss, geometry).unwrap_or(0.0)
    }

    /// Offset of the zenith angle of departure in degrees, tables 7.5-7 to 7.5-12.
    #[must_use]
    pub fn zod_offset_deg(&self, geometry: &Geometry) -> f64 {
        let scenario = self.path_loss.scenario();
        zenith::offset_deg(scenario, self.condition, self.table_ghz, geometry)
    }

    /// The distances in metres over which the parameters' autocorrelations fall to 1/e.
    #[must_use]
    pub const fn correlation_distances_m(&self) -> [f64; COUNT] {
        self.distances_m
    }

    /// What the steps after step 4 need.
    #[must_use]
    pub const fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Shadowing in dB from independent standard normal numbers; positive is more received power.
    /// Shadowing is the first of the vector and depends on the first number alone.
    #[must_use]
    pub fn shadowing_db(&self, geometry: &Geometry, normal: f64) -> f64 {
        self.shadowing_sigma_db(geometry) * normal
    }

    /// The cross-correlated standard normal numbers that belong to independent ones.
    #[must_use]
    pub fn correlate(&self, independent: &[f64; COUNT]) -> [f64; COUNT] {
        let mut out = [0.0; COUNT];
        for (at, row) in self.root.iter().enumerate() {
            out[at] = row
                .iter()
                .zip(independent)
                .take(at + 1)
                .map(|(weight, number)| weight * number)
                .sum();
        }
        out
    }

    /// Delay spread in seconds, and K factor in dB where there is one, from independent standard
    /// normal numbers. Neither depends on the place.
    #[must_use]
    pub fn spreads(&self, independent: &[f64; COUNT]) -> (f64, Option<f64>) {
        let value = |parameter: Parameter| {
            let at = parameter as usize;
            let parts = self.root[at].iter().zip(independent);
            let number: f64 = parts.map(|(weight, number)| weight * number).sum();
            self.mean[at] + self.sigma[at] * number
        };
        let delay_spread_s = libm::exp10(value(Parameter::DelaySpread));
        (delay_spread_s, self.has_k.then(|| value(Parameter::K)))
    }

    /// The parameters at a place from independent standard normal numbers.
    #[must_use]
    pub fn sample(&self, geometry: &Geometry, independent: &[f64; COUNT]) -> LargeScaleSample {
        let numbers = self.correlate(independent);
        let value = |parameter: Parameter| {
            let (mean, sigma) = self.distribution(parameter, geometry);
            mean + sigma * numbers[parameter as usize]
        };
        let spread = |parameter, most: f64| libm::exp10(value(parameter)).min(most);
        LargeScaleSample {
            shadowing_db: value(Parameter::Shadowing),
            k_db: self.has_k.then(|| value(Parameter::K)),
            delay_spread_s: libm::exp10(value(Parameter::DelaySpread)),
            asd_deg: spread(Parameter::Asd, 104.0),
            asa_deg: spread(Parameter::Asa, 104.0),
            zsd_deg: spread(Parameter::Zsd, 52.0),
            zsa_deg: spread(Parameter::Zsa, 52.0),
        }
    }
}

#[cfg(test)]
#[path = "large_scale_tests.rs"]
mod tests;
