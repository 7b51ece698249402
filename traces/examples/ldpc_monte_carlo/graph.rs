//! The base graphs of TS 38.212, lifted for one code block size and cut to what is sent.

/// A lifted code: the rows of the base graph that see a sent bit.
pub(crate) struct Code {
    /// Lifting size.
    pub(crate) lifting: usize,
    /// For each row of the base graph its columns and their shifts.
    pub(crate) rows: Vec<Vec<(usize, usize)>>,
    /// Columns in use.
    pub(crate) columns: usize,
    /// Information bits of the code, with the filler bits.
    pub(crate) information_bits: usize,
    /// Bits of the code block, without filler bits.
    pub(crate) block_bits: usize,
    /// Bits that are sent.
    pub(crate) sent_bits: usize,
    /// Length of the circular buffer.
    pub(crate) buffer_bits: usize,
}

/// First members of the eight sets of lifting sizes (TS 38.212, Table 5.3.2-1).
const SETS: [usize; 8] = [2, 3, 5, 7, 9, 11, 13, 15];

/// The smallest lifting size of at least `least`, and its set.
fn lifting_size(least: usize) -> Option<(usize, usize)> {
    let sizes = SETS.iter().enumerate().flat_map(|(set, &first)| {
        (0..8)
            .map(move |power| (first << power, set))
            .filter(|&(size, _)| size <= 384)
    });
    sizes.filter(|&(size, _)| size >= least).min()
}

impl Code {
    /// The code for `block_bits` in `sent_bits` coded bits.
    pub(crate) fn new(first_graph: bool, block_bits: usize, sent_bits: usize) -> Option<Code> {
        let text = if first_graph {
            include_str!("../../data/phy/base_graph_1.csv")
        } else {
            include_str!("../../data/phy/base_graph_2.csv")
        };
        let (systematic, all_columns) = if first_graph { (22, 68) } else { (10, 52) };
        // TS 38.212, 5.2.2: the columns that short blocks of the second graph fill.
        let filled = match block_bits {
            _ if first_graph => 22,
            641.. => 10,
            561..=640 => 9,
            193..=560 => 8,
            _ => 6,
        };
        let (lifting, set) = lifting_size(block_bits.div_ceil(filled))?;
        let information_bits = systematic * lifting;
        let fillers = information_bits - block_bits;
        let columns =
            (2 + (sent_bits + fillers).div_ceil(lifting)).clamp(systematic + 4, all_columns);
        let mut rows = vec![Vec::new(); columns - systematic];
        for line in text
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        {
            let mut fields = line
                .split(',')
                .filter_map(|field| field.parse::<usize>().ok());
            let (row, column) = (fields.next()?, fields.next()?);
            let shift = fields.nth(set)?;
            if row < rows.len() {
                rows[row].push((column, shift % lifting));
            }
        }
        Some(Code {
            lifting,
            rows,
            columns,
            information_bits,
            block_bits,
            sent_bits,
            buffer_bits: (all_columns - 2) * lifting,
        })
    }

    /// For each sent bit, in the order of the circular buffer's read-out at redundancy version 0,
    /// its position among the code's bits (TS 38.212, 5.4.2.1).
    pub(crate) fn sent_positions(&self) -> Vec<usize> {
        let punctured = 2 * self.lifting;
        let is_filler = |bit: &usize| (self.block_bits..self.information_bits).contains(bit);
        let buffer = (punctured..punctured + self.buffer_bits).filter(|bit| !is_filler(bit));
        buffer.cycle().take(self.sent_bits).collect()
    }
}
