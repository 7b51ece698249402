//! Binding memory to NUMA nodes (set_mempolicy(2)).

use std::io;

/// `MPOL_BIND` of `linux/mempolicy.h`.
const BIND: libc::c_int = 2;

/// NUMA nodes that a mask has room for: as many as any kernel has (`CONFIG_NODES_SHIFT` is 10 at most).
const MOST_NODES: usize = 1024;

/// The nodes of a mask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeMask([u64; MOST_NODES / 64]);

impl NodeMask {
    /// A mask of these nodes; those that no kernel has are left out.
    pub(crate) fn of(nodes: &[u32]) -> NodeMask {
        let mut mask = [0; MOST_NODES / 64];
        for node in nodes {
            let index = usize::try_from(node / 64).unwrap_or(usize::MAX);
            if let Some(word) = mask.get_mut(index) {
                *word |= 1 << (node % 64);
            }
        }
        NodeMask(mask)
    }
}

/// The policy of the calling thread and its nodes.
#[cfg(test)]
fn read_back() -> io::Result<(libc::c_int, NodeMask)> {
    let mut mode = 0;
    let mut mask = NodeMask([0; MOST_NODES / 64]);
    let no_address = std::ptr::null::<libc::c_void>();
    #[expect(unsafe_code, reason = "neither std nor nix has get_mempolicy")]
    // SAFETY: both pointers are to memory of this frame, and the mask has MOST_NODES bits.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut mode,
            mask.0.as_mut_ptr(),
            MOST_NODES + 1,
            no_address,
            0,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((mode, mask))
    }
}

/// Memory that the calling thread, and what it starts, asks for from now on comes from these nodes
/// alone. Allocates nothing: it may be called between fork and exec.
pub(crate) fn bind(mask: &NodeMask) -> io::Result<()> {
    #[expect(unsafe_code, reason = "neither std nor nix has set_mempolicy")]
    // SAFETY: the mask outlives the call and has MOST_NODES bits; the kernel reads one bit less than
    // it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_set_mempolicy,
            BIND,
            mask.0.as_ptr(),
            MOST_NODES + 1,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Binds in a thread of its own, whose policy ends with it; `None` where this kernel or whoever
    /// started the test does not let it, which is said.
    fn in_a_bound_thread<T: Send>(act: impl FnOnce() -> T + Send) -> Option<T> {
        std::thread::scope(|scope| {
            let bound = scope.spawn(|| match bind(&NodeMask::of(&[0])) {
                Ok(()) => Some(act()),
                Err(error) => {
                    println!("SKIPPED(numa) memory cannot be bound to node 0: {error}");
                    None
                }
            });
            bound.join().unwrap()
        })
    }

    #[test]
    fn a_thread_that_is_bound_reads_its_policy_back() {
        if let Some(read) = in_a_bound_thread(read_back) {
            let (mode, mask) = read.unwrap();
            assert_eq!(mode, BIND);
            assert_eq!(mask.0[0], 1, "node 0 alone");
            assert!(mask.0[1..].iter().all(|word| *word == 0));
        }
        let (mode, _) = read_back().unwrap_or((0, NodeMask::of(&[])));
        assert_ne!(mode, BIND, "other threads are as they were");
    }

    #[test]
    fn what_a_bound_thread_starts_has_its_memory_on_those_nodes() {
        let maps = || {
            Command::new("/bin/cat")
                .arg("/proc/self/numa_maps")
                .output()
        };
        if let Some(output) = in_a_bound_thread(maps) {
            let maps = String::from_utf8(output.unwrap().stdout).unwrap();
            let mut lines = maps.lines().peekable();
            if lines.peek().is_none() {
                println!("SKIPPED(numa) /proc/self/numa_maps tells nothing here");
            }
            let mut policies = lines.filter_map(|line| line.split_whitespace().nth(1));
            assert!(policies.all(|policy| policy == "bind:0"), "{maps}");
        }
    }

    #[test]
    fn a_mask_has_the_nodes_that_a_kernel_can_have() {
        let mask = NodeMask::of(&[0, 65, 4_000]);
        assert_eq!((mask.0[0], mask.0[1]), (1, 2));
        assert!(mask.0[2..].iter().all(|word| *word == 0));
    }
}
