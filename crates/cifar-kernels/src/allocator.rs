//! A global allocator for training programs. It keeps large blocks for the next request of their
//! size.
//!
//! A training step requests the same large blocks as the step before. In between, the system's
//! allocator returns them to the system. Getting them again, page by page and filled with zeros,
//! costs as much as the computation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, PoisonError};

/// Smaller blocks go to the system's allocator unchanged.
const LARGE: usize = 128 << 10;
/// Sizes are rounded up to a multiple of this.
const STEP: usize = 64 << 10;
/// Alignment of large blocks: a page.
const ALIGN: usize = 4 << 10;
/// Blocks of this size or more are aligned to huge pages, and the system is asked to use such
/// pages. This reduces TLB misses.
const HUGE: usize = 4 << 20;
const HUGE_ALIGN: usize = 2 << 20;
/// Maximum number of blocks to keep.
const KEPT: usize = 256;
/// Maximum number of bytes to keep.
const KEPT_BYTES: usize = 256 << 20;

/// A global allocator that keeps freed large blocks for reuse: at most 256 blocks and 256 MiB.
///
/// Beyond these limits, the oldest block returns to the system. Only a program should install it:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: cifar_kernels::CachingAllocator = cifar_kernels::CachingAllocator::new();
/// ```
#[derive(Debug)]
pub struct CachingAllocator<A = System> {
    system: A,
    kept: Mutex<Kept>,
}

/// Addresses and sizes of free blocks, oldest first.
#[derive(Debug)]
struct Kept {
    blocks: [(usize, usize); KEPT],
    count: usize,
    bytes: usize,
}

impl Kept {
    /// Removes and returns the block at index `at`.
    fn remove(&mut self, at: usize) -> (*mut u8, usize) {
        let (address, size) = self.blocks[at];
        self.blocks.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.bytes -= size;
        (std::ptr::with_exposed_provenance_mut(address), size)
    }
}

impl CachingAllocator {
    /// Creates an allocator that keeps no blocks yet.
    pub const fn new() -> Self {
        Self::over(System)
    }
}

impl Default for CachingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: GlobalAlloc> CachingAllocator<A> {
    /// Creates an allocator on top of one other than the system's.
    const fn over(system: A) -> Self {
        Self { system, kept: Mutex::new(Kept { blocks: [(0, 0); KEPT], count: 0, bytes: 0 }) }
    }

    /// Returns a kept block of exactly `size` bytes: the newest, which is most likely to be in a
    /// cache.
    fn take(&self, size: usize) -> Option<*mut u8> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.blocks[..kept.count].iter().rposition(|(_, kept)| *kept == size)?;
        Some(kept.remove(at).0)
    }

    /// Keeps a block, and frees the oldest ones if there is no room.
    ///
    /// # Safety
    /// `block` came from `system` with the layout `large`, which the function [`large`] returned,
    /// and it is not in use.
    unsafe fn keep(&self, block: *mut u8, large: Layout) {
        if large.size() > KEPT_BYTES {
            // SAFETY: the caller guarantees the block and its layout.
            unsafe { self.system.dealloc(block, large) };
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.count == KEPT || kept.bytes + large.size() > KEPT_BYTES {
            let (oldest, size) = kept.remove(0);
            if let Some(layout) = rounded(size) {
                // SAFETY: the block was kept with `size`, which is already rounded. `rounded` thus
                // returns the layout with which the block came from `system`. The block is no
                // longer in the list, so nothing else can get it.
                unsafe { self.system.dealloc(oldest, layout) };
            }
        }
        let count = kept.count;
        kept.blocks[count] = (block.expose_provenance(), large.size());
        kept.count += 1;
        kept.bytes += large.size();
    }

    /// Allocates a new large block.
    ///
    /// # Safety
    /// As for [`GlobalAlloc::alloc`].
    unsafe fn fresh(&self, large: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees the layout.
        let block = unsafe { self.system.alloc(large) };
        #[cfg(target_os = "linux")]
        if large.size() >= HUGE && !block.is_null() {
            // The system may refuse, which only affects speed.
            // SAFETY: the range is whole pages of our own block; the advice changes no byte.
            let _ = unsafe { rustix::mm::madvise(block.cast(), large.size(), rustix::mm::Advice::LinuxHugepage) };
        }
        block
    }
}

/// Returns the layout used for a large block, or `None` if the request goes to the system
/// unchanged.
fn large(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE || layout.align() > ALIGN { None } else { rounded(layout.size()) }
}

/// Returns the layout of large blocks of `size` bytes. It depends only on the rounded size, so all
/// blocks that are kept with one size have the same layout.
fn rounded(size: usize) -> Option<Layout> {
    let size = size.checked_next_multiple_of(STEP)?;
    Layout::from_size_align(size, if size < HUGE { ALIGN } else { HUGE_ALIGN }).ok()
}

// SAFETY: every block comes from `system` and returns to it with the same layout: the one that
// `large` makes of the caller's layout, or the caller's own. `large` depends only on the caller's
// layout. A kept block is only reused for layouts of the same rounded size, for which `large`
// returns the same layout. That layout has at least the size and alignment that its callers
// requested. A kept block is not in use, and the lock gives it to one caller only. The code under
// the lock allocates nothing.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CachingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match large(layout) {
            // SAFETY: the caller guarantees the layout.
            None => unsafe { self.system.alloc(layout) },
            // SAFETY: the size of the layout is above 0.
            Some(large) => self.take(large.size()).unwrap_or_else(|| unsafe { self.fresh(large) }),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(large) = large(layout) else {
            // SAFETY: the caller guarantees the layout.
            return unsafe { self.system.alloc_zeroed(layout) };
        };
        let kept = self.take(large.size());
        if kept.is_none() && large.size() < HUGE {
            // SAFETY: the size of the layout is above 0.
            return unsafe { self.system.alloc_zeroed(large) };
        }
        // SAFETY: the size of the layout is above 0, and the block has at least `layout.size()`
        // bytes.
        unsafe {
            let block = kept.unwrap_or_else(|| self.fresh(large));
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match large(layout) {
            // SAFETY: the caller guarantees the block and its layout.
            None => unsafe { self.system.dealloc(block, layout) },
            // SAFETY: the block came from `system` with this layout, and the caller has released
            // it.
            Some(large) => unsafe { self.keep(block, large) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `new_size` is above 0 and does not overflow when it is
        // rounded up to the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (large(layout), large(new)) {
            // SAFETY: the caller guarantees the block and its layout.
            (None, None) => unsafe { self.system.realloc(block, layout, new_size) },
            (Some(old), Some(new)) if old == new => block,
            // A growing vector leaves blocks of sizes that are not requested again: they return to
            // the system.
            // SAFETY: the block came from `system` with `old`; the new size is above 0, and the
            // alignment stays the same.
            (Some(old), Some(new)) if old.align() == new.align() => unsafe {
                self.system.realloc(block, old, new.size())
            },
            // SAFETY: both blocks have the bytes that are copied, and they do not overlap.
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
    use std::collections::BTreeMap;

    use super::*;

    /// The system's allocator, with a record of the layout of each block.
    #[derive(Default)]
    struct Strict(Mutex<BTreeMap<usize, Layout>>);

    impl Strict {
        fn blocks(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Layout>> {
            self.0.lock().unwrap()
        }

        fn bytes(&self) -> usize {
            self.blocks().values().map(Layout::size).sum()
        }
    }

    // SAFETY: all calls are forwarded to the system's allocator.
    unsafe impl GlobalAlloc for Strict {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller guarantees the layout.
            let block = unsafe { System.alloc(layout) };
            assert_eq!(self.blocks().insert(block.addr(), layout), None);
            block
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            assert_eq!(self.blocks().remove(&block.addr()), Some(layout), "freed under another layout");
            // SAFETY: the caller guarantees the block and its layout.
            unsafe { System.dealloc(block, layout) };
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).unwrap()
    }

    #[test]
    fn a_freed_block_is_reused_for_its_size_and_zeroed_on_request() {
        let allocator = CachingAllocator::new();
        let layout = Layout::from_size_align(LARGE + 5, 4).unwrap();
        // SAFETY: the layouts match their blocks, and every block is freed once.
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

    #[test]
    fn a_block_is_freed_with_its_own_layout() {
        let edges = [LARGE, LARGE + STEP, HUGE - STEP, HUGE, HUGE + STEP, 3 * HUGE];
        let sizes: Vec<usize> = edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]).collect();
        let allocator = CachingAllocator::over(Strict::default());
        for size in &sizes {
            for next in &sizes {
                // SAFETY: the layouts match their blocks, and every block is freed once.
                unsafe {
                    let first = allocator.alloc(layout(*size));
                    first.write_bytes(1, *size);
                    allocator.dealloc(first, layout(*size));
                    let second = allocator.alloc(layout(*next));
                    let wanted = if *next + STEP > HUGE { HUGE_ALIGN } else { 4 };
                    assert!(second.addr().is_multiple_of(wanted), "{size}, then {next}");
                    let grown = allocator.realloc(second, layout(*next), *size);
                    allocator.dealloc(grown, layout(*size));
                }
            }
        }
        // Blocks with a stricter alignment than a page go to the system.
        let strict = Layout::from_size_align(HUGE, 2 * ALIGN).unwrap();
        assert_eq!(large(strict), None);
        // SAFETY: the layout matches the block.
        unsafe { allocator.dealloc(allocator.alloc(strict), strict) };
        let kept = allocator.kept.lock().unwrap();
        assert_eq!((kept.bytes, kept.count), (allocator.system.bytes(), allocator.system.blocks().len()));
    }

    #[test]
    fn the_oldest_block_makes_room() {
        let allocator = CachingAllocator::over(Strict::default());
        // SAFETY: the layouts match their blocks, and every block is freed once. Their pages are
        // not touched.
        let pass = |size: usize, count: usize| unsafe {
            let blocks: Vec<*mut u8> = (0..count).map(|_| allocator.alloc(layout(size))).collect();
            for block in blocks {
                allocator.dealloc(block, layout(size));
            }
        };
        let of_size = |size: usize| allocator.system.blocks().values().filter(|l| l.size() == size).count();
        // By bytes: the blocks of the first size are gone once the second size has filled the list.
        pass(3 * HUGE, 10);
        pass(KEPT_BYTES / 8, 8);
        assert_eq!((of_size(3 * HUGE), of_size(KEPT_BYTES / 8)), (0, 8));
        pass(KEPT_BYTES + STEP, 1);
        assert_eq!((allocator.system.bytes(), of_size(KEPT_BYTES / 8)), (KEPT_BYTES, 8), "too large to be kept");
        // By count.
        pass(LARGE, KEPT + 3);
        assert_eq!((of_size(KEPT_BYTES / 8), of_size(LARGE)), (0, KEPT));
        assert_eq!(allocator.kept.lock().unwrap().bytes, KEPT * LARGE);
    }
}
