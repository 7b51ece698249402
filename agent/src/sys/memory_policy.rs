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
