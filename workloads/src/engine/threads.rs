//! How many threads the engine computes with.
//!
//! The matrix product spreads its work over the rayon pool that it is called in. The engine
//! therefore owns one pool and enters it for every computation: nothing runs beyond its threads.
//!
//! The library also has threads of its own, which spin while they wait. Only the environment of the
//! process bounds those: whoever starts a process that computes sets [`thread_environment`] for it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use super::error::EngineError;
use crate::job::{THREAD_VARIABLES, thread_environment};

/// How many threads the tensor library itself would use, as the environment says; `None` where it
/// does not, and the library takes what it finds: the record should say so.
#[must_use]
pub fn library_threads() -> Option<u32> {
    let read = |name| {
        std::env::var(name)
            .ok()?
            .parse::<u32>()
            .ok()
            .filter(|count| *count > 0)
    };
    let [products, rest] = THREAD_VARIABLES.map(read);
    Some(products?.max(rest.or(products)?))
}

/// Starts this program anew, as the same process and with the same arguments, in the environment of
/// [`thread_environment`], unless its environment already says how many threads. To be called first thing
/// in a program that trains or computes without having been started by one that sets it.
///
/// # Errors
/// A program that cannot be started again; on success it returns only where nothing was missing.
pub fn bound_this_process(threads: u32) -> Result<(), EngineError> {
    if library_threads().is_some() {
        return Ok(());
    }
    let error = this_program_again(threads).exec();
    let reason = format!("starting this program again in the environment for it: {error}");
    Err(EngineError::Threads {
        asked: threads,
        reason,
    })
}

fn this_program_again(threads: u32) -> Command {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "hexloop".into());
    let mut again = Command::new("/proc/self/exe");
    again
        .arg0(name)
        .args(arguments)
        .envs(thread_environment(threads));
    again
}

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
    fn a_program_started_again_has_its_arguments_and_the_environment() {
        let again = this_program_again(3);
        assert!(again.get_args().eq(std::env::args_os().skip(1)));
        let set: Vec<_> = again.get_envs().filter_map(|(_, value)| value).collect();
        assert_eq!(set, ["3", "3"]);
    }

    #[test]
    fn no_threads_at_all_are_refused_and_a_settled_number_stays() {
        assert!(set_threads(0).is_err());
        run(|| Ok(())).expect("runs");
        let settled = u32::try_from(threads().expect("settled")).expect("few");
        set_threads(settled).expect("the same number again");
        assert!(set_threads(settled + 1).is_err());
    }
}
