//! Asking for what will be read soon.

/// Has values brought near that will be read soon.
#[expect(
    clippy::inline_always,
    reason = "a call for a few instructions, in the innermost loop but one"
)]
#[inline(always)]
pub(super) fn ask_for<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(CACHE_LINE_BYTES / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(
            unsafe_code,
            reason = "the tensor library has no product that reads ahead"
        )]
        // SAFETY: it reads nothing, and the address is that of a value.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _left_to_the_processor = values;
}

/// Bytes of a line of the cache.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE_BYTES: usize = 64;
