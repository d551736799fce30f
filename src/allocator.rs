//! The allocator of every command: jemalloc, for what it gives back and for what it does not waste.
//!
//! A sidecar lives for months beside an application that wants the memory. After a burst, glibc's allocator keeps most of
//! what the burst needed, since a few long-lived bytes pin the heap below them; jemalloc returns pages wherever they are.
//! `docs/performance.md` has the figures of both.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc before `main`, as `MALLOC_CONF` in its manual; `_RJEM_MALLOC_CONF` in the environment overrides it.
///
/// * Two arenas: a proxy has two workers by default, and each arena keeps memory of its own.
/// * What nobody uses goes back to the system within a tenth of a second, by a thread in the background and not by the worker
///   that happens to allocate next.
#[expect(unsafe_code, reason = "the one way to set options that are read before main")]
// SAFETY: jemalloc has `const char *` under this name as a weak symbol, and reads it as a string that ends with zero.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub(crate) static OPTIONS: &[u8; 69] = b"narenas:2,background_thread:true,dirty_decay_ms:100,muzzy_decay_ms:0\0";
