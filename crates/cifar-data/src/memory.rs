//! What would not fit into memory is refused before it is read.

use crate::{DataError, ImageSize, Result};

/// Refuses so many images of this size if their pixels alone are more than the machine has left.
pub(crate) fn room_for(images: u64, size: ImageSize) -> Result<()> {
    check(images, size, available())
}

fn check(images: u64, size: ImageSize, available: Option<u64>) -> Result<()> {
    let bytes = u128::from(images) * size.bytes() as u128;
    let most = available.unwrap_or(u64::MAX).min(isize::MAX as u64);
    if bytes <= u128::from(most) {
        return Ok(());
    }
    let gb = |bytes: f64| bytes / 1e9;
    Err(DataError::Unsuitable(format!(
        "{images} images of {size} pixels take {:.1} GB of memory; {:.1} GB are left",
        gb(bytes as f64),
        gb(most as f64)
    )))
}

/// Bytes that programs could take now, where the system tells it (Linux does).
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_an_estimate() {
        let size = ImageSize { height: 1024, width: 1024 };
        assert!(check(60_000, size, Some(200_000_000_000)).is_ok());
        let message = check(60_000, size, Some(20_000_000_000)).unwrap_err().to_string();
        assert_eq!(message, "60000 images of 1024×1024 pixels take 188.7 GB of memory; 20.0 GB are left");
        assert!(check(u64::MAX, size, None).is_err());
        assert!(check(0, size, Some(0)).is_ok());
    }
}
