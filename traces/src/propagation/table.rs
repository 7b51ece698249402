//! Reading the tables in `data/propagation`.

/// The rows of `text` that consist of `N` numbers. Comments and headings do not; tests hold the
/// number of rows.
pub(super) fn numbers<const N: usize>(text: &str) -> Vec<[f64; N]> {
    text.lines()
        .filter_map(|line| {
            let values: Vec<f64> = line
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            values.try_into().ok()
        })
        .collect()
}
