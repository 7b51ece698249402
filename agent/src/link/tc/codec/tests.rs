//! Messages byte for byte, as they are read back, and as kernels write them.

mod captured;
mod exact;
mod exact_queues;
mod read_back;

use super::*;

fn place(handle: Handle, parent: Handle) -> Place {
    Place::new(7, handle, parent)
}
