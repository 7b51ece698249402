//! The beta of the effective SINR mapping for each coding scheme.

use super::data::numbers;
use super::mcs::CodingScheme;

/// Modulation order, code rate x 1024 and beta, each times 1000.
static BETAS: [i32; 3 * 47] = numbers(include_str!("../../data/phy/eesm_beta.csv"), 3);

impl CodingScheme {
    /// Beta of the effective SINR mapping ([`super::effective_sinr`]): an assumption.
    ///
    /// No calibration of betas with a known origin is public. These are our own: for each scheme
    /// the beta that, over Rayleigh fading subbands, comes closest to the effective SINR of equal
    /// mutual information (`examples/eesm_beta`).
    #[must_use]
    pub fn eesm_beta(self) -> f64 {
        let order = 1000 * i32::from(self.modulation_order());
        let rate = 500 * i32::from(self.code_rate_x2048());
        let row = BETAS
            .chunks_exact(3)
            .find(|row| row[0] == order && row[1] == rate);
        row.map_or(1.0, |row| f64::from(row[2]) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mcs::McsTable;

    #[test]
    fn betas_grow_with_the_spectral_efficiency_of_a_modulation() {
        for table in McsTable::ALL {
            let schemes: Vec<_> = table.schemes().collect();
            for pair in schemes.windows(2) {
                if pair[0].modulation_order() == pair[1].modulation_order() {
                    assert!(pair[1].eesm_beta() >= pair[0].eesm_beta(), "{pair:?}");
                }
            }
        }
    }
}
