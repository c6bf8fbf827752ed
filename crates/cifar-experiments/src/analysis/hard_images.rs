//! Hard images of one combination over all its seeds. Scores follow from the mean probabilities of
//! the networks, an ensemble, which varies less than a single network. Every other measure is a
//! mean over the seeds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cifar_data::output::write_file;
use cifar_data::provenance;
use cifar_data::spreadsheet::{csv, plain};

use super::RunRecord;
use cifar_data::SampleId;
use cifar_data::provenance::Provenance;
use cifar_data::splits::Split;
use cifar_eval::hard_images::{EVIDENCE, Evidence, HARD_IMAGES, LabelOdds, read_evidence};
use cifar_eval::measures::{MEASURES, Measure};
use cifar_eval::{EvalError, Result};

/// Folder of the tables, in that of the experiments.
pub const AVERAGES: &str = "hard_images";

/// Sums over runs for one image.
#[derive(Debug, Default)]
struct Sum {
    content: String,
    split: String,
    file: String,
    label: String,
    runs: usize,
    missed: usize,
    /// Sum and number of runs, in the order of [`MEASURES`].
    measures: Vec<(f64, usize)>,
    suggested: BTreeMap<String, usize>,
}

/// The tables over several runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AveragedTables {
    /// The tables, one per combination with two or more runs.
    pub written: Vec<PathBuf>,
    /// Those whose scores are means of the scores of single runs, since an earlier version of the
    /// program made a run and kept no probabilities.
    pub without_probabilities: Vec<PathBuf>,
}

/// Writes a table for every combination with two or more runs in `folders`.
///
/// Columns: `id,content,split,file,label`, the mean of each measure of `hard_images.csv` (empty
/// where it does not apply to every run), `seeds`, `missed_by` (number of runs), `suggested_label`
/// (the label most often suggested), `suggested_by` (number of runs that suggest it) and `rank`.
/// The most suspicious labels come first. `label_issue_score` and `hardness_score` follow from the
/// means of the probabilities over the runs ([`Evidence::mean`]), not from the means of scores.
///
/// # Errors
/// If a run's table is missing, damaged or has other images than that of another run.
pub fn average_hard_images(folders: &[PathBuf], out: &Path) -> Result<AveragedTables> {
    let mut combinations: BTreeMap<String, Vec<&Path>> = BTreeMap::new();
    for folder in folders {
        if let Some(record) = RunRecord::read(folder)? {
            combinations.entry(record.combination).or_default().push(folder);
        }
    }
    let mut tables = AveragedTables::default();
    for (combination, runs) in combinations.into_iter().filter(|(_, runs)| runs.len() > 1) {
        let mut sums = BTreeMap::new();
        for (done, run) in runs.iter().enumerate() {
            add(&mut sums, &run.join("evaluation/hard_images").join(cifar_eval::hard_images::HARD_IMAGES), done)?;
        }
        let path = out.join(AVERAGES).join(format!("{combination}.csv"));
        std::fs::create_dir_all(out.join(AVERAGES)).map_err(cifar_data::DataError::io("create the folder", &path))?;
        if !use_mean_probabilities(&runs, &mut sums)? {
            tables.without_probabilities.push(path.clone());
        }
        write_file(&path, &table(&sums, runs.len()))?;
        tables.written.push(path);
    }
    Ok(tables)
}

/// Replaces the sums of scores by those of the runs' mean probabilities. Returns whether all runs
/// have kept them.
fn use_mean_probabilities(runs: &[&Path], sums: &mut BTreeMap<u32, Sum>) -> Result<bool> {
    let folders: Vec<PathBuf> = runs.iter().map(|run| run.join("evaluation/hard_images")).collect();
    for folder in &folders {
        if Provenance::read(folder, cifar_eval::hard_images::COMMAND)?.hash_of(EVIDENCE).is_empty() {
            return Ok(false);
        }
    }
    let found = folders.iter().map(|folder| read_evidence(folder)).collect::<Result<Vec<_>>>()?;
    let Some((classes, _)) = found.first() else { return Ok(false) };
    let columns = ["label_issue_score", "hardness_score"]
        .map(|key| MEASURES.iter().position(|measure| measure.key == key).unwrap_or_default());
    for split in Split::ALL {
        let of_split: Vec<&Evidence> = found.iter().filter_map(|(_, splits)| splits.get(&split)).collect();
        if of_split.is_empty() {
            continue;
        }
        let wrong = |problem: String| EvalError::Malformed { path: folders[0].join(EVIDENCE), problem };
        if of_split.len() != runs.len() || found.iter().any(|(names, _)| names != classes) {
            return Err(wrong("has other splits or classes than that of another run of this combination".into()));
        }
        let mean = Evidence::mean(&of_split).map_err(wrong)?;
        let label = |id: &SampleId| {
            let sum = sums.get(&id.0).ok_or_else(|| wrong(format!("image {id} is not in {HARD_IMAGES}")))?;
            let class = classes.iter().position(|class| *class == sum.label);
            class.map(|class| class as u16).ok_or_else(|| wrong(format!("{:?} is no class", sum.label)))
        };
        let labels = mean.ids.iter().map(label).collect::<Result<Vec<u16>>>()?;
        // Scores do not depend on whether networks were trained on the images.
        let odds = LabelOdds::held_out(&mean, &labels);
        for ((id, label_issue), hardness) in mean.ids.iter().zip(&odds.scores).zip(mean.hardness()) {
            let Some(sum) = sums.get_mut(&id.0) else { continue };
            for (column, score) in columns.into_iter().zip([*label_issue, hardness]) {
                sum.measures[column] = (score * runs.len() as f64, runs.len());
            }
        }
    }
    Ok(true)
}

/// Adds the table of a run to `sums`, which has `before` runs already.
fn add(sums: &mut BTreeMap<u32, Sum>, path: &Path, before: usize) -> Result<()> {
    let wrong = |problem: String| EvalError::Malformed { path: path.to_path_buf(), problem };
    let bytes = provenance::read(path, cifar_eval::hard_images::COMMAND)?;
    let mut csv = csv::Reader::from_reader(bytes.as_slice());
    let columns = csv.headers().map_err(|e| wrong(e.to_string()))?.clone();
    let place = |name: &str| {
        columns.iter().position(|column| column == name).ok_or_else(|| wrong(format!("has no column `{name}`")))
    };
    let [id, split, file, label] = [place("id")?, place("split")?, place("file")?, place("label")?];
    // Tables of earlier versions lack this column.
    let content = columns.iter().position(|column| column == "content");
    let [predicted, suggested] = [place("pred")?, place("suggested_label")?];
    let of_measure = |measure: &Measure| match place(measure.key) {
        Err(_) if measure.is_recent() => Ok(None),
        found => found.map(Some),
    };
    let measures: Vec<Option<usize>> = MEASURES.iter().map(of_measure).collect::<Result<_>>()?;
    let mut images = 0;
    for (at, row) in csv.records().enumerate() {
        let line = |problem: String| wrong(format!("line {}: {problem}", at + 2));
        let row = row.map_err(|e| line(e.to_string()))?;
        let number = |column: usize| -> Result<Option<f64>> {
            let text = &row[column];
            let parsed = || text.parse().map_err(|_| line(format!("{} {text:?} is not a number", &columns[column])));
            if text.is_empty() { Ok(None) } else { Ok(Some(parsed()?)) }
        };
        let key: u32 = row[id].parse().map_err(|_| line(format!("id {:?} is not a number", &row[id])))?;
        let sum = sums.entry(key).or_default();
        let content = content.map(|at| row[at].to_string()).unwrap_or_default();
        let is_other = || {
            let contents = [&sum.content, &content];
            let differ = contents.iter().all(|content| !content.is_empty()) && contents[0] != contents[1];
            differ || sum.split != row[split] || sum.label != plain(&row[label])
        };
        if sum.runs != before || (before > 0 && is_other()) {
            return Err(line(format!(
                "image {key} differs from that of another run of this combination; their data differ"
            )));
        }
        if before == 0 {
            *sum = Sum {
                content,
                split: row[split].into(),
                file: plain(&row[file]).into(),
                label: plain(&row[label]).into(),
                measures: vec![(0.0, 0); MEASURES.len()],
                ..Sum::default()
            };
        }
        sum.runs += 1;
        sum.missed += usize::from(row[predicted] != row[label]);
        for ((total, runs), column) in sum.measures.iter_mut().zip(&measures) {
            if let Some(value) = column.map_or(Ok(None), number)? {
                *total += value;
                *runs += 1;
            }
        }
        if !row[suggested].is_empty() {
            *sum.suggested.entry(plain(&row[suggested]).to_string()).or_default() += 1;
        }
        images += 1;
    }
    if images != sums.len() {
        return Err(wrong(format!("has {images} images, but another run of this combination has {}", sums.len())));
    }
    Ok(())
}

fn table(sums: &BTreeMap<u32, Sum>, runs: usize) -> Vec<u8> {
    let mean = |sum: &Sum, measure: usize| {
        let (total, counted) = sum.measures[measure];
        (counted == runs).then(|| total / runs as f64)
    };
    let score = |sum: &Sum, name: &str| {
        MEASURES.iter().position(|measure| measure.key == name).and_then(|at| mean(sum, at)).unwrap_or_default()
    };
    let mut order: Vec<(&u32, &Sum)> = sums.iter().collect();
    order.sort_by(|(one, a), (other, b)| {
        let by = |name| score(b, name).total_cmp(&score(a, name));
        by("label_issue_score").then(by("hardness_score")).then(one.cmp(other))
    });
    let columns =
        ["id", "content", "split", "file", "label"].into_iter().chain(MEASURES.iter().map(|measure| measure.key));
    let columns = columns.chain(["seeds", "missed_by", "suggested_label", "suggested_by", "rank"]);
    let row = |(rank, (id, sum)): (usize, (&u32, &Sum))| {
        let measures = (0..MEASURES.len()).map(|at| mean(sum, at).map(|value| value.to_string()).unwrap_or_default());
        // Of ties, the first by name.
        let suggested = sum.suggested.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        let (suggested, by) = suggested.map_or((String::new(), 0), |(label, by)| (label.clone(), *by));
        let who = [id.to_string(), sum.content.clone(), sum.split.clone(), sum.file.clone(), sum.label.clone()];
        let over = [runs.to_string(), sum.missed.to_string(), suggested, by.to_string(), rank.to_string()];
        who.into_iter().chain(measures).chain(over).collect::<Vec<_>>()
    };
    csv(&columns.collect::<Vec<_>>(), (1..).zip(order).map(row))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde_json::json;

    use super::*;
    use cifar_data::{Dataset, ImageSize, Silent};
    use cifar_eval::hard_images::{COMMAND, HardImagesParams, Inputs, identify};

    /// Writes a run whose table has these rows of id, label, prediction, suggestion, loss, AUM and
    /// score.
    fn run(out: &Path, seed: u64, rows: &[(u32, &str, &str, &str, f64, &str, f64)]) -> PathBuf {
        let folder = out.join(format!("v1-seed{seed}"));
        std::fs::create_dir_all(folder.join("evaluation/hard_images")).unwrap();
        let record = RunRecord::new("", "v1", seed, BTreeMap::new(), json!({}), "d".into(), "p".into());
        record.write(&folder).unwrap();
        let names: Vec<&str> = MEASURES.iter().map(|measure| measure.key).collect();
        let mut text = format!("id,split,file,label,pred,suggested_label,{}\n", names.join(","));
        for (id, label, predicted, suggested, loss, aum, score) in rows {
            let values = names.iter().map(|name| match *name {
                "loss" => loss.to_string(),
                "aum" => (*aum).to_string(),
                "label_issue_score" => score.to_string(),
                _ => "0".into(),
            });
            let values = values.collect::<Vec<_>>().join(",");
            writeln!(text, "{id},train,{id}.png,{label},{predicted},{suggested},{values}").unwrap();
        }
        let table = folder.join("evaluation/hard_images");
        std::fs::write(table.join(HARD_IMAGES), text).unwrap();
        provenance::write(&table, COMMAND, &[], &[HARD_IMAGES]).unwrap();
        folder
    }

    /// Analyses predictions of 200 images as those of a run. `unsure` is the probability of the
    /// label for the images of its list, which otherwise is 0.9.
    fn analysed(out: &Path, seed: u64, unsure: &[(usize, f32)]) -> (PathBuf, Vec<f32>) {
        let size = ImageSize { height: 8, width: 8 };
        let labels: Vec<u16> = (0..200).map(|i| i % 2).collect();
        let images = Dataset::from_arrays(&["cat", "dog"], size, &labels, vec![100; 200 * size.bytes()]).unwrap();
        let known = |i: usize| unsure.iter().find(|(image, _)| *image == i).map_or(0.9, |(_, p)| *p);
        let row = |i: usize| if i.is_multiple_of(2) { [known(i), 1.0 - known(i)] } else { [1.0 - known(i), known(i)] };
        let probabilities: Vec<f32> = (0..200).flat_map(row).collect();
        let folder = out.join(format!("v1-seed{seed}"));
        let record = RunRecord::new("", "v1", seed, BTreeMap::new(), json!({}), "d".into(), "p".into());
        std::fs::create_dir_all(folder.join("evaluation")).unwrap();
        record.write(&folder).unwrap();
        let inputs = Inputs::of_predictions(&images, probabilities.clone());
        let found = identify(&inputs, &Silent).unwrap();
        found
            .save(&HardImagesParams { per_class: 1, folds: 0 }, &folder.join("evaluation/hard_images"), &Silent)
            .unwrap();
        (folder, probabilities)
    }

    #[test]
    fn scores_follow_from_the_mean_probabilities() {
        let out = tempfile::tempdir().unwrap();
        // By ranks, image 0 is 1st and 3rd, image 1 is 2nd and 2nd. Together, the networks are
        // surer that the label of image 0 is wrong.
        let (first, of_first) = analysed(out.path(), 1, &[(0, 0.01), (1, 0.45)]);
        let (second, of_second) = analysed(out.path(), 2, &[(0, 0.6), (1, 0.55), (2, 0.1)]);
        let tables = average_hard_images(&[first, second], out.path()).unwrap();
        assert!(tables.without_probabilities.is_empty());
        let mean: Vec<f32> = of_first.iter().zip(&of_second).map(|(a, b)| f32::midpoint(*a, *b)).collect();
        let labels: Vec<u16> = (0..200).map(|i| i % 2).collect();
        let evidence = Evidence {
            ids: (0..200).map(SampleId).collect(),
            classes: 2,
            class_probabilities: mean.clone(),
            hardness_probabilities: mean,
            appearance: vec![[0.0, 100.0]; 200],
        };
        let (odds, hardness) = (LabelOdds::held_out(&evidence, &labels), evidence.hardness());
        let mut csv = csv::Reader::from_path(&tables.written[0]).unwrap();
        let columns = csv.headers().unwrap().clone();
        let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
        let mut order = Vec::new();
        for row in csv.records().map(Result::unwrap) {
            let id: usize = row[at("id")].parse().unwrap();
            let score = |name| row[at(name)].parse::<f64>().unwrap();
            assert!((score("label_issue_score") - odds.scores[id]).abs() < 1e-9, "{row:?}");
            assert!((score("hardness_score") - hardness[id]).abs() < 1e-9, "{row:?}");
            order.push(id);
        }
        assert_eq!(order[..3], [0, 1, 2]);
    }

    #[test]
    fn means_over_the_seeds_decide_the_order() {
        let out = tempfile::tempdir().unwrap();
        let first = run(
            out.path(),
            1,
            &[
                (1, "cat", "cat", "", 1.0, "2", 0.1),
                (2, "dog", "cat", "cat", 3.0, "", 0.5),
                (3, "dog", "dog", "", 0.0, "1", 0.4),
            ],
        );
        let second = run(
            out.path(),
            2,
            &[
                (2, "dog", "owl", "owl", 5.0, "4", 0.7),
                (3, "dog", "cat", "cat", 1.0, "3", 0.9),
                (1, "cat", "cat", "", 3.0, "4", 0.3),
            ],
        );
        let tables = |folders: &[PathBuf]| average_hard_images(folders, out.path()).unwrap();
        assert_eq!(tables(std::slice::from_ref(&first)), AveragedTables::default());
        // These runs kept no probabilities, so their scores are averaged.
        let written = tables(&[first.clone(), second]);
        assert_eq!(written.written, [out.path().join("hard_images/v1.csv")]);
        assert_eq!(written.written, written.without_probabilities);
        let written = written.written;
        let mut csv = csv::Reader::from_path(&written[0]).unwrap();
        let columns = csv.headers().unwrap().clone();
        let names =
            ["id", "loss", "aum", "label_issue_score", "seeds", "missed_by", "suggested_label", "suggested_by", "rank"];
        let found: Vec<Vec<String>> = csv
            .records()
            .map(|row| {
                let row = row.unwrap();
                names.iter().map(|name| row[columns.iter().position(|c| c == *name).unwrap()].to_string()).collect()
            })
            .collect();
        assert_eq!(found[0], ["3", "0.5", "2", "0.65", "2", "1", "cat", "1", "1"]);
        assert_eq!(found[1], ["2", "4", "", "0.6", "2", "2", "cat", "1", "2"]);
        assert_eq!(found[2], ["1", "2", "3", "0.2", "2", "0", "", "0", "3"]);

        let check = |rows: &[(u32, &str, &str, &str, f64, &str, f64)], expected: &str| {
            let other = run(out.path(), 3, rows);
            let error = average_hard_images(&[first.clone(), other], out.path()).unwrap_err().to_string();
            assert!(error.contains("v1-seed3") && error.ends_with(expected), "{error}");
        };
        check(&[(1, "cat", "cat", "", 1.0, "2", 0.1)], "has 1 images, but another run of this combination has 3");
        let differ = "line 2: image 1 differs from that of another run of this combination; their data differ";
        check(&[(1, "dog", "cat", "", 1.0, "2", 0.1)], differ);
        check(&[(9, "dog", "cat", "", 1.0, "2", 0.1)], &differ.replace("image 1", "image 9"));
        check(&[(1, "cat", "cat", "", 1.0, "x", 0.1)], "line 2: aum \"x\" is not a number");
    }
}
