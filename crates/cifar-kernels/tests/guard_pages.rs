//! No kernel accesses memory outside of its slices: each runs with protected pages on both sides.
#![cfg(unix)]
#![expect(unsafe_code, reason = "maps and protects pages")]

use crate::common;

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use common::kernels::{Heap, Memory, every_kernel};
use common::{bits, on_every_isa};

/// The edge of a slice that is adjacent to a protected page.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Edge {
    Start,
    End,
}

/// A slice in its own pages, between two protected pages.
struct Guarded<T> {
    map: *mut libc::c_void,
    map_len: usize,
    start: NonNull<T>,
    len: usize,
}

fn page_len() -> usize {
    // SAFETY: `sysconf` reads a constant of the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("a page has a size")
}

impl Memory for Edge {
    type Slice<T: Copy> = Guarded<T>;

    fn place<T: Copy>(&self, values: &[T]) -> Guarded<T> {
        let (page, bytes) = (page_len(), size_of_val(values));
        let inner = bytes.next_multiple_of(page);
        let map_len = inner + 2 * page;
        // SAFETY: asks for new pages at an address of the system's choice; no memory in use
        // changes.
        let map = unsafe {
            let (protection, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANON);
            libc::mmap(ptr::null_mut(), map_len, protection, flags, -1, 0)
        };
        assert_ne!(map, libc::MAP_FAILED, "pages can be mapped");
        let offset = if *self == Edge::Start { page } else { page + inner - bytes };
        // SAFETY: the `inner` bytes after the first page lie within the mapping, which is ours
        // alone.
        let opened = unsafe { libc::mprotect(map.byte_add(page), inner, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(opened, 0, "pages can be opened");
        // SAFETY: `offset` + `bytes` ≤ `page` + `inner`, so source and target both have `bytes`
        // bytes, in different mappings; `start` is aligned, as pages are and `bytes` is a multiple
        // of the size of `T`.
        let start = unsafe {
            let start = map.byte_add(offset).cast::<T>();
            ptr::copy_nonoverlapping(values.as_ptr(), start, values.len());
            NonNull::new(start).expect("a mapping does not start at 0")
        };
        Guarded { map, map_len, start, len: values.len() }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `place` wrote `len` values at `start`; they live as long as `self`, which is
        // borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; `self` is borrowed mutably, and no one else has the mapping.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is the one that `place` made, and no borrow of it outlives `self`.
        unsafe { libc::munmap(self.map, self.map_len) };
    }
}

/// A kernel that accesses memory outside of its slices ends this process (SIGSEGV or SIGBUS).
fn check(edge: Edge, expected: &[(String, Vec<f32>)]) {
    for ((name, got), (_, expected)) in every_kernel(&edge).iter().zip(expected) {
        assert!(
            bits(got) == bits(expected),
            "{name}: other bits than in ordinary memory, protected page at the {edge:?}"
        );
    }
}

#[test]
fn every_kernel_stays_within_its_slices() {
    on_every_isa(|_| {
        let expected = every_kernel(&Heap);
        check(Edge::Start, &expected);
        check(Edge::End, &expected);
    });
}

/// Returns whether the system can read the byte at `at`. Writing from a protected page to a pipe
/// fails and does not end the process.
fn readable(at: *const u8) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has room for two descriptors, which are closed here; the system checks `at`
    // itself.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0, "a pipe opens");
        let written = libc::write(pipe[1], at.cast(), 1);
        for descriptor in pipe {
            libc::close(descriptor);
        }
        written == 1
    }
}

#[test]
fn pages_around_a_slice_are_protected() {
    // Whether the bytes [before, after] the slice's edge can be read.
    fn check(address: *const f32, expected: [bool; 2]) {
        let byte = address.cast::<u8>();
        assert_eq!([byte.wrapping_sub(1), byte].map(readable), expected);
    }
    for len in [1, 3, 1024, 1031] {
        let values = vec![1.0_f32; len];
        check(Edge::Start.place(&values).as_ptr_range().start, [false, true]);
        check(Edge::End.place(&values).as_ptr_range().end, [true, false]);
    }
}
