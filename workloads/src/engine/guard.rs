//! Libraries that panic over some damaged files, where an error is due.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a library reads of a file; `None` where it panics over it.
pub(super) fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}
