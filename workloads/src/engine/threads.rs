//! How many threads the engine computes with.
//!
//! The matrix product spreads its work over the rayon pool that it is called in. The engine
//! therefore owns one pool and enters it for every computation: nothing runs beyond its threads.
//! What comes out does not depend on how many there are.

use std::sync::OnceLock;

use super::error::EngineError;

/// Names of the environment variables by which the tensor library sizes its own work; the process
/// that starts an engine process sets both to the number of threads. Without the first one the
/// library reads /proc/cpuinfo before every matrix product, which costs more than the product
/// itself on a machine with many processors.
pub const ENVIRONMENT: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

static POOL: OnceLock<rayon::ThreadPool> = OnceLock::new();

pub(crate) fn build(threads: usize, purpose: &str) -> Result<rayon::ThreadPool, EngineError> {
    let purpose = purpose.to_owned();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |index| format!("{purpose}-{index}"))
        .build()
        .map_err(|error| EngineError::Threads {
            asked: u32::try_from(threads).unwrap_or(u32::MAX),
            reason: error.to_string(),
        })
}

/// Sets the number of threads; to be called once, before the engine computes anything.
///
/// # Errors
/// Zero threads, threads that cannot be started, or an engine that already computes with another
/// number of them.
pub fn set_threads(threads: u32) -> Result<(), EngineError> {
    let refuse = |reason: String| {
        Err(EngineError::Threads {
            asked: threads,
            reason,
        })
    };
    let Some(count) = usize::try_from(threads).ok().filter(|count| *count > 0) else {
        return refuse("at least one thread is needed".to_owned());
    };
    let pool = match POOL.get() {
        Some(pool) => pool,
        None => {
            let pool = build(count, "engine")?;
            POOL.get_or_init(|| pool)
        }
    };
    if pool.current_num_threads() == count {
        Ok(())
    } else {
        refuse(format!(
            "the engine already computes with {}",
            pool.current_num_threads()
        ))
    }
}

/// How many threads the engine computes with, once that is settled.
#[must_use]
pub fn threads() -> Option<usize> {
    POOL.get().map(rayon::ThreadPool::current_num_threads)
}

/// Runs a computation on the engine's threads; with one thread per processor unless
/// [`set_threads`] said otherwise.
pub(crate) fn run<R: Send>(
    computation: impl FnOnce() -> Result<R, EngineError> + Send,
) -> Result<R, EngineError> {
    let pool = match POOL.get() {
        Some(pool) => pool,
        None => {
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            let pool = build(available, "engine")?;
            POOL.get_or_init(|| pool)
        }
    };
    pool.install(computation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_threads_at_all_are_refused_and_a_settled_number_stays() {
        assert!(set_threads(0).is_err());
        run(|| Ok(())).expect("runs");
        let settled = u32::try_from(threads().expect("settled")).expect("few");
        set_threads(settled).expect("the same number again");
        assert!(set_threads(settled + 1).is_err());
    }
}
