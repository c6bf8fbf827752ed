//! The scores of a search, one per line, written as they come: a search that was killed resumes from them.
//!
//! JSON lines. The first one is `{"schema": 2, "key": …}`; each that follows is a [`Scored`] with a hash over it and the
//! key under `check`. The key is a hash of everything that decides a score, but not of the number of trials and seeds, so that
//! more of them extend the same journal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cifar_data::output::write_file;
use cifar_data::{DataError, Monitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Setting;
use crate::lock::{lock, lock_if_free};
use crate::{Result, TrainError, remove_checkpoints};

/// The name of its file in a search's folder.
const JOURNAL: &str = "journal.jsonl";
/// Lies beside the journal of a search that came to its end.
const ENDED: &str = "ended";
/// Below a search's folder.
const CHECKPOINTS: &str = "checkpoints";
/// Searches that came to their end, the youngest, that keep their checkpoints besides the one at work.
const KEPT: usize = 2;
const SCHEMA: u64 = 2;
/// The name of a copy of the file with its damaged lines.
const DAMAGED: &str = "journal.damaged.jsonl";
/// The key of a line's hash.
const CHECK: &str = "check";

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
    /// Its training diverged, or its values are not allowed together; why, in words.
    Failed(String),
}

impl Score {
    /// Accuracy, or negative infinity for a trial that failed.
    pub fn accuracy(&self) -> f64 {
        if let Self::Trained { accuracy, .. } = self { *accuracy } else { f64::NEG_INFINITY }
    }

    /// A failure in place of figures that are not finite: they have no order, and JSON does not know them.
    pub(super) fn or_failed(self) -> Self {
        match self {
            Self::Trained { accuracy, loss } if !(accuracy.is_finite() && loss.is_finite()) => {
                Self::Failed("accuracy or loss on validation images is not finite".into())
            }
            other => other,
        }
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
    /// Number of the trial; 0 is the baseline.
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

impl std::fmt::Display for Scored {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let score = match &self.score {
            Score::Trained { accuracy, loss } => format!("{:>7.2} %  loss {loss:.4}", accuracy * 100.0),
            Score::Failed(reason) => format!("failed: {reason}"),
        };
        let values: Vec<String> = self.setting.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let setting = if values.is_empty() { "baseline".to_string() } else { values.join(" ") };
        write!(f, "trial {:>3}, seed {}, {:>3} epochs: {score}  {setting}", self.trial, self.seed, self.epochs)
    }
}

/// The journal of one search.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    key: String,
    file: File,
    /// By trial, seed and epochs.
    scores: BTreeMap<(usize, u64, usize), Scored>,
}

impl Journal {
    /// Opens or starts the journal in `folder`, for the search `key`. A line that was cut off, is damaged or belongs to
    /// another search is left out with a warning, and its trial is trained again. As long as the journal is open no other
    /// process can open it: a second one waits.
    ///
    /// # Errors
    /// If the file cannot be read or written, or the user asks to stop while it waits.
    pub fn open(folder: &Path, key: &str, monitor: &dyn Monitor) -> Result<Self> {
        let path = folder.join(JOURNAL);
        let wrong = |problem: String| TrainError::Tuning(format!("{}: {problem}", path.display()));
        let failed = |what: &str, e: std::io::Error| wrong(format!("cannot {what} it: {e}"));
        let mut file = lock(&path, monitor)?;
        let ended = folder.join(ENDED);
        if ended.exists() {
            fs::remove_file(&ended).map_err(DataError::io("remove", &ended))?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| failed("read", e))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            monitor.warn(&format!("{}: the last line was cut off and is dropped", path.display()));
            file.set_len(whole as u64).map_err(|e| failed("shorten", e))?;
            bytes.truncate(whole);
        }
        let text = String::from_utf8_lossy(&bytes);
        let head = head(key);
        let (first, lines) = text.split_once('\n').unwrap_or((&head, ""));
        let read: Vec<Option<Scored>> = lines.lines().map(|line| read_line(line, key)).collect();
        let damaged = read.iter().filter(|line| line.is_none()).count() + usize::from(first != head);
        let scores: Vec<Scored> = read.into_iter().flatten().collect();
        if damaged > 0 || text.is_empty() {
            if damaged > 0 {
                let copy = folder.join(DAMAGED);
                write_file(&copy, &bytes)?;
                monitor.warn(&format!(
                    "{}: {damaged} damaged lines are left out, and their trials are trained again; the file as it was is {}",
                    path.display(),
                    copy.display()
                ));
            }
            let lines: Vec<String> = scores.iter().map(|scored| line(scored, key)).collect::<Result<_>>()?;
            let written = file.set_len(0).and_then(|()| file.write_all((head + "\n" + &lines.concat()).as_bytes()));
            written.and_then(|()| file.sync_data()).map_err(|e| failed("write", e))?;
        }
        let scores = scores.into_iter().map(|scored| ((scored.trial, scored.seed, scored.epochs), scored)).collect();
        let key = key.to_string();
        Ok(Self { path, key, file, scores })
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
        let line = line(&scored, &self.key)?;
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|e| TrainError::Tuning(format!("{}: cannot write it: {e}", self.path.display())))?;
        self.scores.insert((scored.trial, scored.seed, scored.epochs), scored);
        Ok(())
    }
}

impl Journal {
    /// Where the trials of the search keep their checkpoints.
    pub(super) fn checkpoints(&self) -> PathBuf {
        self.folder().join(CHECKPOINTS)
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The search has come to its end. Removes the checkpoints of networks that were trained to theirs: no trial goes on from them,
    /// however many more are added. Of other searches that came to their end all but the youngest lose their checkpoints, and keep
    /// their journals. What cannot be removed stays.
    pub fn end(self) {
        remove_checkpoints(&self.checkpoints(), true);
        // Without this mark the checkpoints stay, which does no harm.
        let _ = File::create(self.folder().join(ENDED));
        let others = self.folder().parent().and_then(|root| fs::read_dir(root).ok());
        let mut others: Vec<(SystemTime, PathBuf)> = (others.into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .filter(|folder| folder != self.folder())
            .filter_map(|folder| Some((fs::metadata(folder.join(ENDED)).and_then(|m| m.modified()).ok()?, folder)))
            .collect();
        others.sort();
        for (_, folder) in others.into_iter().rev().skip(KEPT) {
            if let Some(_journal) = lock_if_free(&folder.join(JOURNAL)) {
                remove_checkpoints(&folder.join(CHECKPOINTS), false);
            }
        }
    }
}

/// The first line of the journal of the search `key`.
fn head(key: &str) -> String {
    json!({"schema": SCHEMA, "key": key}).to_string()
}

/// A score as a line, with its line break.
fn line(scored: &Scored, key: &str) -> Result<String> {
    let mut value = serde_json::to_value(scored).map_err(|e| TrainError::Encode(e.to_string()))?;
    let check = check(&value, key);
    value[CHECK] = check.into();
    Ok(format!("{value}\n"))
}

/// The score in a line that [`line()`] made for the same search; none if it is damaged.
fn read_line(line: &str, key: &str) -> Option<Scored> {
    let mut value: Value = serde_json::from_str(line).ok()?;
    let found = value.as_object_mut()?.shift_remove(CHECK)?;
    (found == check(&value, key)).then(|| serde_json::from_value(value).ok()).flatten()
}

fn check(scored: &Value, key: &str) -> String {
    blake3::hash(format!("{key} {scored}").as_bytes()).to_hex()[..32].to_string()
}

/// Removes the searches below `root`, but those that somebody is at work at; these are returned. What cannot be removed stays.
pub fn remove_searches(root: &Path) -> Vec<PathBuf> {
    let mut in_use = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let folder = entry.path();
        if !folder.join(JOURNAL).is_file() {
            continue;
        }
        match lock_if_free(&folder.join(JOURNAL)) {
            Some(_journal) => drop(fs::remove_dir_all(&folder)),
            None => in_use.push(folder),
        }
    }
    in_use
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
    fn only_the_youngest_searches_that_ended_keep_their_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let open = |name: &str| Journal::open(&at(name), name, &cifar_data::Silent).unwrap();
        // Each has the checkpoint of a trial that did not go on, and one of a trial that came to its end.
        let begin = |name: &str| {
            let journal = open(name);
            for trial in ["going/lock", "going/checkpoint.safetensors", "done/lock", "done/finished"] {
                let path = journal.checkpoints().join(trial);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            journal
        };
        let (stopped, at_work) = (begin("stopped"), begin("at work"));
        drop(stopped);
        for name in ["first", "second", "third", "fourth"] {
            begin(name).end();
            // File times may be as coarse as this.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let has = |name: &str, trial: &str| at(name).join("checkpoints").join(trial).exists();
        for (name, going, done) in [
            ("first", false, false),
            ("second", true, false),
            ("third", true, false),
            ("fourth", true, false),
            ("stopped", true, true),
            ("at work", true, true),
        ] {
            assert_eq!((has(name, "going"), has(name, "done")), (going, done), "{name}");
            assert!(at(name).join(JOURNAL).is_file());
        }
        open("second");
        assert!(!at("second").join(ENDED).exists(), "it is at work again");
        assert_eq!(remove_searches(root.path()), [at("at work")]);
        drop(at_work);
        assert!(remove_searches(root.path()).is_empty());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    /// Whatever changes in the file, a score that is read is one that was written.
    #[test]
    fn damaged_lines_are_left_out_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL);
        let mut journal = Journal::open(folder.path(), "k", &cifar_data::Silent).unwrap();
        for trial in 1..=3 {
            journal.add(scored(trial)).unwrap();
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let setting = scored(1).setting;
        let known = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let warnings = Warnings::default();
            let journal = Journal::open(folder.path(), "k", &warnings).unwrap();
            let scores = (1..=3).map(|trial| journal.get(trial, 42, 1, &setting).unwrap().cloned());
            let known: Vec<bool> =
                scores.map(|found| found.inspect(|s| assert_eq!(*s, scored(1).score)).is_some()).collect();
            (known, warnings.0.into_inner().unwrap().len())
        };
        assert_eq!(known(&whole), (vec![true; 3], 0));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let (known, warnings) = known(&bytes);
            assert!(warnings == 1 && known.iter().filter(|known| **known).count() >= 1, "byte {at}: {known:?}");
        }
        let text = String::from_utf8(whole.clone()).unwrap();
        let other = text.replacen("\"k\"", "\"l\"", 1);
        assert_eq!(known(other.as_bytes()), (vec![true; 3], 1), "only the first line is damaged");
        assert_eq!(fs::read_to_string(folder.path().join(DAMAGED)).unwrap(), other, "nothing is lost");
        assert_eq!(fs::read(&path).unwrap(), whole, "the file is whole again");
        assert_eq!(known(b"trial,score\n"), (vec![false; 3], 1));
    }

    #[test]
    fn scores_of_another_search_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        Journal::open(folder.path(), "other", &cifar_data::Silent).unwrap().add(scored(1)).unwrap();
        let journal = Journal::open(folder.path(), "k", &cifar_data::Silent).unwrap();
        assert_eq!(journal.get(1, 42, 1, &scored(1).setting).unwrap(), None);
    }
}
