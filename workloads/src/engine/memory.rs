//! Whether there is room: what a part of a model will occupy, worked out before any of it is read,
//! against what the device has left.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::compute::Compute;
use super::error::EngineError;
use super::model::Parts;
use super::tensors::{
    EMBEDDING, FINAL_NORM, HEAD, NamedShape, bias_of, head_norm_shapes, layer_shapes,
};
use super::weights::Weights;
use crate::model_config::ModelConfig;

/// What is left of some memory, and whose that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) bytes: u64,
    /// For people: which figure says so.
    pub(crate) source: String,
}

/// What a part of a model occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needed {
    /// Weights as they stay, with the copies that kernels read.
    pub(super) weights: u64,
    /// Cosines and sines of all positions.
    pub(super) rotation: u64,
    /// What reading takes beyond that, for a moment: a matrix as it is stored and as it was read,
    /// and matrices before they are joined.
    pub(super) reading: u64,
}

impl Needed {
    /// Of the layers `layers`, each of the shape in `config`, and the ends that `parts` names.
    pub(super) fn of(
        weights: &Weights,
        config: &ModelConfig,
        layers: &Range<u32>,
        parts: Parts,
    ) -> Needed {
        let mut needed = Needed {
            weights: 0,
            rotation: rotation_bytes(config, weights.compute()),
            reading: 0,
        };
        let table = |name: &str| (name.to_owned(), vec![config.vocabulary, config.width]);
        if parts.embedding || (parts.head && config.tie_embeddings) {
            needed.add(weights, &[table(EMBEDDING)]);
        }
        if parts.head {
            if !config.tie_embeddings {
                needed.add(weights, &[table(HEAD)]);
            }
            let norm = (FINAL_NORM.to_owned(), vec![config.width]);
            needed.weights += weights.vector_bytes(&norm);
        }
        // All layers have the same shapes; in GGUF they may be stored in different types.
        for layer in layers.clone() {
            needed.add_layer(weights, config, layer);
        }
        needed
    }

    fn add_layer(&mut self, weights: &Weights, config: &ModelConfig, layer: u32) {
        let [norm, query, key, value, output, second_norm, gate, up, down] =
            layer_shapes(config, layer);
        let mut vectors = vec![norm, second_norm];
        if config.attention_bias {
            vectors.extend([&query, &key, &value].map(bias_of));
        }
        if config.output_bias {
            vectors.push(bias_of(&output));
        }
        if config.head_norm {
            vectors.extend(head_norm_shapes(config, layer));
        }
        let bytes = vectors.iter().map(|shape| weights.vector_bytes(shape));
        self.weights += bytes.sum::<u64>();
        for joined in [&[query, key, value][..], &[output], &[gate, up], &[down]] {
            self.add(weights, joined);
        }
    }

    /// Adds matrices that are joined into one, where they are dense.
    fn add(&mut self, weights: &Weights, joined: &[NamedShape]) {
        let stay: u64 = joined.iter().map(|shape| weights.matrix_bytes(shape)).sum();
        self.weights += stay;
        let read = joined.iter().map(|shape| weights.reading_bytes(shape));
        let read = read.max().unwrap_or(0);
        let before = if joined.len() > 1 { stay } else { 0 };
        self.reading = self.reading.max(before.saturating_add(read));
    }

    const fn all(&self) -> u64 {
        self.weights
            .saturating_add(self.rotation)
            .saturating_add(self.reading)
    }

    /// Refuses what does not fit into what is left.
    ///
    /// # Errors
    /// [`EngineError::Memory`], with the figures.
    pub(super) fn check(&self, layers: &Range<u32>, left: Option<Left>) -> Result<(), EngineError> {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let what = format!(
            "layers {}..{} of the model ({} MB of weights with the copies that kernels read, {} MB of rotary \
             tables, {} MB while they are read)",
            layers.start,
            layers.end,
            megabytes(self.weights),
            megabytes(self.rotation),
            megabytes(self.reading),
        );
        check(what, self.all(), left)
    }
}

/// What tensors occupy that are kept one by one as they are read, and what reading takes beyond that for a moment: a
/// tensor as it is stored and as it was read.
pub(super) fn tensor_bytes(shapes: &[NamedShape], compute: &Compute) -> (u64, u64) {
    let bytes = shapes.iter().map(|(_, shape)| compute.tensor_bytes(shape));
    let largest = bytes.clone().max().unwrap_or(0);
    (
        bytes.fold(0, u64::saturating_add),
        largest.saturating_mul(2),
    )
}

/// Refuses what does not fit. What nobody can tell is left to the allocation.
///
/// # Errors
/// [`EngineError::Memory`].
pub(super) fn check(what: String, needed: u64, left: Option<Left>) -> Result<(), EngineError> {
    match left {
        Some(Left { bytes, source }) if bytes < needed => Err(EngineError::Memory {
            what,
            needed_bytes: needed,
            left_bytes: bytes,
            source_name: source,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Keys and values of so many sequences of so many positions.
pub(super) fn key_value_bytes(
    config: &ModelConfig,
    layers: &Range<u32>,
    compute: &Compute,
    (sequences, positions): (u32, u32),
) -> u64 {
    let elements = [
        layers.end.saturating_sub(layers.start),
        sequences,
        config.kv_heads,
        positions,
        config.head_width,
    ];
    // Keys and values.
    let bytes = 2 * compute.number_bytes();
    let elements = elements.into_iter().map(u64::from);
    elements.fold(bytes, u64::saturating_mul)
}

fn rotation_bytes(config: &ModelConfig, compute: &Compute) -> u64 {
    // Cosines and sines of half a head, made in f64 and f32 before they are placed.
    let numbers = u64::from(config.max_positions).saturating_mul(u64::from(config.head_width));
    numbers.saturating_mul(compute.number_bytes())
}

/// What the machine has left for this process: the least of what the kernel holds available and of
/// what the control groups above it allow.
pub(crate) fn of_machine() -> Option<Left> {
    of_machine_at(Path::new("/"))
}

fn of_machine_at(root: &Path) -> Option<Left> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let available = number_after(&meminfo, "MemAvailable:")?.checked_mul(1024)?;
    let machine = Left {
        bytes: available,
        source: "MemAvailable of /proc/meminfo".to_owned(),
    };
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits(root, line));
    limits.chain([machine]).min_by_key(|left| left.bytes)
}

/// What the groups on the way to one of /proc/self/cgroup's lines leave (cgroup-v2.rst,
/// "Memory Interface Files"; cgroup-v1/memory.rst). Pages of files that were not read lately are
/// given back, so they count as left.
fn limits(root: &Path, line: &str) -> Vec<Left> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (mount, limit, usage, reclaimable) = if controllers.is_empty() {
        (
            "sys/fs/cgroup",
            "memory.max",
            "memory.current",
            "inactive_file ",
        )
    } else if controllers.split(',').any(|one| one == "memory") {
        (
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file ",
        )
    } else {
        return Vec::new();
    };
    let mount = root.join(mount);
    let own = mount.join(path.trim_start_matches('/'));
    let groups = own
        .ancestors()
        .take_while(|group| group.starts_with(&mount));
    let left = groups.filter_map(|group| {
        let read = |name: &str| fs::read_to_string(group.join(name)).ok();
        // "max" is no number: no limit.
        let most: u64 = read(limit)?.trim().parse().ok()?;
        let used: u64 = read(usage)?.trim().parse().ok()?;
        let files = read("memory.stat").and_then(|text| number_after(&text, reclaimable));
        let used = used.saturating_sub(files.unwrap_or(0));
        let path = group.strip_prefix(root).unwrap_or(group);
        Some(Left {
            bytes: most.saturating_sub(used),
            source: format!("{limit} of /{}", path.display()),
        })
    });
    left.collect()
}

/// The number behind a name at the start of a line.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_least_of_what_the_machine_and_the_groups_above_leave_counts() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    4000 kB\n"),
                ("proc/self/cgroup", "0::/lab/node\n"),
            ],
        );
        let left = of_machine_at(root.path()).unwrap();
        assert_eq!(left.bytes, 4_096_000);
        write(
            root.path(),
            &[
                ("sys/fs/cgroup/lab/node/memory.max", "max\n"),
                ("sys/fs/cgroup/lab/node/memory.current", "7\n"),
                ("sys/fs/cgroup/lab/memory.max", "1000000\n"),
                ("sys/fs/cgroup/lab/memory.current", "900000\n"),
                (
                    "sys/fs/cgroup/lab/memory.stat",
                    "anon 1\ninactive_file 500000\n",
                ),
            ],
        );
        let left = of_machine_at(root.path()).unwrap();
        assert_eq!(left.bytes, 600_000);
        assert_eq!(left.source, "memory.max of /sys/fs/cgroup/lab");
        write(
            root.path(),
            &[
                ("proc/self/cgroup", "5:cpu,memory:/own\n4:pids:/own\n"),
                ("sys/fs/cgroup/memory/own/memory.limit_in_bytes", "3000\n"),
                ("sys/fs/cgroup/memory/own/memory.usage_in_bytes", "5000\n"),
            ],
        );
        let left = of_machine_at(root.path()).unwrap();
        assert_eq!((left.bytes, left.source.contains("/own")), (0, true));
        assert_eq!(of_machine_at(Path::new("/nonexistent")), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_figures_and_what_nobody_can_tell_is_not() {
        let left = |bytes| {
            Some(Left {
                bytes,
                source: "a stub".to_owned(),
            })
        };
        assert!(check("it".to_owned(), 10, left(10)).is_ok());
        assert!(check("it".to_owned(), 10, None).is_ok());
        let told = check("it".to_owned(), 3_000_000, left(1_500_000));
        let told = told.unwrap_err().to_string();
        assert!(
            told.contains("it needs 3 MB of memory") && told.contains("1 MB is left"),
            "{told}"
        );
        assert!(told.contains("a stub"), "{told}");
    }
}
