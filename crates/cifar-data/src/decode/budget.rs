//! A bound on the memory of all images that are decoded at the same time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Unread;
use crate::memory;

/// Most bytes that all images of one set take together while they are decoded, besides the pixels
/// that are kept: their files, their decoded pixels and what decoders and filters need.
pub(crate) const MOST: u64 = 2 << 30;

/// Bytes that several threads share.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    /// What is left after reading the whole set, if the machine has less than [`MOST`].
    limit: Option<&'static str>,
    taken: Mutex<u64>,
    returned: Condvar,
}

/// A part of a [`Budget`], which returns when it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// Returns a budget of [`MOST`], or of what this process may use besides `kept` bytes.
    pub(crate) fn beside(kept: u64) -> Self {
        let (most, limit) = match memory::room() {
            Some(room) if room.bytes.saturating_sub(kept) < MOST => (room.bytes.saturating_sub(kept), Some(room.limit)),
            _ => (MOST, None),
        };
        Self { most, limit, taken: Mutex::new(0), returned: Condvar::new() }
    }

    /// Takes `bytes`, as soon as there are as many.
    ///
    /// # Errors
    /// If there will never be.
    pub(super) fn take(&self, bytes: u64) -> Result<Share<'_>, Unread> {
        self.allow(bytes)?;
        let mut taken = self.taken();
        while *taken + bytes > self.most {
            taken = self.returned.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Ok(Share { budget: self, bytes })
    }

    /// Refuses more bytes than there are.
    fn allow(&self, bytes: u64) -> Result<(), Unread> {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        if bytes > MOST {
            let allowed = format!("allowed are {:.1} GB", gb(MOST));
            return Err(Unread::Image(format!("takes {:.1} GB of memory to decode; {allowed}", gb(bytes))));
        }
        let Some(limit) = self.limit else { return Ok(()) };
        let room = Some(memory::Room { bytes: self.most, limit });
        memory::check_within("decoding an image", bytes, "use smaller images", room).map_err(Unread::Memory)
    }

    fn taken(&self) -> MutexGuard<'_, u64> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share<'_> {
    /// Makes this a share of `bytes`, if as many are free now. Never waits: two threads that wait
    /// for what the other has would wait forever.
    ///
    /// # Errors
    /// If there will never be as many.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<bool, Unread> {
        self.budget.allow(bytes)?;
        let mut taken = self.budget.taken();
        let more = bytes.saturating_sub(self.bytes);
        let free = *taken + more <= self.budget.most;
        if free {
            *taken += more;
            self.bytes += more;
        }
        Ok(free)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.taken() -= self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn of(most: u64) -> Budget {
        Budget { most, limit: Some("a test"), taken: Mutex::new(0), returned: Condvar::new() }
    }

    #[test]
    fn threads_never_take_more_than_there_is() {
        let (budget, taken, most) = (of(100), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (budget, taken, most) = (&budget, &taken, &most);
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = 1 + (thread * 37 + round * 11) % 60;
                        let mut share = budget.take(bytes).expect("it fits");
                        let grown = share.grow(bytes + 30).expect("it fits");
                        let bytes = if grown { bytes + 30 } else { bytes };
                        most.fetch_max(taken.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                        std::thread::yield_now();
                        taken.fetch_sub(bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!((60..=100).contains(&most), "{most}");
        assert_eq!(*budget.taken(), 0, "everything returned");
    }

    #[test]
    fn what_can_never_fit_is_refused() {
        let refused = |bytes| match of(100).take(bytes) {
            Ok(_) => "taken".to_string(),
            Err(Unread::Image(problem)) => problem,
            Err(Unread::Memory(e)) => e.to_string(),
        };
        assert_eq!(refused(100), "taken");
        let memory = "decoding an image takes about 0.0 GB of memory; 0.0 GB are left (a test); use smaller images";
        assert_eq!(refused(101), memory);
        assert_eq!(refused(MOST + 1), "takes 2.1 GB of memory to decode; allowed are 2.1 GB");
    }
}
