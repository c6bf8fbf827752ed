//! A hash that a file has of itself.
//!
//! The writer puts [`PLACEHOLDER`] into the file once, as a string, whatever the format: as a value
//! of a JSON object, or in the metadata of a safetensors file. [`seal`] replaces its zeros with the
//! BLAKE3 hash of the whole file, computed with the zeros in place. [`check`] computes that hash
//! again. So it covers every byte of the file.
//!
//! ```
//! use cifar_data::seal::{PLACEHOLDER, check, seal};
//!
//! let mut file = format!("{{\"answer\": 42, \"seal\": \"{PLACEHOLDER}\"}}").into_bytes();
//! seal(&mut file)?;
//! assert!(check(&file).is_ok());
//! file[11] = b'5';
//! assert!(check(&file).is_err());
//! # Ok::<(), cifar_data::seal::SealError>(())
//! ```

use std::ops::Range;

const PREFIX: &[u8] = b"blake3:";
const DIGITS: usize = 2 * blake3::OUT_LEN;
const ZEROS: [u8; DIGITS] = [b'0'; DIGITS];

/// What a writer puts in place of the seal.
pub const PLACEHOLDER: &str = "blake3:0000000000000000000000000000000000000000000000000000000000000000";

/// Why a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It has no hash of itself.
    #[error("is damaged, or of another program: it carries no hash of its content")]
    Missing,
    /// Its content has changed.
    #[error("is damaged: its content does not match the hash that it carries")]
    Damaged,
}

/// Replaces the placeholder in `file` with the seal.
///
/// # Errors
/// If there is no placeholder, or something else in the file looks like a seal.
pub fn seal(file: &mut [u8]) -> Result<(), SealError> {
    let at = find(file).ok_or(SealError::Missing)?;
    if file[at.clone()] != ZEROS {
        return Err(SealError::Missing);
    }
    let hash = blake3::hash(file).to_hex();
    file[at].copy_from_slice(hash.as_bytes());
    Ok(())
}

/// Checks the seal of `file` and returns it, as 64 hexadecimal digits.
///
/// # Errors
/// If there is no seal or the content does not match it.
pub fn check(file: &[u8]) -> Result<String, SealError> {
    let at = find(file).ok_or(SealError::Missing)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..at.start]).update(&ZEROS).update(&file[at.end..]);
    let hash = hasher.finalize().to_hex();
    if hash.as_bytes() == &file[at] { Ok(hash.to_string()) } else { Err(SealError::Damaged) }
}

/// Returns the position of the digits of the first seal or placeholder.
fn find(file: &[u8]) -> Option<Range<usize>> {
    let length = PREFIX.len() + DIGITS;
    let is_seal = |window: &[u8]| {
        window.starts_with(PREFIX) && window[PREFIX.len()..].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let start = file.windows(length).position(is_seal)? + PREFIX.len();
    Some(start..start + DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut file = format!("{{\"a\": [1, 2], \"seal\": \"{PLACEHOLDER}\"}}\n").into_bytes();
        seal(&mut file).unwrap();
        file
    }

    #[test]
    fn the_placeholder_has_as_many_digits_as_a_hash() {
        assert_eq!(PLACEHOLDER.len(), PREFIX.len() + DIGITS);
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let file = sealed();
        assert_eq!(check(&file).unwrap().len(), DIGITS);
        for bit in 0..file.len() * 8 {
            let mut other = file.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&other).is_err(), "bit {bit}");
        }
        for length in 0..file.len() {
            assert!(check(&file[..length]).is_err(), "cut to {length} bytes");
        }
        assert_eq!(check(&[&file[..], b"x"].concat()), Err(SealError::Damaged));
    }

    #[test]
    fn a_file_without_a_placeholder_is_not_sealed() {
        assert_eq!(seal(&mut b"{}".to_vec()), Err(SealError::Missing));
        assert_eq!(check(b"{}"), Err(SealError::Missing));
        assert_eq!(seal(&mut sealed()), Err(SealError::Missing), "it has a seal already");
    }
}
