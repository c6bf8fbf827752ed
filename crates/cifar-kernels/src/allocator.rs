//! A global allocator for programs that train: large blocks are kept for the next one of their size.
//!
//! A training step asks for the same large blocks as the one before. The system's allocator gives them back to the system
//! in between, and taking them anew, page by page and filled with zeros, costs as much as the arithmetic.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, PoisonError};

/// Smaller blocks are the system allocator's business.
const LARGE: usize = 128 << 10;
/// Sizes are rounded up to a multiple of this.
const STEP: usize = 64 << 10;
/// Large blocks begin on a page.
const ALIGN: usize = 4 << 10;
/// Larger blocks begin on a huge page, and the system is asked for such pages: fewer misses of the address cache.
const HUGE: usize = 4 << 20;
const HUGE_ALIGN: usize = 2 << 20;
/// Blocks that are kept at most, and their bytes.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 1 << 30;

/// Keeps large blocks that were freed, at most 1 GiB of them. Only a program may install it:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: cifar_kernels::CachingAllocator = cifar_kernels::CachingAllocator::new();
/// ```
#[derive(Debug)]
pub struct CachingAllocator {
    kept: Mutex<Kept>,
}

/// Addresses and sizes of blocks that nobody uses.
#[derive(Debug)]
struct Kept {
    blocks: [(usize, usize); KEPT],
    count: usize,
    bytes: usize,
}

impl CachingAllocator {
    /// Keeps nothing yet.
    pub const fn new() -> Self {
        Self { kept: Mutex::new(Kept { blocks: [(0, 0); KEPT], count: 0, bytes: 0 }) }
    }

    /// A block of exactly `size` bytes that was kept: the last one, which is the likeliest to be in a cache.
    fn take(&self, size: usize) -> Option<*mut u8> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let count = kept.count;
        let at = kept.blocks[..count].iter().rposition(|(_, kept)| *kept == size)?;
        let (address, _) = kept.blocks[at];
        kept.blocks.copy_within(at + 1..count, at);
        kept.count -= 1;
        kept.bytes -= size;
        Some(std::ptr::with_exposed_provenance_mut(address))
    }

    /// Keeps a block, if there is room.
    fn keep(&self, block: *mut u8, size: usize) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let count = kept.count;
        if count == KEPT || kept.bytes + size > KEPT_BYTES {
            return false;
        }
        kept.blocks[count] = (block.expose_provenance(), size);
        kept.count += 1;
        kept.bytes += size;
        true
    }
}

impl Default for CachingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

/// The layout that a large block really has, the same for all sizes that are rounded to it; none for others.
fn large(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE || layout.align() > ALIGN {
        return None;
    }
    let align = if layout.size() < HUGE { ALIGN } else { HUGE_ALIGN };
    Layout::from_size_align(layout.size().checked_next_multiple_of(STEP)?, align).ok()
}

/// A new large block from the system.
///
/// # Safety
/// As for [`GlobalAlloc::alloc`].
unsafe fn fresh(large: Layout) -> *mut u8 {
    // SAFETY: the caller's.
    let block = unsafe { System.alloc(large) };
    #[cfg(target_os = "linux")]
    if large.size() >= HUGE && !block.is_null() {
        // It may refuse, which costs speed only.
        // SAFETY: whole pages of a block that is ours; the advice changes no byte.
        let _ = unsafe { rustix::mm::madvise(block.cast(), large.size(), rustix::mm::Advice::LinuxHugepage) };
    }
    block
}

// SAFETY: every block comes from `System` under the layout that `large` makes of the caller's, or under the caller's own,
// and goes back there under the same one, since `large` depends on the layout alone. A kept block is in nobody's hands
// and is given to one caller only, under the lock. The lock's code allocates nothing.
unsafe impl GlobalAlloc for CachingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match large(layout) {
            // SAFETY: the caller's layout.
            None => unsafe { System.alloc(layout) },
            // SAFETY: a layout of a size above 0.
            Some(large) => self.take(large.size()).unwrap_or_else(|| unsafe { fresh(large) }),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(large) = large(layout) else {
            // SAFETY: the caller's layout.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let kept = self.take(large.size());
        if kept.is_none() && large.size() < HUGE {
            // SAFETY: a layout of a size above 0.
            return unsafe { System.alloc_zeroed(large) };
        }
        // SAFETY: a layout of a size above 0; the block has at least `layout.size()` bytes.
        unsafe {
            let block = kept.unwrap_or_else(|| fresh(large));
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match large(layout) {
            // SAFETY: the caller's block and layout.
            None => unsafe { System.dealloc(block, layout) },
            Some(large) if self.keep(block, large.size()) => {}
            // SAFETY: the block came from `System` under this layout, as said above.
            Some(large) => unsafe { System.dealloc(block, large) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller vouches that `new_size` is above 0 and does not overflow when rounded up to the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (large(layout), large(new)) {
            // SAFETY: the caller's block and layout.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            (Some(old), Some(new)) if old == new => block,
            // A list that grows leaves blocks of sizes that nobody asks for again: they go back to the system.
            // SAFETY: the block came from `System` under `old`; the new size is above 0.
            (Some(old), Some(new)) if old.align() == new.align() => unsafe { System.realloc(block, old, new.size()) },
            // SAFETY: both blocks have the bytes that are copied, and they are not the same.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    std::ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_serves_the_next_of_its_size_and_is_zeroed_when_asked() {
        let allocator = CachingAllocator::new();
        let layout = Layout::from_size_align(LARGE + 5, 4).unwrap();
        // SAFETY: the layouts are those of the blocks, and every block is freed once.
        unsafe {
            let first = allocator.alloc(layout);
            first.write_bytes(7, layout.size());
            allocator.dealloc(first, layout);
            let second = allocator.alloc_zeroed(layout);
            assert_eq!(first, second);
            assert!(std::slice::from_raw_parts(second, layout.size()).iter().all(|byte| *byte == 0));
            second.write_bytes(9, layout.size());
            let grown = allocator.realloc(second, layout, 3 * LARGE);
            assert!(std::slice::from_raw_parts(grown, layout.size()).iter().all(|byte| *byte == 9));
            let shrunk = allocator.realloc(grown, Layout::from_size_align(3 * LARGE, 4).unwrap(), 100);
            assert!(std::slice::from_raw_parts(shrunk, 100).iter().all(|byte| *byte == 9));
            allocator.dealloc(shrunk, Layout::from_size_align(100, 4).unwrap());
        }
    }
}
