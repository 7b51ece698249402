//! The size of a transport block: TS 38.214, clause 5.1.3.2, in exact integer arithmetic.

use super::data::numbers;
use super::error::PhyError;
use super::mcs::CodingScheme;

/// Sizes of up to 3824 bits: Table 5.1.3.2-1.
static SMALL_SIZES: [i32; 93] =
    numbers(include_str!("../../data/phy/transport_block_sizes.csv"), 0);

/// What one transport block is given of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Layers of one code word, 1 to 4.
    pub layers: u32,
    /// Physical resource blocks, 1 to 275.
    pub resource_blocks: u32,
    /// Symbols, 1 to 14.
    pub symbols: u32,
    /// Resource elements per resource block that demodulation reference signals occupy.
    pub dmrs_elements: u32,
    /// Further overhead (`xOverhead`) in resource elements per resource block.
    pub overhead_elements: u32,
}

impl Allocation {
    /// Resource elements that carry data (step 1 of the clause, with its cap of 156 per block).
    ///
    /// # Errors
    /// A field is out of its range, or nothing is left beside reference signals and overhead.
    pub fn resource_elements(&self) -> Result<u32, PhyError> {
        PhyError::check("layers", self.layers, 1, 4)?;
        PhyError::check("n_prb", self.resource_blocks, 1, 275)?;
        PhyError::check("n_symbols", self.symbols, 1, 14)?;
        let elements = 12 * self.symbols;
        PhyError::check("n_dmrs_re_per_prb", self.dmrs_elements, 0, elements - 1)?;
        let left = elements - self.dmrs_elements;
        PhyError::check("n_oh_re_per_prb", self.overhead_elements, 0, left - 1)?;
        Ok((left - self.overhead_elements).min(156) * self.resource_blocks)
    }
}

/// The size of the transport block in bits.
///
/// # Errors
/// The allocation is impossible ([`Allocation::resource_elements`]).
pub fn transport_block_bits(
    scheme: CodingScheme,
    allocation: &Allocation,
) -> Result<u32, PhyError> {
    let elements = allocation.resource_elements()?;
    Ok(bits_of_elements(scheme, allocation.layers, elements))
}

/// Steps 2 to 4 of the clause. At most 42 900 elements, 4 layers and 10 bits: no overflow.
fn bits_of_elements(scheme: CodingScheme, layers: u32, elements: u32) -> u32 {
    // Information bits times 2048, exact.
    let information = u64::from(elements)
        * u64::from(scheme.code_rate_x2048())
        * u64::from(scheme.modulation_order())
        * u64::from(layers);
    let bits = if information <= 3824 * 2048 {
        small(information)
    } else {
        large(information, scheme.code_rate_x2048())
    };
    u32::try_from(bits).unwrap_or(u32::MAX)
}

/// Step 3: the smallest size of the table that is not below the quantised information bits.
fn small(information: u64) -> u64 {
    let whole = information / 2048;
    let power = whole.checked_ilog2().unwrap_or(0).saturating_sub(6).max(3);
    let quantised = ((whole >> power) << power).max(24);
    let sizes = SMALL_SIZES
        .iter()
        .map(|&size| u64::from(size.unsigned_abs()));
    let at = sizes.clone().position(|size| size >= quantised);
    sizes
        .clone()
        .nth(at.unwrap_or(SMALL_SIZES.len() - 1))
        .unwrap_or(3824)
}

/// Step 4: quantised information bits, divided evenly into code blocks and whole bytes.
fn large(information: u64, code_rate_x2048: u16) -> u64 {
    let above = information - 24 * 2048;
    let power = (above / 2048).ilog2() - 5;
    // Ties are rounded up.
    let unit = 2048_u64 << power;
    let quantised = (((above + unit / 2) / unit) << power).max(3840);
    let with_check = quantised + 24;
    let blocks = if code_rate_x2048 <= 512 {
        with_check.div_ceil(3816)
    } else if quantised > 8424 {
        with_check.div_ceil(8424)
    } else {
        1
    };
    8 * blocks * with_check.div_ceil(8 * blocks) - 24
}

#[cfg(test)]
mod tests;
