//! Modulation and coding schemes and channel quality indicators: TS 38.214, tables 5.1.3.1-1 to -4
//! and 5.2.2.1-2 to -5.

use serde::{Deserialize, Serialize};

use super::data::numbers;
use super::error::PhyError;

const MCS_ROWS: usize = 29 + 28 + 29 + 27;
/// Table, index, modulation order and code rate x 1024, each times 10.
static MCS: [i32; 4 * MCS_ROWS] = numbers(include_str!("../../data/phy/mcs.csv"), 1);
/// The same of the CQI tables.
static CQI: [i32; 4 * 60] = numbers(include_str!("../../data/phy/cqi.csv"), 1);

/// A modulation and the target rate of its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodingScheme {
    modulation_order: u8,
    code_rate_x2048: u16,
}

impl CodingScheme {
    /// The scheme of a table's row, whose numbers are times 10.
    fn of_row(row: &[i32]) -> CodingScheme {
        let small = |value: i32| u16::try_from(value).unwrap_or(0);
        CodingScheme {
            modulation_order: small(row[2] / 10).try_into().unwrap_or(0),
            code_rate_x2048: small(row[3] / 5),
        }
    }

    /// Bits per symbol: 2 for QPSK to 10 for 1024QAM.
    #[must_use]
    pub const fn modulation_order(self) -> u8 {
        self.modulation_order
    }

    /// The target code rate times 2048, exact: the tables hold halves of 1/1024.
    #[must_use]
    pub const fn code_rate_x2048(self) -> u16 {
        self.code_rate_x2048
    }

    /// The target code rate times 1024, exact.
    #[must_use]
    pub fn code_rate_x1024(self) -> f64 {
        f64::from(self.code_rate_x2048) / 2.0
    }

    /// The target code rate.
    #[must_use]
    pub fn code_rate(self) -> f64 {
        f64::from(self.code_rate_x2048) / 2048.0
    }

    /// Information bits per symbol and layer.
    #[must_use]
    pub fn efficiency(self) -> f64 {
        f64::from(self.modulation_order) * self.code_rate()
    }
}

/// A table of modulation and coding schemes, with the CQI table of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum McsTable {
    /// Table 1, up to 64QAM.
    Qam64,
    /// Table 2, up to 256QAM.
    #[default]
    Qam256,
    /// Table 3, up to 64QAM with low spectral efficiency, for high reliability.
    Qam64LowSe,
    /// Table 4, up to 1024QAM.
    Qam1024,
}

impl McsTable {
    /// All tables in order.
    pub const ALL: [McsTable; 4] = [
        McsTable::Qam64,
        McsTable::Qam256,
        McsTable::Qam64LowSe,
        McsTable::Qam1024,
    ];

    /// The table of number 1 to 4.
    ///
    /// # Errors
    /// There is no such table.
    pub fn of_number(number: u64) -> Result<McsTable, PhyError> {
        let index = PhyError::check("mcs_table", number, 1, 4)? - 1;
        let index = usize::try_from(index).unwrap_or(0);
        Ok(McsTable::ALL[index.min(3)])
    }

    /// 1 to 4.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The schemes of this table by index, without the reserved ones.
    pub fn schemes(self) -> impl ExactSizeIterator<Item = CodingScheme> + DoubleEndedIterator {
        rows(&MCS, self).map(CodingScheme::of_row)
    }

    /// The scheme of an index.
    ///
    /// # Errors
    /// The index is reserved in this table or beyond it.
    pub fn scheme(self, index: u64) -> Result<CodingScheme, PhyError> {
        let most = self.schemes().len() as u64 - 1;
        let index = PhyError::check("mcs_index", index, 0, most)?;
        let scheme = self.schemes().nth(usize::try_from(index).unwrap_or(0));
        scheme.ok_or_else(|| PhyError::new("mcs_index", &index, "an index of the table"))
    }

    /// The schemes that the channel quality indicators 1 to 15 name, in order.
    pub fn quality_indicators(
        self,
    ) -> impl ExactSizeIterator<Item = CodingScheme> + DoubleEndedIterator {
        rows(&CQI, self).map(CodingScheme::of_row)
    }
}

/// The rows of one table of several that stand one after the other.
fn rows(
    all: &'static [i32],
    table: McsTable,
) -> impl ExactSizeIterator<Item = &'static [i32]> + DoubleEndedIterator {
    let number = 10 * i32::from(table.number());
    let first = all.chunks_exact(4).position(|row| row[0] == number);
    let first = first.unwrap_or(0);
    let count = all.chunks_exact(4).filter(|row| row[0] == number).count();
    all[4 * first..4 * (first + count)].chunks_exact(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_complete_and_in_order() {
        let lengths = McsTable::ALL.map(|table| table.schemes().len());
        assert_eq!(lengths, [29, 28, 29, 27]);
        for table in McsTable::ALL {
            assert_eq!(McsTable::of_number(u64::from(table.number())), Ok(table));
            for (at, row) in rows(&MCS, table).enumerate() {
                assert_eq!(row[1], 10 * i32::try_from(at).unwrap());
            }
            // The switches 16QAM 340 after QPSK 679 and 64QAM 438 after 16QAM 658 lie within 1 %.
            let efficiencies: Vec<f64> = table.schemes().map(CodingScheme::efficiency).collect();
            assert!(efficiencies.windows(2).all(|pair| pair[1] > 0.99 * pair[0]));
            assert_eq!(table.quality_indicators().len(), 15);
            let indicators: Vec<f64> = table
                .quality_indicators()
                .map(CodingScheme::efficiency)
                .collect();
            assert!(indicators.is_sorted());
        }
    }

    #[test]
    fn schemes_are_those_of_the_specification() {
        let scheme = |table: McsTable, index| {
            let scheme = table.scheme(index).unwrap();
            (scheme.modulation_order(), scheme.code_rate_x1024())
        };
        assert_eq!(scheme(McsTable::Qam64, 0), (2, 120.0));
        assert_eq!(scheme(McsTable::Qam64, 28), (6, 948.0));
        assert_eq!(scheme(McsTable::Qam256, 20), (8, 682.5));
        assert_eq!(scheme(McsTable::Qam64LowSe, 0), (2, 30.0));
        assert_eq!(scheme(McsTable::Qam1024, 25), (10, 900.5));
    }

    #[test]
    fn every_quality_indicator_is_a_scheme_of_some_table() {
        let known: Vec<CodingScheme> = McsTable::ALL
            .into_iter()
            .flat_map(McsTable::schemes)
            .collect();
        for table in McsTable::ALL {
            assert!(
                table
                    .quality_indicators()
                    .all(|indicator| known.contains(&indicator))
            );
        }
    }

    #[test]
    fn reserved_and_unknown_indices_are_refused() {
        assert!(McsTable::Qam64.scheme(29).is_err());
        assert!(McsTable::Qam256.scheme(28).is_err());
        assert!(McsTable::Qam1024.scheme(27).is_err());
        assert!(McsTable::of_number(0).is_err());
        let error = McsTable::of_number(5).unwrap_err();
        assert_eq!(error.to_string(), "mcs_table is 5; expected 1 to 4");
    }
}
