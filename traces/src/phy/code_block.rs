//! Segmentation of a transport block into code blocks: TS 38.212, clauses 5.1, 5.2.2, 6.2.2, 7.2.2.

use super::mcs::CodingScheme;

/// Which LDPC base graph a transport block uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaseGraph {
    /// 46 by 68, for large blocks and high rates.
    One,
    /// 42 by 52, for small blocks and low rates.
    Two,
}

impl BaseGraph {
    /// The graph of a transport block of `transport_block_bits`.
    #[must_use]
    pub fn of(transport_block_bits: u32, scheme: CodingScheme) -> BaseGraph {
        let rate_x2048 = u32::from(scheme.code_rate_x2048());
        // 0.67 x 2048 = 1372.16.
        let second = transport_block_bits <= 292
            || (transport_block_bits <= 3824 && rate_x2048 <= 1372)
            || rate_x2048 <= 512;
        if second {
            BaseGraph::Two
        } else {
            BaseGraph::One
        }
    }

    /// Bits of the largest code block, with its check bits.
    #[must_use]
    pub const fn largest_block_bits(self) -> u32 {
        match self {
            BaseGraph::One => 8448,
            BaseGraph::Two => 3840,
        }
    }
}

/// How a transport block is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// The base graph.
    pub base_graph: BaseGraph,
    /// How many code blocks.
    pub blocks: u32,
    /// Bits of each code block with all check bits, without filler bits.
    pub block_bits: u32,
    /// The lifting size.
    pub lifting_size: u32,
    /// Bits of each code block with filler bits.
    pub filled_bits: u32,
}

impl Segmentation {
    /// Cuts a transport block of `transport_block_bits` (as [`super::transport_block_bits`] gives).
    #[must_use]
    pub fn of(transport_block_bits: u32, scheme: CodingScheme) -> Segmentation {
        let base_graph = BaseGraph::of(transport_block_bits, scheme);
        let largest = base_graph.largest_block_bits();
        let check_bits = if transport_block_bits > 3824 { 24 } else { 16 };
        let bits = transport_block_bits + check_bits;
        let (blocks, all_bits) = if bits <= largest {
            (1, bits)
        } else {
            let blocks = bits.div_ceil(largest - 24);
            (blocks, bits + 24 * blocks)
        };
        // Sizes of the clause 5.1.3.2 divide evenly.
        let block_bits = all_bits.div_ceil(blocks);
        let (columns, filled) = match (base_graph, bits) {
            (BaseGraph::One, _) => (22, 22),
            (BaseGraph::Two, 641..) => (10, 10),
            (BaseGraph::Two, 561..=640) => (10, 9),
            (BaseGraph::Two, 193..=560) => (10, 8),
            (BaseGraph::Two, _) => (10, 6),
        };
        let lifting_size = lifting_size(block_bits.div_ceil(filled));
        Segmentation {
            base_graph,
            blocks,
            block_bits,
            lifting_size,
            filled_bits: columns * lifting_size,
        }
    }
}

/// The smallest lifting size of at least `least`, of TS 38.212, Table 5.3.2-1.
fn lifting_size(least: u32) -> u32 {
    let sizes = [2, 3, 5, 7, 9, 11, 13, 15]
        .into_iter()
        .flat_map(|first| (0..8).map(move |power| first << power))
        .filter(|&size| size <= 384 && size >= least);
    sizes.min().unwrap_or(384)
}

#[cfg(test)]
mod tests {
    use super::super::mcs::McsTable;
    use super::*;

    #[test]
    fn base_graphs_follow_size_and_rate() {
        let scheme = |index| McsTable::Qam64.scheme(index).unwrap();
        let (low, middle, high) = (scheme(0), scheme(6), scheme(28));
        assert_eq!(BaseGraph::of(292, high), BaseGraph::Two);
        assert_eq!(BaseGraph::of(293, high), BaseGraph::One);
        assert_eq!(BaseGraph::of(3824, middle), BaseGraph::Two);
        assert_eq!(BaseGraph::of(3840, middle), BaseGraph::One);
        assert_eq!(BaseGraph::of(100_000, low), BaseGraph::Two);
    }

    #[test]
    fn blocks_hold_the_transport_block_and_its_check_bits() {
        let scheme = McsTable::Qam64.scheme(28).unwrap();
        let whole = Segmentation::of(8424, scheme);
        assert_eq!(
            (whole.blocks, whole.block_bits, whole.lifting_size),
            (1, 8448, 384)
        );
        let cut = Segmentation::of(16_896, scheme);
        assert_eq!(cut.blocks, 3);
        assert_eq!(cut.block_bits * 3, 16_896 + 24 + 3 * 24);
        assert!(cut.filled_bits >= cut.block_bits && cut.filled_bits <= 8448);
        let small = Segmentation::of(24, scheme);
        assert_eq!(
            (small.block_bits, small.lifting_size, small.filled_bits),
            (40, 7, 70)
        );
    }
}
