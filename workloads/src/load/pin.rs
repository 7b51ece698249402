//! Keeps the thread that sends to one CPU, and says so where the kernel refuses.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Binds the present thread to the last CPU that it may run on, so that it is never moved in the middle of a wait.
///
/// # Errors
/// What the kernel said; the thread then runs where it may.
pub(super) fn keep_to_one_cpu() -> Result<(), Errno> {
    let present = Pid::from_raw(0);
    let allowed = sched_getaffinity(present)?;
    let last = (0..CpuSet::count()).rfind(|cpu| allowed.is_set(*cpu) == Ok(true));
    let mut one = CpuSet::new();
    one.set(last.ok_or(Errno::ENODEV)?)?;
    sched_setaffinity(present, &one)
}

/// What the record of a run says of a load that could not be bound.
pub(super) fn warning(errno: Errno) -> String {
    format!(
        "the thread that sends requests could not be kept to one CPU ({errno}): the kernel may move it in the middle \
         of a wait, and requests be sent later than they were due"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_was_bound_may_run_on_one_cpu_alone() {
        let count = std::thread::spawn(|| {
            keep_to_one_cpu().unwrap();
            let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
            let cpus = 0..CpuSet::count();
            cpus.filter(|cpu| allowed.is_set(*cpu) == Ok(true)).count()
        });
        assert_eq!(count.join().unwrap(), 1);
    }
}
