//! Everything about a direction's transport blocks that does not change from slot to slot.

use super::eesm::{Mapping, linear};
use super::error::PhyError;
use super::harq::BlockCode;
use super::mcs::CodingScheme;
use super::radio::RadioSettings;
use super::timing::data_symbols;
use super::transport_block::{Allocation, transport_block_bits};

/// Of a full IP packet of 1500 bytes, SDAP (1 byte), PDCP (3), RLC (3) and MAC (3) make 1510
/// (TS 37.324, 38.323, 38.322 and 38.321 with 18-bit sequence numbers).
const IP_PART: [u64; 2] = [150, 151];

/// A transport block that fills a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// What it carries of IP packets, over all carriers.
    pub(super) ip_bits: u64,
    pub(super) code: BlockCode,
}

/// The schemes of one rank in slots of one kind.
#[derive(Debug, Clone)]
struct Column {
    blocks: Vec<Block>,
}

/// Linear SINRs from which something is used; each is at most the next.
#[derive(Debug, Clone)]
pub(super) struct Thresholds(Vec<f64>);

impl Thresholds {
    fn new(mut esno_db: Vec<f64>) -> Thresholds {
        for at in (1..esno_db.len()).rev() {
            esno_db[at - 1] = esno_db[at - 1].min(esno_db[at]);
        }
        Thresholds(esno_db.into_iter().map(linear).collect())
    }

    /// How many thresholds `sinr` reaches: the highest that it does, counted from 1.
    #[inline]
    pub(super) fn reached(&self, sinr: f64) -> usize {
        // Faster than halving: no branch, and four at a time.
        let mut count = 0;
        for &threshold in &self.0 {
            count += usize::from(threshold <= sinr);
        }
        count
    }

    /// Whether the threshold at `at`, counted from 0, is the highest that `sinr` reaches.
    #[inline]
    pub(super) fn is_highest_reached(&self, at: usize, sinr: f64) -> bool {
        self.0[at] <= sinr && self.0.get(at + 1).is_none_or(|&next| sinr < next)
    }

    pub(super) fn get(&self, at: usize) -> f64 {
        self.0[at]
    }
}

#[derive(Debug, Clone)]
pub(super) struct RateTable {
    pub(super) schemes: Vec<CodingScheme>,
    /// By rank and scheme: the effective SINR of the whole channel, in terms of a layer's beta.
    pub(super) mappings: Vec<Vec<Mapping>>,
    pub(super) efficiencies: Vec<f64>,
    /// Symbols for data in each slot of the pattern.
    symbols: Vec<u8>,
    /// The kind of each slot of the pattern, for those with data.
    kinds: Vec<usize>,
    /// By kind of slot and rank.
    columns: Vec<Vec<Column>>,
    /// By rank: the schemes that keep the target in the fullest kind of slot.
    pub(super) schemes_from: Vec<Thresholds>,
    /// By rank: the quality indicators 1 to 15.
    pub(super) indicators_from: Vec<Thresholds>,
    /// By rank: what every layer has of the SINR.
    pub(super) layer_parts: Vec<f64>,
}

impl RateTable {
    pub(super) fn new(settings: &RadioSettings) -> Result<RateTable, PhyError> {
        let of_slot = |slot| {
            data_symbols(
                &settings.pattern,
                settings.direction,
                slot,
                settings.control_symbols,
            )
        };
        let symbols: Vec<u8> = (0..settings.pattern.period()).map(of_slot).collect();
        let mut distinct: Vec<u8> = symbols.iter().copied().filter(|&count| count > 0).collect();
        distinct.sort_unstable();
        distinct.dedup();
        // The fullest kind comes first.
        distinct.reverse();
        let kind = |count: &u8| {
            distinct
                .iter()
                .position(|other| other == count)
                .unwrap_or(0)
        };
        let kinds = symbols.iter().map(kind).collect();
        let schemes: Vec<CodingScheme> = settings.mcs_table.schemes().collect();
        let indicators: Vec<CodingScheme> = settings.mcs_table.quality_indicators().collect();
        let block = |scheme, rank: u8, symbols: u8| -> Result<Block, PhyError> {
            let bits = transport_block_bits(scheme, &allocation(settings, rank, symbols))?;
            Ok(Block {
                ip_bits: ip_bits(u64::from(bits) * u64::from(settings.carriers)),
                code: BlockCode::of(scheme, bits)?,
            })
        };
        let column = |symbols: u8, rank: u8| -> Result<Column, PhyError> {
            let blocks = schemes.iter().map(|&scheme| block(scheme, rank, symbols));
            Ok(Column {
                blocks: blocks.collect::<Result<_, _>>()?,
            })
        };
        let ranks = 1..=settings.maximum_rank;
        let mut columns = Vec::new();
        for &symbols in &distinct {
            columns.push(
                ranks
                    .clone()
                    .map(|rank| column(symbols, rank))
                    .collect::<Result<_, _>>()?,
            );
        }
        let fullest = distinct.first().copied().ok_or_else(|| {
            PhyError::new(
                "duplex pattern",
                &"without data",
                "slots for data in both directions",
            )
        })?;
        let thresholds = |rank, schemes: &[CodingScheme]| -> Result<Thresholds, PhyError> {
            let of_scheme = |&scheme| -> Result<f64, PhyError> {
                Ok(block(scheme, rank, fullest)?
                    .code
                    .esno_db(settings.outer_loop.target))
            };
            Ok(Thresholds::new(
                schemes.iter().map(of_scheme).collect::<Result<_, _>>()?,
            ))
        };
        let layer_part = |rank: u8| {
            let rank = f64::from(rank);
            1.0 / (rank * (1.0 + settings.layer_coupling * (rank - 1.0)))
        };
        let mappings = |rank: u8| {
            let part = layer_part(rank);
            let mapping = |scheme: &CodingScheme| Mapping::new(scheme.eesm_beta() / part);
            schemes.iter().map(mapping).collect()
        };
        Ok(RateTable {
            mappings: ranks.clone().map(mappings).collect(),
            efficiencies: schemes.iter().map(|scheme| scheme.efficiency()).collect(),
            schemes_from: ranks
                .clone()
                .map(|rank| thresholds(rank, &schemes))
                .collect::<Result<_, _>>()?,
            indicators_from: ranks
                .clone()
                .map(|rank| thresholds(rank, &indicators))
                .collect::<Result<_, _>>()?,
            layer_parts: ranks.map(layer_part).collect(),
            schemes,
            symbols,
            kinds,
            columns,
        })
    }

    /// Symbols for data in the slot at `phase` of the pattern.
    #[inline]
    pub(super) fn symbols(&self, phase: usize) -> u8 {
        self.symbols[phase]
    }

    /// The block that fills the slot at `phase` of the pattern.
    #[inline]
    pub(super) fn block(&self, phase: usize, rank: u8, scheme: usize) -> &Block {
        &self.columns[self.kinds[phase]][usize::from(rank) - 1].blocks[scheme]
    }

    /// IP bits per period of the pattern with the best scheme on all layers.
    pub(super) fn most_bits_per_period(&self) -> u64 {
        let best = |&kind: &usize| {
            let blocks = self.columns[kind].iter().flat_map(|column| &column.blocks);
            blocks.map(|block| block.ip_bits).max().unwrap_or(0)
        };
        let slots = self.kinds.iter().zip(&self.symbols);
        slots
            .filter(|(_, symbols)| **symbols > 0)
            .map(|(kind, _)| best(kind))
            .sum()
    }
}

/// What a slot with `symbols` for data gives to `rank` layers.
pub(super) fn allocation(settings: &RadioSettings, rank: u8, symbols: u8) -> Allocation {
    Allocation {
        layers: u32::from(rank),
        resource_blocks: settings.resource_blocks,
        symbols: u32::from(symbols),
        dmrs_elements: settings.dmrs_elements,
        overhead_elements: settings.overhead_elements,
    }
}

/// What transport blocks carry of full IP packets.
pub(super) const fn ip_bits(transport_bits: u64) -> u64 {
    transport_bits * IP_PART[0] / IP_PART[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_threshold_reached_is_the_one_that_counting_finds() {
        // Two are equal, as they are where a scheme is never the better one.
        let thresholds = Thresholds::new(vec![-3.0, 0.0, 2.0, 2.0, 7.0]);
        for step in -100..200 {
            let sinr = linear(f64::from(step) / 10.0);
            let reached = thresholds.reached(sinr);
            for at in 0..5 {
                let is_it = thresholds.is_highest_reached(at, sinr);
                assert_eq!(is_it, at + 1 == reached, "{step} {at}");
            }
        }
        assert!(!thresholds.is_highest_reached(0, f64::NAN));
    }
}
