//! The scores of a search, one a line, written as they come: what a search that was killed goes on with.
//!
//! JSON lines. The first one is `{"schema": 1, "key": …}`; each that follows is a [`Scored`]. The key is a hash of
//! everything that decides a score, but not of the number of trials, so that more of them extend the same journal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use cifar_data::Monitor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Setting;
use crate::lock::wait_for;
use crate::{Result, TrainError};

/// The name of its file in a search's folder.
pub(super) const JOURNAL: &str = "journal.jsonl";
const SCHEMA: u64 = 1;

/// How a trial did on validation images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// It was trained.
    Trained {
        /// Accuracy after its last epoch, 0..1.
        accuracy: f64,
        /// Mean cross-entropy, nats.
        loss: f64,
    },
    /// Its loss ran away; why, in words.
    Failed(String),
}

impl Score {
    /// Accuracy, or negative infinity for a trial that failed.
    pub fn accuracy(&self) -> f64 {
        if let Self::Trained { accuracy, .. } = self { *accuracy } else { f64::NEG_INFINITY }
    }

    /// By which scores are ordered, the better one the greater: accuracy, then loss.
    pub(super) fn rank(&self) -> (f64, f64) {
        if let Self::Trained { accuracy, loss } = self {
            (*accuracy, -loss)
        } else {
            (f64::NEG_INFINITY, f64::NEG_INFINITY)
        }
    }
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scored {
    /// Number of the trial; 0 is the recipe as it stands.
    pub trial: usize,
    /// Under which seed it was trained.
    pub seed: u64,
    /// For how many epochs in all.
    pub epochs: usize,
    /// What was tried.
    pub setting: Setting,
    /// How it did.
    pub score: Score,
}

/// The journal of one search.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// By trial, seed and epochs.
    scores: BTreeMap<(usize, u64, usize), Scored>,
}

impl Journal {
    /// Opens or begins the journal in `folder`, for the search `key`. A last line that was torn off is dropped with a warning:
    /// its trial is trained again. As long as the journal is open no other process can have it; who comes second waits.
    ///
    /// # Errors
    /// If the file cannot be read or written, belongs to another search, a line before the last is malformed, or the user asks
    /// to stop while it waits.
    pub fn open(folder: &Path, key: &str, monitor: &dyn Monitor) -> Result<Self> {
        let path = folder.join(JOURNAL);
        let wrong = |problem: String| TrainError::Tuning(format!("{}: {problem}", path.display()));
        let failed = |what: &str, e: std::io::Error| wrong(format!("cannot {what} it: {e}"));
        fs::create_dir_all(folder).map_err(|e| failed("create the folder of", e))?;
        let mut file =
            File::options().create(true).append(true).read(true).open(&path).map_err(|e| failed("open", e))?;
        wait_for(&file, &path, monitor)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| failed("read", e))?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            monitor.warn(&format!("{}: the last line was torn off and is dropped", path.display()));
            file.set_len(whole as u64).map_err(|e| failed("shorten", e))?;
            text.truncate(whole);
        }
        let mut lines = (1..).zip(text.lines());
        match lines.next() {
            None => writeln!(file, "{}", json!({"schema": SCHEMA, "key": key})).map_err(|e| failed("write", e))?,
            Some((_, line)) => {
                let head: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(format!("line 1: {e}")))?;
                if head["schema"] != SCHEMA {
                    return Err(wrong(format!("has schema {}, this program reads schema {SCHEMA}", head["schema"])));
                }
                if head["key"] != key {
                    return Err(wrong("belongs to a search with other parameters, data or program".into()));
                }
            }
        }
        let mut scores = BTreeMap::new();
        for (number, line) in lines {
            let scored: Scored = serde_json::from_str(line).map_err(|e| wrong(format!("line {number}: {e}")))?;
            scores.insert((scored.trial, scored.seed, scored.epochs), scored);
        }
        Ok(Self { path, file, scores })
    }

    /// The score of a trial, if it is known.
    ///
    /// # Errors
    /// If another setting was tried under this number.
    pub fn get(&self, trial: usize, seed: u64, epochs: usize, setting: &Setting) -> Result<Option<&Score>> {
        match self.scores.get(&(trial, seed, epochs)) {
            Some(scored) if scored.setting == *setting => Ok(Some(&scored.score)),
            Some(_) => Err(TrainError::Tuning(format!(
                "{}: trial {trial} has another setting than this search gives it; remove the file to start over",
                self.path.display()
            ))),
            None => Ok(None),
        }
    }

    /// Adds a line, and waits until it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, scored: Scored) -> Result<()> {
        let line = serde_json::to_string(&scored).map_err(|e| TrainError::Encode(e.to_string()))? + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|e| TrainError::Tuning(format!("{}: cannot write it: {e}", self.path.display())))?;
        self.scores.insert((scored.trial, scored.seed, scored.epochs), scored);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Warnings(Mutex<Vec<String>>);

    impl Monitor for Warnings {
        fn progress(&self, _: &'static str, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            false
        }
        fn warn(&self, message: &str) {
            self.0.lock().unwrap().push(message.into());
        }
    }

    fn scored(trial: usize) -> Scored {
        let setting = Setting::from([("train.momentum".to_string(), json!(0.5))]);
        Scored { trial, seed: 42, epochs: 1, setting, score: Score::Trained { accuracy: 0.5, loss: 1.25 } }
    }

    #[test]
    fn lines_survive_and_a_torn_one_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/journal.jsonl");
        let warnings = Warnings::default();
        let open = || Journal::open(&folder.path().join("a"), "k", &warnings);
        let mut journal = open().unwrap();
        journal.add(scored(1)).unwrap();
        journal.add(Scored { score: Score::Failed("the loss is NaN".into()), ..scored(2) }).unwrap();
        drop(journal);
        let journal = open().unwrap();
        let setting = scored(1).setting;
        assert_eq!(journal.get(1, 42, 1, &setting).unwrap(), Some(&scored(1).score));
        assert!(journal.get(2, 42, 1, &setting).unwrap().unwrap().accuracy().is_infinite());
        assert_eq!(journal.get(1, 43, 1, &setting).unwrap(), None);
        assert!(journal.get(1, 42, 1, &Setting::new()).is_err(), "another setting");
        drop(journal);
        assert!(warnings.0.lock().unwrap().is_empty());

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 7]).unwrap();
        let mut journal = open().unwrap();
        assert_eq!(warnings.0.lock().unwrap().len(), 1);
        assert_eq!(journal.get(2, 42, 1, &setting).unwrap(), None);
        journal.add(scored(2)).unwrap();
        drop(journal);
        assert!(open().unwrap().get(2, 42, 1, &setting).unwrap().is_some());
    }

    #[test]
    fn what_is_not_a_journal_of_this_search_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let error = Journal::open(folder.path(), "k", &cifar_data::Silent).unwrap_err().to_string();
            assert!(error.contains("journal.jsonl: ") && error.contains(expected), "{error}");
        };
        check("{\"schema\":1,\"key\":\"other\"}\n", "belongs to a search with other parameters");
        check("{\"schema\":2,\"key\":\"k\"}\n", "has schema 2");
        check("trial,score\n", "line 1: ");
        check("{\"schema\":1,\"key\":\"k\"}\n{\"trial\":1}\n{}\n", "line 2: missing field");
    }
}
