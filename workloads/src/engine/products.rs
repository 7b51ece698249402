//! Products of states with a matrix.
//!
//! Those of a few states, as decoding makes them for one sequence or a small batch, are bounded by reading the matrix,
//! which is therefore read once for all states. The tensor library's product takes one state fast, but copies the
//! whole matrix into blocks for two or more, which pays from more states on than a batch on an edge node has. Each
//! number is the same sum in the same order however many states there are, so that a sequence makes the same tokens
//! alone and in a small batch.

pub(super) mod blocks;
pub(super) mod dense;
mod prefetch;

use std::ops::Range;

use candle_core::{CpuStorage, Layout, Result, bail};
use rayon::prelude::*;

/// Outputs of a part are a multiple of so many, but of the last one.
const WIDTHS: usize = 8;

/// Products below so many multiplications are made by one thread: to wake another takes as long.
const SPREAD_FROM: usize = 1 << 17;

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("numbers that lie apart"),
    }
}

/// Makes states x outputs numbers, of a matrix of so many inputs. Each call makes those of some of the outputs, of all
/// states: states x the part's width.
fn in_parts(
    states: usize,
    inputs: usize,
    outputs: usize,
    make: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut product = vec![0.0; states * outputs];
    let threads = rayon::current_num_threads();
    if product.is_empty() || threads == 1 || states * inputs * outputs < SPREAD_FROM {
        if !product.is_empty() {
            make(0..outputs, &mut product);
        }
        return product;
    }
    let each = outputs.div_ceil(threads).next_multiple_of(WIDTHS);
    let parts: Vec<Vec<f32>> = (0..outputs)
        .step_by(each)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|first| {
            let part = first..outputs.min(first + each);
            let mut sums = vec![0.0; states * part.len()];
            make(part, &mut sums);
            sums
        })
        .collect();
    let mut start = 0;
    for part in parts {
        let width = part.len() / states;
        let rows = product.chunks_exact_mut(outputs);
        for (row, part) in rows.zip(part.chunks_exact(width)) {
            row[start..start + width].copy_from_slice(part);
        }
        start += width;
    }
    product
}
