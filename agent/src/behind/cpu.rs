//! Which CPU the relay of a link has, so that links that know nothing of each other do not wait for each
//! other.
//!
//! A link whose relay has a CPU to itself holds a lock on that CPU's file, in a directory that is shared by
//! all links of a user. The kernel lets go of it when the process ends, however it does.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// A CPU, and the word that it is taken.
#[derive(Debug)]
pub(super) struct RelayCpu {
    /// `None` where there is nothing to choose.
    pub(super) cpu: Option<u32>,
    /// `None` where somebody else has it too, or nobody can be told.
    _lock: Option<Flock<File>>,
}

impl RelayCpu {
    /// The first of these that no other link has; the first where all are taken, or links cannot tell
    /// each other, for want of the directory.
    pub(super) fn choose(order: &[u32], directory: Option<&Path>) -> RelayCpu {
        let claimed = directory.and_then(|directory| {
            let mut free = order.iter();
            free.find_map(|cpu| Some((*cpu, claim(directory, *cpu)?)))
        });
        match claimed {
            Some((cpu, lock)) => RelayCpu {
                cpu: Some(cpu),
                _lock: Some(lock),
            },
            None => RelayCpu {
                cpu: order.first().copied(),
                _lock: None,
            },
        }
    }
}

fn claim(directory: &Path, cpu: u32) -> Option<Flock<File>> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory).ok()?;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let file = options.open(directory.join(cpu.to_string())).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_has_the_first_cpu_that_is_free_and_lets_go_of_it_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let shared = directory.path().join("cpus");
        let choose = || RelayCpu::choose(&[7, 5, 2], Some(&shared));
        let [first, second, third] = [(); 3].map(|()| choose());
        let cpus = [&first, &second, &third].map(|one| one.cpu);
        assert_eq!(cpus, [7, 5, 2].map(Some));
        // All are taken; who shares one lets go of nothing.
        assert_eq!(choose().cpu, Some(7));
        assert_eq!(choose().cpu, Some(7));
        drop(second);
        assert_eq!(choose().cpu, Some(5));
    }

    #[test]
    fn who_cannot_tell_others_has_the_first_and_who_has_no_choice_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for directory in [None, Some(file.path())] {
            let chosen = [(); 2].map(|()| RelayCpu::choose(&[3, 1], directory));
            assert_eq!(chosen.each_ref().map(|one| one.cpu), [Some(3); 2]);
        }
        assert_eq!(RelayCpu::choose(&[], None).cpu, None);
    }
}
