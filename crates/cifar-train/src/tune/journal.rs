//! The scores of a search, one per line, written as they come. A search that was killed resumes
//! from them.
//!
//! The file has JSON lines. The first is `{"schema": 2, "key": …}`; each of the others is a
//! [`Scored`] with a hash over it and the key under `check`. The key is a hash of everything that
//! decides a score. The number of trials and seeds is not part of it, so a search with more of them
//! extends the same journal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cifar_data::output::write_file;
use cifar_data::{DataError, Progress};
use serde_json::{Value, json};

use super::score::Scored;
use super::{Score, Setting};
use crate::lock::{lock, lock_if_free};
use crate::{Result, TrainError, remove_checkpoints};

/// The file's name in the folder of a search.
const JOURNAL: &str = "journal.jsonl";
/// Marks a search that finished.
const ENDED: &str = "ended";
/// The folder of checkpoints in the folder of a search.
const CHECKPOINTS: &str = "checkpoints";
/// How many of the youngest finished searches keep their checkpoints, besides the current one.
const KEPT: usize = 2;
const SCHEMA: u64 = 2;
/// Name of the copy of a file with damaged lines.
const DAMAGED: &str = "journal.damaged.jsonl";
/// The JSON key of a line's hash.
const CHECK: &str = "check";

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
    /// Opens or creates the journal of the search `key` in `folder`.
    ///
    /// Lines that are cut off, damaged or of another search are dropped with a warning; their
    /// trials are retrained. While the journal is open, another process that opens it waits.
    ///
    /// # Errors
    /// If the file cannot be read or written, or the user asks to stop while it waits.
    pub fn open(folder: &Path, key: &str, progress: &dyn Progress) -> Result<Self> {
        let path = folder.join(JOURNAL);
        let wrong = |problem: String| TrainError::Tuning(format!("{}: {problem}", path.display()));
        let failed = |what: &str, e: std::io::Error| wrong(format!("cannot {what} it: {e}"));
        let mut file = lock(&path, progress)?;
        let ended = folder.join(ENDED);
        if ended.exists() {
            fs::remove_file(&ended).map_err(DataError::io("remove", &ended))?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| failed("read", e))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            progress.warn(&format!("{}: the last line was cut off and is dropped", path.display()));
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
                progress.warn(&format!(
                    "{}: {damaged} damaged lines are dropped, and their trials are retrained; the original file is kept as {}",
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

    /// Returns the score of a trial, if it is known.
    ///
    /// # Errors
    /// If the journal has another setting under this number.
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

    /// Appends a score and waits until it is on the disk.
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
    /// Returns the folder of the trials' checkpoints.
    pub(super) fn checkpoints(&self) -> PathBuf {
        self.folder().join(CHECKPOINTS)
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Marks the search as finished.
    ///
    /// Removes the checkpoints of fully trained networks, since no trial resumes from them. Also
    /// removes the checkpoints of other finished searches, except the youngest; their journals
    /// stay. What cannot be removed stays.
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

/// Returns the first line of the journal of the search `key`.
fn head(key: &str) -> String {
    json!({"schema": SCHEMA, "key": key}).to_string()
}

/// Returns a score as a line, with its line break.
fn line(scored: &Scored, key: &str) -> Result<String> {
    let mut value = serde_json::to_value(scored).map_err(|e| TrainError::Encode(e.to_string()))?;
    let check = check(&value, key);
    value[CHECK] = check.into();
    Ok(format!("{value}\n"))
}

/// Parses a line that [`line()`] made for the same search; none if it is damaged.
fn read_line(line: &str, key: &str) -> Option<Scored> {
    let mut value: Value = serde_json::from_str(line).ok()?;
    let found = value.as_object_mut()?.shift_remove(CHECK)?;
    (found == check(&value, key)).then(|| serde_json::from_value(value).ok()).flatten()
}

fn check(scored: &Value, key: &str) -> String {
    blake3::hash(format!("{key} {scored}").as_bytes()).to_hex()[..32].to_string()
}

/// Removes the searches under `root`. Skips those that a process has open, and returns their
/// folders. What cannot be removed stays.
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

    impl Progress for Warnings {
        fn update(&self, _: &'static str, _: u64, _: u64) {}
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
    fn scores_are_kept_and_an_incomplete_line_is_dropped() {
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
    fn only_the_youngest_finished_searches_keep_their_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let open = |name: &str| Journal::open(&at(name), name, &cifar_data::Silent).unwrap();
        // Each search has the checkpoint of an unfinished trial and one of a finished trial.
        let begin = |name: &str| {
            let journal = open(name);
            for trial in ["unfinished/lock", "unfinished/checkpoint.safetensors", "finished/lock", "finished/finished"]
            {
                let path = journal.checkpoints().join(trial);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            journal
        };
        let (stopped, open_journal) = (begin("stopped"), begin("open"));
        drop(stopped);
        for name in ["first", "second", "third", "fourth"] {
            begin(name).end();
            // File times may be as coarse as this.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let has = |name: &str, trial: &str| at(name).join("checkpoints").join(trial).exists();
        for (name, unfinished, finished) in [
            ("first", false, false),
            ("second", true, false),
            ("third", true, false),
            ("fourth", true, false),
            ("stopped", true, true),
            ("open", true, true),
        ] {
            assert_eq!((has(name, "unfinished"), has(name, "finished")), (unfinished, finished), "{name}");
            assert!(at(name).join(JOURNAL).is_file());
        }
        open("second");
        assert!(!at("second").join(ENDED).exists(), "the search is open again");
        assert_eq!(remove_searches(root.path()), [at("open")]);
        drop(open_journal);
        assert!(remove_searches(root.path()).is_empty());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    /// For any changed byte, every score that is read is one that was written.
    #[test]
    fn damaged_lines_are_dropped_and_the_rest_is_kept() {
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
    fn scores_of_another_search_are_not_reused() {
        let folder = tempfile::tempdir().unwrap();
        Journal::open(folder.path(), "other", &cifar_data::Silent).unwrap().add(scored(1)).unwrap();
        let journal = Journal::open(folder.path(), "k", &cifar_data::Silent).unwrap();
        assert_eq!(journal.get(1, 42, 1, &scored(1).setting).unwrap(), None);
    }
}
