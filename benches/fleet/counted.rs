//! The allocator of the binary, with what it has given out counted, where somebody asks for that.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tikv_jemallocator::{Jemalloc, usable_size};

struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// As `src/allocator.rs` has it.
#[expect(unsafe_code, reason = "the one way to set options that are read before main")]
// SAFETY: jemalloc has `const char *` under this name as a weak symbol, and reads it as a string that ends with zero.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub(crate) static OPTIONS: &[u8; 69] = b"narenas:2,background_thread:true,dirty_decay_ms:100,muzzy_decay_ms:0\0";

static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// From here on it is counted.
pub(crate) fn count() {
    COUNTING.store(true, Relaxed);
}

/// Bytes that are in use.
pub(crate) fn live() -> usize {
    LIVE.load(Relaxed)
}

/// The most bytes that were in use since this was asked last.
pub(crate) fn peak() -> usize {
    PEAK.swap(live(), Relaxed)
}

/// Counts what was given out at `pointer`.
fn grow(pointer: *mut u8) {
    if COUNTING.load(Relaxed) && !pointer.is_null() {
        let size = size(pointer);
        let live = LIVE.fetch_add(size, Relaxed).wrapping_add(size);
        // What was there before the counting began may have been given back.
        if live < usize::MAX / 2 {
            PEAK.fetch_max(live, Relaxed);
        }
    }
}

fn shrink(pointer: *mut u8) {
    if COUNTING.load(Relaxed) {
        LIVE.fetch_sub(size(pointer), Relaxed);
    }
}

/// What was asked for, rounded up as the allocator does.
fn size(pointer: *mut u8) -> usize {
    #[expect(unsafe_code, reason = "asked of the allocator")]
    // SAFETY: only called with what the allocator has given out and not taken back.
    unsafe {
        usable_size(pointer)
    }
}

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let pointer = unsafe { Jemalloc.alloc(layout) };
        grow(pointer);
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let pointer = unsafe { Jemalloc.alloc_zeroed(layout) };
        grow(pointer);
        pointer
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        shrink(pointer);
        // SAFETY: the caller's.
        let moved = unsafe { Jemalloc.realloc(pointer, layout, size) };
        grow(if moved.is_null() { pointer } else { moved });
        moved
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(pointer);
        // SAFETY: the caller's.
        unsafe { Jemalloc.dealloc(pointer, layout) }
    }
}
