//! Reads the epochs that a run in another process writes as JSON lines.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use cifar_train::EpochRecord;

/// Environment variable with the file to which the training in another process writes its epochs.
pub const EVENTS_VARIABLE: &str = "CIFAR_EVENTS";

/// Reads the new lines of a file of epochs.
#[derive(Debug)]
pub(crate) struct EpochReader {
    path: PathBuf,
    from: u64,
}

impl EpochReader {
    /// Opens a file that may not exist yet. Its present content, from an earlier process, is
    /// skipped.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), from: path.metadata().map_or(0, |found| found.len()) }
    }

    /// Returns the last epoch that was written since the previous call, if any.
    pub(crate) fn latest(&mut self) -> Option<u64> {
        let mut file = std::fs::File::open(&self.path).ok()?;
        // A training that restarts or resumes writes the file from the start.
        if file.metadata().ok()?.len() < self.from {
            self.from = 0;
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.from)).ok()?;
        file.read_to_end(&mut bytes).ok()?;
        // The last line may be incomplete.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.from += whole as u64;
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| serde_json::from_slice::<EpochRecord>(line).ok())
            .map(|record| record.epoch as u64)
            .next_back()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(epoch: usize) -> String {
        let record = EpochRecord {
            epoch,
            step: epoch * 100,
            learning_rate: 0.1,
            train_loss: 1.0,
            train_accuracy: 0.5,
            val_loss: None,
            val_accuracy: None,
            best: false,
        };
        serde_json::to_string(&record).unwrap() + "\n"
    }

    #[test]
    fn new_epochs_are_found_and_incomplete_lines_are_kept_for_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epochs.jsonl");
        std::fs::write(&path, line(7)).unwrap();
        let mut reader = EpochReader::new(&path);
        assert_eq!(reader.latest(), None, "the line is from an earlier process");
        let (whole, half) = (line(8), line(9));
        let (begin, end) = half.split_at(5);
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        write!(file, "{whole}{begin}").unwrap();
        assert_eq!(reader.latest(), Some(8));
        write!(file, "{end}").unwrap();
        assert_eq!(reader.latest(), Some(9));
        assert_eq!(reader.latest(), None);
        std::fs::write(&path, line(1)).unwrap();
        assert_eq!(reader.latest(), Some(1), "the training starts over");
    }
}
