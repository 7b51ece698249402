//! A column of table 7.5-6: what it holds, and which one a link needs.

use super::{COUNT, Hall, Parameter, table};
use crate::tr38901::{Condition, Scenario, SpecVersion};

/// A value of table 7.5-6 as a function of the carrier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Formula {
    /// A constant.
    Fixed(f64),
    /// slope log10(fc) + constant.
    Of([f64; 2]),
    /// slope log10(1 + fc) + constant.
    OfOnePlus([f64; 2]),
    /// log10(a V/S + b) + constant.
    Hall([f64; 3]),
}

impl Formula {
    pub(super) fn at(self, carrier_ghz: f64, hall: Option<Hall>) -> Option<f64> {
        Some(match self {
            Formula::Fixed(value) => value,
            Formula::Of([slope, constant]) => slope * libm::log10(carrier_ghz) + constant,
            Formula::OfOnePlus([slope, constant]) => {
                slope * libm::log10(1.0 + carrier_ghz) + constant
            }
            Formula::Hall([slope, inner, constant]) => {
                let hall = hall?;
                libm::log10(slope * (hall.volume_m3 / hall.surface_m2) + inner) + constant
            }
        })
    }
}

/// Cluster delay spread, `c_DS`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ClusterDelay {
    Unspecified,
    Ns(f64),
    /// max(0.25, 6.5622 - 3.4084 log10(fc)) ns.
    FallsWithCarrier,
}

/// One column of table 7.5-6 (a row of the CSV file): mean and standard deviation of each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Column {
    pub(super) ds: [Formula; 2],
    pub(super) asd: [Formula; 2],
    pub(super) asa: [Formula; 2],
    pub(super) zsa: [Formula; 2],
    pub(super) k: Option<[f64; 2]>,
    /// In the order of [`PAIRS`].
    pub(super) correlations: [f64; 21],
    pub(super) delay_scaling: f64,
    pub(super) xpr: [f64; 2],
    pub(super) clusters: u32,
    pub(super) cluster_ds: ClusterDelay,
    /// ASD, ASA, ZSA.
    pub(super) cluster_spreads_deg: [f64; 3],
    pub(super) cluster_shadowing_db: f64,
    /// In the order of [`Parameter`]; 1 m for a K factor that there is not.
    pub(super) distances_m: [f64; COUNT],
}

/// Which pairs the 21 cross-correlations of the table are of, in its order.
pub(super) const PAIRS: [(Parameter, Parameter); 21] = {
    use Parameter::{Asa, Asd, DelaySpread as Ds, K, Shadowing as Sf, Zsa, Zsd};
    [
        (Asd, Ds),
        (Asa, Ds),
        (Asa, Sf),
        (Asd, Sf),
        (Ds, Sf),
        (Asd, Asa),
        (Asd, K),
        (Asa, K),
        (Ds, K),
        (Sf, K),
        (Zsd, Sf),
        (Zsa, Sf),
        (Zsd, K),
        (Zsa, K),
        (Zsd, Ds),
        (Zsa, Ds),
        (Zsd, Asd),
        (Zsa, Asd),
        (Zsd, Asa),
        (Zsa, Asa),
        (Zsd, Zsa),
    ]
};

pub(super) fn column(
    scenario: Scenario,
    condition: Condition,
    spec: SpecVersion,
) -> Option<&'static Column> {
    use Condition::{Los, Nlos, O2i};
    use SpecVersion::{V16_1, V19_4};
    Some(match (scenario, condition, spec) {
        (Scenario::Umi, Los, V19_4) => &table::UMI_LOS,
        (Scenario::Umi, Los, V16_1) => &table::UMI_LOS_V16_1,
        (Scenario::Umi, Nlos, V19_4) => &table::UMI_NLOS,
        (Scenario::Umi, Nlos, V16_1) => &table::UMI_NLOS_V16_1,
        (Scenario::Umi, O2i, _) => &table::UMI_O2I,
        (Scenario::Uma, Los, V19_4) => &table::UMA_LOS,
        (Scenario::Uma, Los, V16_1) => &table::UMA_LOS_V16_1,
        (Scenario::Uma, Nlos, V19_4) => &table::UMA_NLOS,
        (Scenario::Uma, Nlos, V16_1) => &table::UMA_NLOS_V16_1,
        (Scenario::Uma, O2i, V19_4) => &table::UMA_O2I,
        (Scenario::Uma, O2i, V16_1) => &table::UMA_O2I_V16_1,
        (Scenario::Rma, Los, _) => &table::RMA_LOS,
        (Scenario::Rma, Nlos, _) => &table::RMA_NLOS,
        (Scenario::Rma, O2i, _) => &table::RMA_O2I,
        (Scenario::Sma, _, V16_1) => return None,
        (Scenario::Sma, Los, _) => &table::SMA_LOS,
        (Scenario::Sma, Nlos, _) => &table::SMA_NLOS,
        (Scenario::Sma, O2i, _) => &table::SMA_O2I,
        (Scenario::InhOpen | Scenario::InhMixed, Los, _) => &table::OFFICE_LOS,
        (Scenario::InhOpen | Scenario::InhMixed, Nlos, _) => &table::OFFICE_NLOS,
        (Scenario::InfHh, Nlos, _) => return None,
        (_, O2i, _) => return None,
        (_, Los, _) => &table::FACTORY_LOS,
        (_, Nlos, _) => &table::FACTORY_NLOS,
    })
}

pub(super) fn correlations(column: &Column) -> [[f64; COUNT]; COUNT] {
    let mut matrix = [[0.0; COUNT]; COUNT];
    for (at, row) in matrix.iter_mut().enumerate() {
        row[at] = 1.0;
    }
    for ((one, other), value) in PAIRS.into_iter().zip(column.correlations) {
        matrix[one as usize][other as usize] = value;
        matrix[other as usize][one as usize] = value;
    }
    matrix
}

/// Cholesky's decomposition. Every matrix of the table is positive definite; a test holds it.
pub(super) fn square_root(matrix: &[[f64; COUNT]; COUNT]) -> [[f64; COUNT]; COUNT] {
    let mut root = [[0.0; COUNT]; COUNT];
    for row in 0..COUNT {
        for column in 0..=row {
            let known: f64 = root[row][..column]
                .iter()
                .zip(&root[column][..column])
                .map(|(one, other)| one * other)
                .sum();
            let rest = matrix[row][column] - known;
            root[row][column] = if row == column {
                libm::sqrt(rest)
            } else {
                rest / root[column][column]
            };
        }
    }
    root
}
