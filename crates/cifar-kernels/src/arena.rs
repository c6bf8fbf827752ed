//! The memory of buffers: chunks from the system, divided into ranges.
//!
//! A request takes a part of the smallest free range that is long enough. A range that returns is
//! joined with its free neighbours, so that it serves requests of other sizes, too. Thus a training
//! step needs little more memory than its buffers have at the same time. On Linux and macOS, the
//! unused end of a chunk takes address space, but no memory until it is first written to.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapRaw};

/// Ranges start at multiples of a cache line, since vectors that cross two lines are slower.
const LINE: usize = 64;
/// The size of a page, or of several. Whole pages return to the system.
#[cfg(target_os = "linux")]
const PAGE: usize = 64 << 10;

/// A range of a chunk, which its owner alone may use until [`Arena::give_back`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    chunk: usize,
    start: usize,
    len: usize,
}

/// All chunks.
#[derive(Debug)]
pub(crate) struct Arena {
    /// `None` is a released chunk, whose index the next chunk takes.
    chunks: Vec<Option<Chunk>>,
    /// Bytes of the smallest chunk. Others have at least a quarter of all chunks before, so that
    /// there are few.
    least: usize,
}

#[derive(Debug)]
struct Chunk {
    memory: MmapRaw,
    /// Start and length of the free ranges, in order. No two of them are neighbours.
    free: Vec<(usize, usize)>,
}

impl Arena {
    pub(crate) const fn new(least: usize) -> Self {
        Self { chunks: Vec::new(), least }
    }

    /// Returns a range of at least `bytes` bytes, and its address. `bytes` is above 0. The contents
    /// are unspecified, but initialised. Ends the process if there is no memory, as allocators do.
    pub(crate) fn take(&mut self, bytes: usize) -> (Range, NonNull<u8>) {
        let layout = Layout::from_size_align(bytes, LINE).map(|layout| layout.pad_to_align());
        let len = layout.expect("a slice has at most isize::MAX bytes").size();
        let mut smallest: Option<(usize, usize, usize)> = None;
        for (index, chunk) in self.chunks.iter().enumerate() {
            for (place, &(_, free)) in chunk.iter().flat_map(|chunk| chunk.free.iter().enumerate()) {
                if free >= len && smallest.is_none_or(|(smallest, ..)| free < smallest) {
                    smallest = Some((free, index, place));
                }
            }
        }
        let (chunk, place) = match smallest {
            Some((_, chunk, place)) => (chunk, place),
            None => (self.add_chunk(len), 0),
        };
        let Some(Chunk { memory, free }) = &mut self.chunks[chunk] else { unreachable!("it has a free range") };
        let (start, free_len) = free[place];
        if free_len == len {
            free.remove(place);
        } else {
            free[place] = (start + len, free_len - len);
        }
        let address = NonNull::new(memory.as_mut_ptr().wrapping_add(start)).expect("memory is not at address 0");
        (Range { chunk, start, len }, address)
    }

    /// Adds a chunk of at least `len` bytes and returns its index.
    fn add_chunk(&mut self, len: usize) -> usize {
        let held: usize = self.chunks.iter().flatten().map(|chunk| chunk.memory.len()).sum();
        // Smaller ones if the system refuses a large one.
        let sizes = [len.max(self.least).max(held / 4), len.max(self.least), len];
        let Some(memory) = sizes.into_iter().find_map(|size| MmapMut::map_anon(size).ok()) else {
            handle_alloc_error(Layout::from_size_align(len, LINE).unwrap_or(Layout::new::<u8>()));
        };
        // Huge pages reduce TLB misses. The system may refuse, which only affects speed.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let chunk = Chunk { free: vec![(0, memory.len())], memory: memory.into() };
        let vacant = self.chunks.iter().position(Option::is_none).unwrap_or_else(|| {
            self.chunks.push(None);
            self.chunks.len() - 1
        });
        self.chunks[vacant] = Some(chunk);
        vacant
    }

    /// Frees a range that [`Arena::take`] returned.
    pub(crate) fn give_back(&mut self, Range { chunk, start, len }: Range) {
        let Some(Chunk { free, .. }) = &mut self.chunks[chunk] else { unreachable!("a chunk in use is not released") };
        let after = free.partition_point(|(other, _)| *other < start);
        free.insert(after, (start, len));
        for place in [after, after.wrapping_sub(1)] {
            if let Some([(first, len), (second, more)]) = free.get(place..).and_then(|f| f.first_chunk::<2>().copied())
                && first + len == second
            {
                free[place] = (first, len + more);
                free.remove(place + 1);
            }
        }
    }

    /// Returns chunks without a range in use to the system and, on Linux, the free pages of others.
    pub(crate) fn release(&mut self) {
        for chunk in &mut self.chunks {
            if chunk.as_ref().is_some_and(|chunk| chunk.free == [(0, chunk.memory.len())]) {
                *chunk = None;
            }
            #[cfg(target_os = "linux")]
            if let Some(chunk) = chunk {
                chunk.release_pages();
            }
        }
    }
}

impl Chunk {
    /// Returns the pages of free ranges to the system. They are zeros when they are used again.
    #[cfg(target_os = "linux")]
    fn release_pages(&self) {
        for (start, len) in &self.free {
            let (first, end) = (start.next_multiple_of(PAGE), (start + len) / PAGE * PAGE);
            if first < end {
                let address = self.memory.as_mut_ptr().wrapping_add(first);
                // The system may refuse, which only affects memory.
                // SAFETY: the pages are inside of a free range of our own anonymous memory, which
                // nobody reads or writes. They stay mapped, and are zeros afterwards.
                let _ = unsafe { rustix::mm::madvise(address.cast(), end - first, rustix::mm::Advice::LinuxDontNeed) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAST: usize = 1 << 20;

    fn chunks(arena: &Arena) -> usize {
        arena.chunks.iter().flatten().count()
    }

    #[test]
    fn neighbours_become_one_range() {
        let mut arena = Arena::new(LEAST);
        let [a, b, c] = [(); 3].map(|()| arena.take(LEAST / 4));
        let first = a.1;
        // The middle one last.
        for (range, _) in [a, c, b] {
            arena.give_back(range);
        }
        let (range, address) = arena.take(LEAST / 2);
        assert_eq!((address, chunks(&arena)), (first, 1));
        arena.give_back(range);
        arena.release();
        assert_eq!(chunks(&arena), 0);
    }

    #[test]
    fn the_smallest_range_that_is_long_enough_is_taken() {
        const K: usize = 1 << 10;
        let mut arena = Arena::new(LEAST);
        // Free: 3, 1 and 2 KiB, each before one that is in use, and the rest of the chunk.
        let mut taken = [3, 1, 1, 1, 2, 1].map(|kib| Some(arena.take(kib * K)));
        for place in [0, 2, 4] {
            arena.give_back(taken[place].take().expect("it is in use").0);
        }
        for (bytes, start) in [(K, 4 * K), (K + 1, 6 * K), (1, 7 * K + LINE)] {
            assert_eq!(arena.take(bytes).0.start, start, "{bytes}");
        }
    }

    #[test]
    fn a_chunk_in_use_stays() {
        let mut arena = Arena::new(LEAST);
        let (range, _) = arena.take(1);
        let (large, _) = arena.take(LEAST + 1);
        assert_eq!(chunks(&arena), 2);
        arena.give_back(large);
        arena.release();
        assert_eq!(chunks(&arena), 1);
        assert_eq!(arena.take(LEAST).0.chunk, 1, "the index of the released chunk");
        arena.give_back(range);
    }

    /// Free pages are zeros after they returned to the system, and pages in use are untouched.
    #[cfg(target_os = "linux")]
    #[test]
    fn free_pages_return_to_the_system() {
        let mut arena = Arena::new(LEAST);
        let [(free, low), (_used, high)] = [(); 2].map(|()| arena.take(LEAST / 2));
        let fill = |address: NonNull<u8>, value: u8| {
            // SAFETY: the range is ours and has these bytes.
            unsafe { address.write_bytes(value, LEAST / 2) }
        };
        // SAFETY: memory of the arena is initialised.
        let read = |address: NonNull<u8>| unsafe { std::slice::from_raw_parts(address.as_ptr(), LEAST / 2) };
        fill(low, 1);
        fill(high, 2);
        arena.give_back(free);
        arena.release();
        let (_again, address) = arena.take(LEAST / 2);
        assert_eq!(address, low);
        assert!(read(low).iter().all(|byte| *byte == 0) && read(high).iter().all(|byte| *byte == 2));
    }

    proptest! {
        /// Every byte has one owner at most, and all memory is in one piece at the end.
        #[test]
        fn ranges_never_overlap(
            requests in prop::collection::vec((1..LEAST, any::<prop::sample::Index>()), 1..60)
        ) {
            let mut arena = Arena::new(LEAST);
            let mut used: Vec<(Range, usize, usize)> = Vec::new();
            for (number, (bytes, victim)) in requests.iter().enumerate() {
                if number % 3 == 2 {
                    arena.give_back(used.remove(victim.index(used.len())).0);
                }
                let (range, address) = arena.take(*bytes);
                let (start, end) = (address.addr().get(), address.addr().get() + bytes);
                prop_assert_eq!(start % LINE, 0);
                prop_assert!(used.iter().all(|(_, other, other_end)| end <= *other || *other_end <= start));
                used.push((range, start, end));
            }
            for (range, ..) in used {
                arena.give_back(range);
            }
            arena.release();
            prop_assert_eq!(chunks(&arena), 0);
        }
    }
}
