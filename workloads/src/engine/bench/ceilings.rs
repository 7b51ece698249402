//! What bounds decoding on this machine: how fast the engine's threads read memory, and how fast the engine's own
//! product multiplies. Measured by the process that computes, in the same minutes as the model.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::engine::error::EngineError;
use crate::engine::memory;
use crate::engine::products::dense::FEWER_THAN;
use crate::engine::products::dense::product;
use crate::engine::threads;
use crate::engine::{Compute, ComputeDevice, PassWork};

/// Where the kernel tells about the caches of the first CPU.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";

/// Weights that are so many times the last-level cache are read from memory as any longer ones are, so that a
/// buffer need not be longer.
const CACHES_OF_A_BUFFER: u64 = 4;

/// The longest buffer where nobody tells how large the caches are: more than any has.
const LONGEST_UNTOLD_BYTES: u64 = 1 << 31;

/// A window is cut into so many parts, of which the fastest counts, as STREAM does it: what disturbs makes slower
/// only.
const PARTS: u64 = 5;

/// The large matrix: outputs and inputs. A few of its rows fit into the nearest cache, all of it into none near.
const MATRIX: (usize, usize) = (4096, 1024);

/// What a pass takes at least, and how fast this machine does that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceilings {
    /// What a pass has to read and to multiply.
    pub work: PassWork,
    /// The last-level cache; `None` where the kernel does not tell.
    pub last_level_cache_bytes: Option<u64>,
    /// How fast memory is read.
    pub reading: Option<Rate>,
    /// How long the buffer was that was read.
    pub buffer_bytes: u64,
    /// How fast numbers are multiplied.
    pub multiplying: Option<Rate>,
    /// Why one of them, or each, is missing.
    pub unavailable: Option<String>,
}

/// So much in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bytes, or products.
    pub count: u64,
    /// In how long.
    pub ns: u64,
}

impl Rate {
    fn is_faster_than(self, other: Rate) -> bool {
        let cross = |one: Rate, other: Rate| u128::from(one.count) * u128::from(other.ns);
        cross(self, other) > cross(other, self)
    }
}

/// Measures what bounds passes that do `work`, each for a window.
pub(super) fn measure(compute: &Compute, work: PassWork, window_ns: u64) -> Ceilings {
    let last_level_cache_bytes = last_level_cache_bytes(Path::new(CACHES));
    let mut ceilings = Ceilings {
        work,
        last_level_cache_bytes,
        reading: None,
        buffer_bytes: buffer_bytes(work.weight_bytes, last_level_cache_bytes),
        multiplying: None,
        unavailable: None,
    };
    if compute.device_name() != ComputeDevice::Cpu {
        let why = "memory and products are measured on CPUs alone";
        ceilings.unavailable = Some(why.to_owned());
        return ceilings;
    }
    let mut whys = Vec::new();
    match reading(compute, ceilings.buffer_bytes, window_ns) {
        Ok(rate) => ceilings.reading = Some(rate),
        Err(error) => whys.push(error.to_string()),
    }
    if work.of_numbers {
        match multiplying(window_ns) {
            Ok(rate) => ceilings.multiplying = Some(rate),
            Err(error) => whys.push(error.to_string()),
        }
    } else {
        let why = "the peak is that of f32 products, and this model's are of other numbers";
        whys.push(why.to_owned());
    }
    ceilings.unavailable = (!whys.is_empty()).then(|| whys.join("; "));
    ceilings
}

/// How long a buffer has to be that is read as weights of so many bytes are.
fn buffer_bytes(weight_bytes: u64, last_level_cache_bytes: Option<u64>) -> u64 {
    let caches = last_level_cache_bytes.map(|cache| cache.saturating_mul(CACHES_OF_A_BUFFER));
    weight_bytes.min(caches.unwrap_or(LONGEST_UNTOLD_BYTES))
}

/// The size of the cache of the highest level that holds data, by the kernel's files about a CPU's caches.
fn last_level_cache_bytes(caches: &Path) -> Option<u64> {
    let entries = fs::read_dir(caches).ok()?;
    let of = |cache: &Path| {
        let read = |name: &str| fs::read_to_string(cache.join(name)).ok();
        let level: u32 = read("level")?.trim().parse().ok()?;
        let kilobytes: u64 = read("size")?.trim().strip_suffix('K')?.parse().ok()?;
        let holds_data = read("type")?.trim() != "Instruction";
        holds_data.then_some((level, kilobytes.checked_mul(1024)?))
    };
    let found = entries.flatten().filter_map(|entry| of(&entry.path()));
    found.max().map(|(_, bytes)| bytes)
}

/// The fastest part of a window in which a pass of `count` is made over and over.
fn fastest(
    window_ns: u64,
    count: u64,
    mut pass: impl FnMut() -> Result<(), EngineError>,
) -> Result<Rate, EngineError> {
    pass()?;
    let mut fastest: Option<Rate> = None;
    for _ in 0..PARTS {
        let (began, mut passes) = (clock::now(), 0);
        let rate = loop {
            pass()?;
            passes += 1;
            let ns = clock::now().saturating_sub(began);
            if ns >= (window_ns / PARTS).max(1) {
                let count = count.saturating_mul(passes);
                break Rate { count, ns };
            }
        };
        if fastest.is_none_or(|fastest| rate.is_faster_than(fastest)) {
            fastest = Some(rate);
        }
    }
    Ok(fastest.unwrap_or(Rate { count: 0, ns: 1 }))
}

/// Reads a buffer from its beginning to its end, shared out to the engine's threads.
fn reading(compute: &Compute, bytes: u64, window_ns: u64) -> Result<Rate, EngineError> {
    let what = "what is read to see how fast memory is".to_owned();
    memory::check(what, bytes, compute.memory_left())?;
    let count = usize::try_from(bytes / 4).unwrap_or(usize::MAX);
    // Written, for pages that nobody has written to are one and the same.
    let numbers = vec![1.0_f32; count];
    fastest(window_ns, bytes, || {
        threads::run(|| {
            let each = count.div_ceil(rayon::current_num_threads()).max(1);
            let parts = numbers.par_chunks(each);
            let sum: f32 = parts.map(|part| Arch::new().dispatch(Sum(part))).sum();
            black_box(sum);
            Ok(())
        })
    })
}

/// Multiplies as many states as the engine's own product takes with a large matrix.
fn multiplying(window_ns: u64) -> Result<Rate, EngineError> {
    let multiplying = || EngineError::tensor("multiplying to see how fast that is");
    let (outputs, inputs) = MATRIX;
    let states = FEWER_THAN - 1;
    let ones = |shape: (usize, usize)| Tensor::ones(shape, DType::F32, &Device::Cpu);
    let matrix = ones((outputs, inputs)).map_err(multiplying())?;
    let of_states = ones((states, inputs)).map_err(multiplying())?;
    let count = u64::try_from(states * outputs * inputs).unwrap_or(u64::MAX);
    fastest(window_ns, count, || {
        threads::run(|| {
            let made = product(&of_states, &matrix).map_err(multiplying())?;
            black_box(made);
            Ok(())
        })
    })
}

/// Sums that are added to side by side, so that none waits for itself.
const SUMS: usize = 8;

/// Adds numbers up: the least that can be done with what is read.
struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let (groups, others) = vectors.as_chunks::<SUMS>();
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for group in groups {
            for at in 0..SUMS {
                sums[at] = simd.add_f32s(sums[at], group[at]);
            }
        }
        let mut sum = 0.0;
        for vector in sums.iter().chain(others) {
            sum += simd.reduce_sum_f32s(*vector);
        }
        for number in rest {
            sum += number;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_read_whatever_the_length() {
        for length in [0_u16, 1, 7, 64, 65, 1000, 4099] {
            let numbers: Vec<f32> = (0..length).map(f32::from).collect();
            let sum = Arch::new().dispatch(Sum(&numbers));
            let expected = (0..u32::from(length)).sum::<u32>();
            // Below 2^24 f32 is exact.
            assert!(
                (f64::from(sum) - f64::from(expected)).abs() < 1.0,
                "{length}"
            );
        }
    }

    #[test]
    fn a_buffer_is_as_long_as_the_weights_and_no_longer_than_memory_needs() {
        assert_eq!(buffer_bytes(3_000, Some(1_000)), 3_000);
        assert_eq!(buffer_bytes(30_000, Some(1_000)), 4_000);
        assert_eq!(buffer_bytes(3_000, None), 3_000);
        assert_eq!(buffer_bytes(u64::MAX, None), LONGEST_UNTOLD_BYTES);
    }

    #[test]
    fn the_last_level_is_the_highest_that_holds_data() {
        let caches = tempfile::tempdir().unwrap();
        for (name, level, kind, size) in [
            ("index0", "1", "Data", "48K"),
            ("index1", "4", "Instruction", "512K"),
            ("index2", "3", "Unified", "36608K"),
            ("index3", "2", "Unified", "2048K"),
        ] {
            let cache = caches.path().join(name);
            fs::create_dir(&cache).unwrap();
            for (file, text) in [("level", level), ("type", kind), ("size", size)] {
                fs::write(cache.join(file), format!("{text}\n")).unwrap();
            }
        }
        fs::write(caches.path().join("uevent"), "").unwrap();
        assert_eq!(last_level_cache_bytes(caches.path()), Some(36_608 * 1024));
        assert_eq!(last_level_cache_bytes(&caches.path().join("none")), None);
    }

    #[test]
    fn the_faster_rate_is_the_one_with_more_in_the_same_time() {
        let rate = |count, ns| Rate { count, ns };
        assert!(rate(10, 2).is_faster_than(rate(40, 10)));
        assert!(!rate(40, 10).is_faster_than(rate(10, 2)));
        assert!(!rate(10, 2).is_faster_than(rate(10, 2)));
    }

    #[test]
    fn both_ceilings_are_measured_on_a_cpu_and_products_of_other_numbers_have_none() {
        let work = PassWork {
            weight_bytes: 4096,
            ..PassWork::NONE
        };
        let ceilings = measure(&Compute::cpu(), work, 1);
        assert_eq!(ceilings.unavailable, None);
        assert_eq!(ceilings.buffer_bytes, 4096);
        let is_rate = |rate: Option<Rate>| rate.is_some_and(|rate| rate.count > 0 && rate.ns > 0);
        assert!(is_rate(ceilings.reading) && is_rate(ceilings.multiplying));
        let of_others = PassWork {
            of_numbers: false,
            ..work
        };
        let ceilings = measure(&Compute::cpu(), of_others, 1);
        assert!(is_rate(ceilings.reading) && ceilings.multiplying.is_none());
        assert!(ceilings.unavailable.is_some_and(|why| why.contains("f32")));
    }
}
