//! Table 7.5-6 of TR 38.901 v19.4.0, and the columns of v16.1 that differ, as numbers.
//!
//! Written from the CSV files in `data/tr38901`; a test reads those and compares.

use super::column::{ClusterDelay, Column, Formula};

pub(super) const UMI_LOS: Column = Column {
    ds: [Formula::OfOnePlus([-0.18, -7.28]), Formula::Fixed(0.39)],
    asd: [
        Formula::OfOnePlus([-0.05, 1.21]),
        Formula::OfOnePlus([0.08, 0.29]),
    ],
    asa: [
        Formula::OfOnePlus([-0.07, 1.66]),
        Formula::OfOnePlus([0.021, 0.26]),
    ],
    zsa: [
        Formula::OfOnePlus([-0.11, 0.81]),
        Formula::OfOnePlus([-0.03, 0.29]),
    ],
    k: Some([9.0, 5.0]),
    correlations: [
        0.5, 0.8, -0.4, -0.5, -0.4, 0.4, -0.2, -0.3, -0.7, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.5,
        0.3, 0.0, 0.0, 0.0,
    ],
    delay_scaling: 3.0,
    xpr: [9.0, 3.0],
    clusters: 12,
    cluster_ds: ClusterDelay::Ns(5.0),
    cluster_spreads_deg: [3.0, 17.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [10.0, 15.0, 7.0, 8.0, 8.0, 12.0, 12.0],
};

pub(super) const UMI_NLOS: Column = Column {
    ds: [
        Formula::OfOnePlus([-0.22, -6.87]),
        Formula::OfOnePlus([0.19, 0.22]),
    ],
    asd: [
        Formula::OfOnePlus([-0.24, 1.54]),
        Formula::OfOnePlus([0.1, 0.33]),
    ],
    asa: [
        Formula::OfOnePlus([-0.07, 1.76]),
        Formula::OfOnePlus([0.05, 0.27]),
    ],
    zsa: [
        Formula::OfOnePlus([-0.03, 0.92]),
        Formula::OfOnePlus([-0.05, 0.35]),
    ],
    k: None,
    correlations: [
        0.0, 0.4, -0.4, 0.0, -0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5, 0.0, 0.5,
        0.5, 0.0, 0.2, 0.0,
    ],
    delay_scaling: 2.1,
    xpr: [8.0, 3.0],
    clusters: 19,
    cluster_ds: ClusterDelay::Ns(11.0),
    cluster_spreads_deg: [10.0, 22.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [13.0, 1.0, 10.0, 10.0, 9.0, 10.0, 10.0],
};

pub(super) const UMI_O2I: Column = Column {
    ds: [Formula::Fixed(-6.62), Formula::Fixed(0.32)],
    asd: [Formula::Fixed(1.25), Formula::Fixed(0.42)],
    asa: [Formula::Fixed(1.76), Formula::Fixed(0.16)],
    zsa: [Formula::Fixed(1.01), Formula::Fixed(0.43)],
    k: None,
    correlations: [
        0.4, 0.4, 0.0, 0.2, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.6, -0.2, -0.2,
        0.0, 0.0, 0.5, 0.5,
    ],
    delay_scaling: 2.2,
    xpr: [9.0, 5.0],
    clusters: 12,
    cluster_ds: ClusterDelay::Ns(11.0),
    cluster_spreads_deg: [5.0, 8.0, 3.0],
    cluster_shadowing_db: 4.0,
    distances_m: [7.0, 1.0, 10.0, 11.0, 17.0, 25.0, 25.0],
};

pub(super) const UMA_LOS: Column = Column {
    ds: [Formula::Of([-0.0794, -7.067]), Formula::Of([0.026, 0.57])],
    asd: [Formula::Fixed(0.92), Formula::Fixed(0.31)],
    asa: [Formula::Fixed(1.76), Formula::Fixed(0.19)],
    zsa: [Formula::Fixed(0.96), Formula::Fixed(0.15)],
    k: Some([9.0, 3.5]),
    correlations: [
        0.4, 0.8, -0.5, -0.5, -0.4, 0.0, 0.0, -0.2, -0.4, 0.0, 0.0, -0.8, 0.0, 0.0, -0.2, 0.0, 0.5,
        0.0, -0.3, 0.4, 0.0,
    ],
    delay_scaling: 2.5,
    xpr: [8.0, 4.0],
    clusters: 12,
    cluster_ds: ClusterDelay::FallsWithCarrier,
    cluster_spreads_deg: [3.58, 11.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [37.0, 12.0, 30.0, 18.0, 15.0, 15.0, 15.0],
};

pub(super) const UMA_NLOS: Column = Column {
    ds: [Formula::Of([-0.134, -6.47]), Formula::Fixed(0.39)],
    asd: [Formula::Fixed(1.09), Formula::Fixed(0.44)],
    asa: [Formula::Of([-0.25, 2.04]), Formula::Of([-0.03, 0.17])],
    zsa: [Formula::Of([-0.2856, 1.445]), Formula::Fixed(0.17)],
    k: None,
    correlations: [
        0.4, 0.6, 0.0, -0.6, -0.4, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0, -0.4, 0.0, 0.0, -0.5, 0.0, 0.5,
        -0.1, 0.0, 0.0, 0.0,
    ],
    delay_scaling: 2.3,
    xpr: [7.0, 3.0],
    clusters: 20,
    cluster_ds: ClusterDelay::FallsWithCarrier,
    cluster_spreads_deg: [1.8, 15.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [50.0, 1.0, 40.0, 50.0, 50.0, 50.0, 50.0],
};

pub(super) const UMA_O2I: Column = Column {
    ds: [Formula::Fixed(-6.62), Formula::Fixed(0.32)],
    asd: [Formula::Fixed(0.58), Formula::Fixed(0.7)],
    asa: [Formula::Fixed(1.76), Formula::Fixed(0.16)],
    zsa: [Formula::Fixed(1.01), Formula::Fixed(0.43)],
    k: None,
    correlations: [
        0.4, 0.4, 0.0, 0.2, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.6, -0.2, -0.2,
        0.0, 0.0, 0.5, 0.5,
    ],
    delay_scaling: 2.2,
    xpr: [9.0, 5.0],
    clusters: 12,
    cluster_ds: ClusterDelay::Ns(11.0),
    cluster_spreads_deg: [1.8, 8.0, 3.0],
    cluster_shadowing_db: 4.0,
    distances_m: [7.0, 1.0, 10.0, 11.0, 17.0, 25.0, 25.0],
};

pub(super) const RMA_LOS: Column = Column {
    ds: [Formula::Fixed(-7.49), Formula::Fixed(0.55)],
    asd: [Formula::Fixed(0.9), Formula::Fixed(0.38)],
    asa: [Formula::Fixed(1.52), Formula::Fixed(0.24)],
    zsa: [Formula::Fixed(0.47), Formula::Fixed(0.4)],
    k: Some([7.0, 4.0]),
    correlations: [
        0.0, 0.0, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, -0.17, 0.0, -0.02, -0.05, 0.27,
        0.73, -0.14, -0.2, 0.24, -0.07,
    ],
    delay_scaling: 3.8,
    xpr: [12.0, 4.0],
    clusters: 11,
    cluster_ds: ClusterDelay::Unspecified,
    cluster_spreads_deg: [2.0, 3.0, 3.0],
    cluster_shadowing_db: 3.0,
    distances_m: [37.0, 40.0, 50.0, 25.0, 35.0, 15.0, 15.0],
};

pub(super) const RMA_NLOS: Column = Column {
    ds: [Formula::Fixed(-7.43), Formula::Fixed(0.48)],
    asd: [Formula::Fixed(0.95), Formula::Fixed(0.45)],
    asa: [Formula::Fixed(1.52), Formula::Fixed(0.13)],
    zsa: [Formula::Fixed(0.58), Formula::Fixed(0.37)],
    k: None,
    correlations: [
        -0.4, 0.0, 0.0, 0.6, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -0.04, -0.25, 0.0, 0.0, -0.1, -0.4,
        0.42, -0.27, -0.18, 0.26, -0.27,
    ],
    delay_scaling: 1.7,
    xpr: [7.0, 3.0],
    clusters: 10,
    cluster_ds: ClusterDelay::Unspecified,
    cluster_spreads_deg: [2.0, 3.0, 3.0],
    cluster_shadowing_db: 3.0,
    distances_m: [120.0, 1.0, 36.0, 30.0, 40.0, 50.0, 50.0],
};

pub(super) const RMA_O2I: Column = Column {
    ds: [Formula::Fixed(-7.47), Formula::Fixed(0.24)],
    asd: [Formula::Fixed(0.67), Formula::Fixed(0.18)],
    asa: [Formula::Fixed(1.66), Formula::Fixed(0.21)],
    zsa: [Formula::Fixed(0.93), Formula::Fixed(0.22)],
    k: None,
    correlations: [
        0.0, 0.0, 0.0, 0.0, 0.0, -0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.66,
        0.47, -0.55, -0.22, 0.0,
    ],
    delay_scaling: 1.7,
    xpr: [7.0, 3.0],
    clusters: 10,
    cluster_ds: ClusterDelay::Unspecified,
    cluster_spreads_deg: [2.0, 3.0, 3.0],
    cluster_shadowing_db: 3.0,
    distances_m: [120.0, 1.0, 36.0, 30.0, 40.0, 50.0, 50.0],
};

pub(super) const OFFICE_LOS: Column = Column {
    ds: [Formula::OfOnePlus([-0.01, -7.692]), Formula::Fixed(0.18)],
    asd: [Formula::Fixed(1.6), Formula::Fixed(0.18)],
    asa: [
        Formula::OfOnePlus([-0.19, 1.781]),
        Formula::OfOnePlus([0.12, 0.119]),
    ],
    zsa: [
        Formula::OfOnePlus([-0.26, 1.44]),
        Formula::OfOnePlus([-0.04, 0.264]),
    ],
    k: Some([7.0, 4.0]),
    correlations: [
        0.6, 0.8, -0.5, -0.4, -0.8, 0.4, 0.0, 0.0, -0.5, 0.5, 0.2, 0.3, 0.0, 0.1, 0.1, 0.2, 0.5,
        0.0, 0.0, 0.5, 0.0,
    ],
    delay_scaling: 3.6,
    xpr: [11.0, 4.0],
    clusters: 15,
    cluster_ds: ClusterDelay::Unspecified,
    cluster_spreads_deg: [5.0, 8.0, 9.0],
    cluster_shadowing_db: 6.0,
    distances_m: [10.0, 4.0, 8.0, 7.0, 5.0, 4.0, 4.0],
};

pub(super) const OFFICE_NLOS: Column = Column {
    ds: [
        Formula::OfOnePlus([-0.28, -7.173]),
        Formula::OfOnePlus([0.1, 0.055]),
    ],
    asd: [Formula::Fixed(1.62), Formula::Fixed(0.25)],
    asa: [
        Formula::OfOnePlus([-0.11, 1.863]),
        Formula::OfOnePlus([0.12, 0.059]),
    ],
    zsa: [
        Formula::OfOnePlus([-0.15, 1.387]),
        Formula::OfOnePlus([-0.09, 0.746]),
    ],
    k: None,
    correlations: [
        0.4, 0.0, -0.4, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.27, -0.06, 0.35,
        0.23, -0.08, 0.43, 0.42,
    ],
    delay_scaling: 3.0,
    xpr: [10.0, 4.0],
    clusters: 19,
    cluster_ds: ClusterDelay::Unspecified,
    cluster_spreads_deg: [5.0, 11.0, 9.0],
    cluster_shadowing_db: 3.0,
    distances_m: [6.0, 1.0, 5.0, 3.0, 3.0, 4.0, 4.0],
};

pub(super) const FACTORY_LOS: Column = Column {
    ds: [Formula::Hall([26.0, 14.0, -9.35]), Formula::Fixed(0.15)],
    asd: [Formula::Fixed(1.56), Formula::Fixed(0.25)],
    asa: [
        Formula::OfOnePlus([-0.18, 1.78]),
        Formula::OfOnePlus([0.12, 0.2]),
    ],
    zsa: [Formula::OfOnePlus([-0.2, 1.5]), Formula::Fixed(0.35)],
    k: Some([7.0, 8.0]),
    correlations: [
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5, 0.0, -0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        0.0, 0.0, 0.0,
    ],
    delay_scaling: 2.7,
    xpr: [12.0, 6.0],
    clusters: 25,
    cluster_ds: ClusterDelay::Unspecified,
    cluster_spreads_deg: [5.0, 8.0, 9.0],
    cluster_shadowing_db: 4.0,
    distances_m: [10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0],
};

pub(super) const FACTORY_NLOS: Column = Column {
    ds: [Formula::Hall([30.0, 32.0, -9.44]), Formula::Fixed(0.19)],
    asd: [Formula::Fixed(1.57), Formula::Fixed(0.2)],
    asa: [Formula::Fixed(1.72), Formula::Fixed(0.3)],
    zsa: [Formula::OfOnePlus([-0.13, 1.45]), Formula::Fixed(0.45)],
    k: None,
    correlations: [
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        0.0, 0.0, 0.0,
    ],
    delay_scaling: 3.0,
    xpr: [11.0, 6.0],
    clusters: 25,
    cluster_ds: ClusterDelay::Unspecified,
    cluster_spreads_deg: [5.0, 8.0, 9.0],
    cluster_shadowing_db: 3.0,
    distances_m: [10.0, 1.0, 10.0, 10.0, 10.0, 10.0, 10.0],
};

pub(super) const SMA_LOS: Column = Column {
    ds: [Formula::Fixed(-7.42), Formula::Fixed(0.6)],
    asd: [Formula::Fixed(0.48), Formula::Fixed(0.27)],
    asa: [Formula::Fixed(1.43), Formula::Fixed(0.12)],
    zsa: [Formula::Fixed(1.18), Formula::Fixed(0.05)],
    k: Some([9.0, 7.0]),
    correlations: [
        0.4, 0.8, -0.5, -0.5, -0.4, 0.0, 0.0, -0.2, -0.4, 0.0, 0.0, -0.8, 0.0, 0.0, -0.2, 0.0, 0.5,
        0.0, -0.3, 0.4, 0.0,
    ],
    delay_scaling: 2.4,
    xpr: [8.0, 4.0],
    clusters: 15,
    cluster_ds: ClusterDelay::FallsWithCarrier,
    cluster_spreads_deg: [2.08, 5.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [40.0, 10.0, 6.0, 15.0, 20.0, 15.0, 15.0],
};

pub(super) const SMA_NLOS: Column = Column {
    ds: [Formula::Fixed(-7.2), Formula::Fixed(0.58)],
    asd: [Formula::Fixed(0.51), Formula::Fixed(0.33)],
    asa: [Formula::Fixed(1.63), Formula::Fixed(0.26)],
    zsa: [Formula::Fixed(1.16), Formula::Fixed(0.14)],
    k: None,
    correlations: [
        0.0, 0.7, 0.0, -0.4, -0.13, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.47, 0.0, 0.0, -0.5, 0.0, 0.5,
        -0.1, 0.0, 0.36, 0.0,
    ],
    delay_scaling: 1.5,
    xpr: [4.0, 3.0],
    clusters: 14,
    cluster_ds: ClusterDelay::FallsWithCarrier,
    cluster_spreads_deg: [1.33, 10.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [50.0, 1.0, 40.0, 30.0, 30.0, 50.0, 50.0],
};

pub(super) const SMA_O2I: Column = Column {
    ds: [Formula::Fixed(-7.2), Formula::Fixed(0.58)],
    asd: [Formula::Fixed(0.51), Formula::Fixed(0.33)],
    asa: [Formula::Fixed(1.63), Formula::Fixed(0.26)],
    zsa: [Formula::Fixed(1.16), Formula::Fixed(0.14)],
    k: None,
    correlations: [
        0.0, 0.7, 0.0, -0.4, -0.13, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.47, 0.0, 0.0, -0.5, 0.0, 0.5,
        -0.1, 0.0, 0.36, 0.0,
    ],
    delay_scaling: 1.5,
    xpr: [4.0, 3.0],
    clusters: 14,
    cluster_ds: ClusterDelay::FallsWithCarrier,
    cluster_spreads_deg: [1.33, 10.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [50.0, 1.0, 40.0, 30.0, 30.0, 50.0, 50.0],
};

pub(super) const UMI_LOS_V16_1: Column = Column {
    ds: [Formula::OfOnePlus([-0.24, -7.14]), Formula::Fixed(0.38)],
    asd: [Formula::OfOnePlus([-0.05, 1.21]), Formula::Fixed(0.41)],
    asa: [
        Formula::OfOnePlus([-0.08, 1.73]),
        Formula::OfOnePlus([0.014, 0.28]),
    ],
    zsa: [
        Formula::OfOnePlus([-0.1, 0.73]),
        Formula::OfOnePlus([-0.04, 0.34]),
    ],
    k: Some([9.0, 5.0]),
    correlations: [
        0.5, 0.8, -0.4, -0.5, -0.4, 0.4, -0.2, -0.3, -0.7, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.5,
        0.3, 0.0, 0.0, 0.0,
    ],
    delay_scaling: 3.0,
    xpr: [9.0, 3.0],
    clusters: 12,
    cluster_ds: ClusterDelay::Ns(5.0),
    cluster_spreads_deg: [3.0, 17.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [10.0, 15.0, 7.0, 8.0, 8.0, 12.0, 12.0],
};

pub(super) const UMI_NLOS_V16_1: Column = Column {
    ds: [
        Formula::OfOnePlus([-0.24, -6.83]),
        Formula::OfOnePlus([0.16, 0.28]),
    ],
    asd: [
        Formula::OfOnePlus([-0.23, 1.53]),
        Formula::OfOnePlus([0.11, 0.33]),
    ],
    asa: [
        Formula::OfOnePlus([-0.08, 1.81]),
        Formula::OfOnePlus([0.05, 0.3]),
    ],
    zsa: [
        Formula::OfOnePlus([-0.04, 0.92]),
        Formula::OfOnePlus([-0.07, 0.41]),
    ],
    k: None,
    correlations: [
        0.0, 0.4, -0.4, 0.0, -0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5, 0.0, 0.5,
        0.5, 0.0, 0.2, 0.0,
    ],
    delay_scaling: 2.1,
    xpr: [8.0, 3.0],
    clusters: 19,
    cluster_ds: ClusterDelay::Ns(11.0),
    cluster_spreads_deg: [10.0, 22.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [13.0, 1.0, 10.0, 10.0, 9.0, 10.0, 10.0],
};

pub(super) const UMA_LOS_V16_1: Column = Column {
    ds: [Formula::Of([-0.0963, -6.955]), Formula::Fixed(0.66)],
    asd: [Formula::Of([0.1114, 1.06]), Formula::Fixed(0.28)],
    asa: [Formula::Fixed(1.81), Formula::Fixed(0.2)],
    zsa: [Formula::Fixed(0.95), Formula::Fixed(0.16)],
    k: Some([9.0, 3.5]),
    correlations: [
        0.4, 0.8, -0.5, -0.5, -0.4, 0.0, 0.0, -0.2, -0.4, 0.0, 0.0, -0.8, 0.0, 0.0, -0.2, 0.0, 0.5,
        0.0, -0.3, 0.4, 0.0,
    ],
    delay_scaling: 2.5,
    xpr: [8.0, 4.0],
    clusters: 12,
    cluster_ds: ClusterDelay::FallsWithCarrier,
    cluster_spreads_deg: [5.0, 11.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [37.0, 12.0, 30.0, 18.0, 15.0, 15.0, 15.0],
};

#[expect(clippy::approx_constant, reason = "the table's number, not a circle's")]
pub(super) const UMA_NLOS_V16_1: Column = Column {
    ds: [Formula::Of([-0.204, -6.28]), Formula::Fixed(0.39)],
    asd: [Formula::Of([-0.1144, 1.5]), Formula::Fixed(0.28)],
    asa: [Formula::Of([-0.27, 2.08]), Formula::Fixed(0.11)],
    zsa: [Formula::Of([-0.3236, 1.512]), Formula::Fixed(0.16)],
    k: None,
    correlations: [
        0.4, 0.6, 0.0, -0.6, -0.4, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0, -0.4, 0.0, 0.0, -0.5, 0.0, 0.5,
        -0.1, 0.0, 0.0, 0.0,
    ],
    delay_scaling: 2.3,
    xpr: [7.0, 3.0],
    clusters: 20,
    cluster_ds: ClusterDelay::FallsWithCarrier,
    cluster_spreads_deg: [2.0, 15.0, 7.0],
    cluster_shadowing_db: 3.0,
    distances_m: [50.0, 1.0, 40.0, 50.0, 50.0, 50.0, 50.0],
};

pub(super) const UMA_O2I_V16_1: Column = Column {
    ds: [Formula::Fixed(-6.62), Formula::Fixed(0.32)],
    asd: [Formula::Fixed(1.25), Formula::Fixed(0.42)],
    asa: [Formula::Fixed(1.76), Formula::Fixed(0.16)],
    zsa: [Formula::Fixed(1.01), Formula::Fixed(0.43)],
    k: None,
    correlations: [
        0.4, 0.4, 0.0, 0.2, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.6, -0.2, -0.2,
        0.0, 0.0, 0.5, 0.5,
    ],
    delay_scaling: 2.2,
    xpr: [9.0, 5.0],
    clusters: 12,
    cluster_ds: ClusterDelay::Ns(11.0),
    cluster_spreads_deg: [5.0, 8.0, 3.0],
    cluster_shadowing_db: 4.0,
    distances_m: [7.0, 1.0, 10.0, 11.0, 17.0, 25.0, 25.0],
};
