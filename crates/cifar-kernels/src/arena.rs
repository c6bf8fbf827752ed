//! The memory of buffers: chunks from the system, divided into ranges.
//!
//! A request takes a part of the smallest free range that is long enough. A range that returns is
//! joined with its free neighbours, so that it serves requests of other sizes, too. Thus a training
//! step needs little more memory than its buffers have at the same time. The system provides pages
//! when they are first written to, so the unused end of a chunk costs nothing.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapRaw};

/// Ranges start at multiples of a cache line, since vectors that cross two lines are slower.
pub(crate) const LINE: usize = 64;
/// The smallest chunk. Others are as large as all chunks before, so there are few.
const CHUNK: usize = 64 << 20;

/// A range of a chunk, which its owner alone may use until [`Arena::give_back`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    chunk: usize,
    start: usize,
    len: usize,
}

/// All chunks. A place without a chunk is used for the next one.
#[derive(Debug)]
pub(crate) struct Arena(Vec<Option<Chunk>>);

#[derive(Debug)]
struct Chunk {
    memory: MmapRaw,
    /// Start and length of the free ranges, in order. No two of them are neighbours.
    free: Vec<(usize, usize)>,
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns a range of at least `bytes` bytes, which are not 0, and its address. The bytes are those of the last
    /// user, or 0. Ends the process if there is no memory, as allocators do.
    pub(crate) fn take(&mut self, bytes: usize) -> (Range, NonNull<u8>) {
        let layout = Layout::from_size_align(bytes, LINE).map(|layout| layout.pad_to_align());
        let len = layout.expect("a slice has at most isize::MAX bytes").size();
        let free = self.0.iter().enumerate().flat_map(|(chunk, at)| {
            at.iter().flat_map(move |chunk_at| {
                chunk_at.free.iter().enumerate().map(move |(place, &(_, free))| (free, chunk, place))
            })
        });
        let smallest = free.filter(|(free, ..)| *free >= len).min();
        let (chunk, place) = smallest.map_or_else(|| (self.add_chunk(len), 0), |(_, chunk, place)| (chunk, place));
        let Some(Chunk { memory, free }) = &mut self.0[chunk] else { unreachable!("chunks with free ranges exist") };
        let (start, free_len) = free[place];
        if free_len == len {
            free.remove(place);
        } else {
            free[place] = (start + len, free_len - len);
        }
        let address = NonNull::new(memory.as_mut_ptr().wrapping_add(start)).expect("memory is not at address 0");
        (Range { chunk, start, len }, address)
    }

    /// Adds a chunk of at least `len` bytes and returns its number.
    fn add_chunk(&mut self, len: usize) -> usize {
        let held: usize = self.0.iter().flatten().map(|chunk| chunk.memory.len()).sum();
        let memory = MmapMut::map_anon(len.max(CHUNK).max(held)).or_else(|_| MmapMut::map_anon(len));
        let Ok(memory) = memory else {
            handle_alloc_error(Layout::from_size_align(len, LINE).unwrap_or(Layout::new::<u8>()));
        };
        // Huge pages reduce TLB misses. The system may refuse, which only affects speed.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let chunk = Chunk { free: vec![(0, memory.len())], memory: memory.into() };
        let vacant = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if vacant == self.0.len() {
            self.0.push(None);
        }
        self.0[vacant] = Some(chunk);
        vacant
    }

    /// Frees a range that [`Arena::take`] returned.
    pub(crate) fn give_back(&mut self, Range { chunk, start, len }: Range) {
        let Some(Chunk { free, .. }) = &mut self.0[chunk] else { unreachable!("a chunk in use is not released") };
        let after = free.partition_point(|(other, _)| *other < start);
        free.insert(after, (start, len));
        for place in [after, after.wrapping_sub(1)] {
            if let Some([(first, len), (second, more)]) =
                free.get(place..).and_then(|free| free.first_chunk::<2>().copied())
                && first + len == second
            {
                free[place] = (first, len + more);
                free.remove(place + 1);
            }
        }
    }

    /// Returns chunks without a range in use to the system.
    pub(crate) fn release_chunks(&mut self) {
        for chunk in &mut self.0 {
            if chunk.as_ref().is_some_and(|chunk| chunk.free == [(0, chunk.memory.len())]) {
                *chunk = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(arena: &Arena) -> usize {
        arena.0.iter().flatten().count()
    }

    #[test]
    fn neighbours_become_one_range() {
        let mut arena = Arena::new();
        let taken: Vec<_> = (0..3).map(|_| arena.take(10 << 20)).collect();
        let first = taken[0].1;
        // The middle one last, then the first two again in one piece.
        let [a, b, c] = taken.try_into().unwrap();
        for (range, _) in [a, c, b] {
            arena.give_back(range);
        }
        let (range, address) = arena.take(20 << 20);
        assert_eq!((address, chunks(&arena)), (first, 1));
        arena.give_back(range);
        arena.release_chunks();
        assert_eq!(chunks(&arena), 0);
    }

    #[test]
    fn the_smallest_range_that_is_long_enough_is_taken() {
        let mut arena = Arena::new();
        // Free: 3, 1 and 2 MiB, each between two that are in use, and the rest of the chunk.
        let mut taken: Vec<_> = [3, 1, 1, 1, 2, 1].map(|mib| Some(arena.take(mib << 20))).into();
        for place in [0, 2, 4] {
            arena.give_back(taken[place].take().unwrap().0);
        }
        for (bytes, start) in [(1 << 20, 4 << 20), ((1 << 20) + 1, 6 << 20), (1, (7 << 20) + LINE)] {
            assert_eq!(arena.take(bytes).0.start, start, "{bytes}");
        }
    }

    #[test]
    fn a_chunk_in_use_stays() {
        let mut arena = Arena::new();
        let (range, _) = arena.take(1);
        let (large, _) = arena.take(CHUNK + 1);
        assert_eq!(chunks(&arena), 2);
        arena.give_back(large);
        arena.release_chunks();
        assert_eq!(chunks(&arena), 1);
        // The place of the released chunk is used again.
        assert_eq!(arena.take(CHUNK).0.chunk, 1);
        arena.give_back(range);
    }

    proptest! {
        /// Every byte has one owner at most, and all memory is in one piece at the end.
        #[test]
        fn ranges_never_overlap(requests in prop::collection::vec((1usize..40 << 20, any::<prop::sample::Index>()), 1..60)) {
            let mut arena = Arena::new();
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
            arena.release_chunks();
            prop_assert_eq!(chunks(&arena), 0);
        }
    }
}
