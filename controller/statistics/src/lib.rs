//! What the records of requests say: metrics, percentiles with their intervals, histograms, and whether tokens are what
//! they should be.
//!
//! Pure: no file, no clock, and the same records and seed give the same numbers.

mod agreement;
mod blocks;
mod bootstrap;
mod histogram;
mod mean;
mod metric;
mod percentile;

pub use agreement::{Agreement, TOKENS_OF_A_TIE};
pub use blocks::{FEWEST_BLOCKS, interval_over_blocks};
pub use bootstrap::{Bootstrap, below, requests_per_block};
pub use histogram::{HistogramError, Interval, LatencyHistogram, write_interval_log};
pub use mean::{NORMAL, mean_interval, ratio_of_sums};
pub use metric::{
    Goodput, Origin, end_to_end_ns, goodput, inter_token_gaps_ns, per_request, send_lateness_ns,
    time_per_output_token_ns, time_to_first_token_ns,
};
pub use percentile::{
    Estimate, P50, P95, P99, Percentiles, Quantile, needed_samples, quantile_of_sorted,
};
