//! What the figures carry, in words, and nothing that they do not.

use std::fmt::Write as _;

use super::{Combination, Comparison, GridSummary, LearningCurve, MOST_COMPARED};
use cifar_eval::interval::Interval;
use cifar_eval::statistics::Spread;
use cifar_eval::statistics::contrast::Estimate;

/// A comparison counts if its corrected probability is below this.
const LEVEL: f64 = 0.05;

/// What the columns of accuracies hold.
pub(super) const COLUMNS: &str = "mean ± standard deviation over seeds [95 % interval of the mean for other seeds and images; \
                                  of one run (n = 1), for other images only]";

/// What the figures show: a table, at most three sentences, and what to keep in mind.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusions {
    /// The differences that are established, largest first.
    pub differences: Vec<Difference>,
    /// Comparisons, learning curve, hardest classes: one sentence each, where there is something to say.
    pub sentences: Vec<String>,
    /// What limits the conclusions.
    pub notes: Vec<String>,
}

/// An established difference between two combinations.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The better combination.
    pub better: String,
    /// The other one.
    pub worse: String,
    /// Difference in points of accuracy on the shared test images, with its 95 % interval.
    pub points: String,
    /// The probability after Holm's correction.
    pub p: String,
    /// Whether it holds for other seeds too, rather than for these runs only.
    pub covers_seeds: bool,
}

impl Difference {
    /// What the difference holds for.
    pub fn scope(&self) -> &'static str {
        if self.covers_seeds { "other seeds and images" } else { "these runs, other images" }
    }
}

impl std::fmt::Display for Conclusions {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        if !self.differences.is_empty() {
            writeln!(f, "{:<24} {:<24} {:<28} {:<10} holds for", "better", "than", "by, points", "p (Holm)")?;
        }
        for d in &self.differences {
            writeln!(f, "{:<24} {:<24} {:<28} {:<10} {}", d.better, d.worse, d.points, d.p, d.scope())?;
        }
        for sentence in &self.sentences {
            writeln!(f, "{sentence}")?;
        }
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        Ok(())
    }
}

/// The table of combinations for people, one line each.
pub fn table(summary: &GridSummary) -> String {
    let mut text = format!(
        "{:<32} {:>4} {:>7} {:>7}  {:<34} {}\n",
        "combination", "runs", "trained", "steps", "own test images, %", "shared test images, %"
    );
    for c in &summary.combinations {
        let [test, pool] = accuracies(c);
        let _ =
            writeln!(text, "{:<32} {:>4} {:>7} {:>7.0}  {test:<34} {pool}", c.name, c.pool.n, c.train_images, c.steps);
    }
    text + &format!("({COLUMNS}; trained: images; steps: of the optimiser)")
}

/// Accuracy on the own test images and on the shared test images, see [`COLUMNS`].
pub(super) fn accuracies(combination: &Combination) -> [String; 2] {
    let c = combination;
    [accuracy(&c.test, &c.test_interval), accuracy(&c.pool, &c.pool_interval)]
}

fn accuracy(spread: &Spread, Interval { low, high }: &Interval) -> String {
    let interval = format!("[{:.2}, {:.2}]", low * 100.0, high * 100.0);
    match spread.sd {
        Some(sd) => format!("{:.2} ± {:.2} {interval}", spread.mean * 100.0, sd * 100.0),
        None => format!("{:.2} {interval} (n = 1)", spread.mean * 100.0),
    }
}

/// A probability to three digits.
pub(super) fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

/// Draws the conclusions that the figures allow, and no others.
pub fn conclusions(summary: &GridSummary) -> Conclusions {
    let mut sentences: Vec<String> = compared(summary).into_iter().collect();
    sentences.extend(summary.learning_curves.iter().map(learning_curve));
    sentences.extend(hardest_classes(summary));
    Conclusions { differences: differences(summary), sentences, notes: notes(summary) }
}

/// The comparisons that are established, largest difference first.
fn differences(summary: &GridSummary) -> Vec<Difference> {
    let mut found: Vec<&Comparison> = summary.comparisons.iter().filter(|c| c.p_holm < LEVEL).collect();
    found.sort_by(|a, b| b.difference.value.abs().total_cmp(&a.difference.value.abs()));
    found.into_iter().map(difference).collect()
}

fn difference(c: &Comparison) -> Difference {
    let Estimate { value, low, high, .. } = c.difference;
    let is_first = value >= 0.0;
    let (better, worse) = if is_first { (&c.first, &c.second) } else { (&c.second, &c.first) };
    let [value, low, high] =
        if is_first { [value, low, high] } else { [-value, -high, -low] }.map(|fraction| fraction * 100.0);
    Difference {
        better: better.clone(),
        worse: worse.clone(),
        points: format!("{value:.2} [{low:.2}, {high:.2}]"),
        p: probability(c.p_holm),
        covers_seeds: c.difference.covers_seeds(),
    }
}

/// What the comparisons show, in one sentence.
fn compared(summary: &GridSummary) -> Option<String> {
    let count = summary.comparisons.len();
    if count == 0 {
        let is_too_many = summary.combinations.len() > MOST_COMPARED;
        return is_too_many
            .then(|| format!("More than {MOST_COMPARED} combinations are not compared with each other."));
    }
    let others: Vec<String> = (summary.comparisons.iter().filter(|c| c.p_holm >= LEVEL))
        .map(|c| format!("{} and {}", c.first, c.second))
        .collect();
    let established = count - others.len();
    if established == 0 {
        return Some(format!(
            "None of {count} comparison{} on the shared test images establishes a difference: {}.",
            plural(count),
            shortened(&others)
        ));
    }
    let rest = if others.is_empty() { String::new() } else { format!("; not established: {}", shortened(&others)) };
    Some(format!("{established} of {count} comparisons on the shared test images establish a difference{rest}."))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// What a curve's points share besides images, in words.
pub(super) fn steps_of_curve(curve: &LearningCurve) -> String {
    let [least, most] = curve.steps();
    if curve.has_constant_steps() {
        format!("Points were trained for about the same number of optimiser steps ({least:.0} to {most:.0}).")
    } else {
        format!(
            "Points differ in optimiser steps too ({least:.0} to {most:.0}), so the curve shows more images and longer \
             training together; `constant_steps` in experiments.toml separates them."
        )
    }
}

fn of_setting(curve: &LearningCurve) -> String {
    if curve.setting.is_empty() { String::new() } else { format!(" ({})", curve.setting) }
}

/// How the error falls with the number of images, in one sentence.
fn learning_curve(curve: &LearningCurve) -> String {
    let name = of_setting(curve);
    let Some(law) = &curve.law else {
        return format!(
            "Learning curve{name}: no line; numbers of training images must differ by a tenth, and errors must be above 0."
        );
    };
    let interval = curve.exponent.map_or_else(
        || "no interval, since a combination has one seed".to_string(),
        |Interval { low, high }| format!("95 % interval {low:.3} to {high:.3}"),
    );
    if curve.exponent.is_some() && !curve.has_trend() {
        return format!(
            "Learning curve{name}: the error is not established to fall with the number of training images (exponent of \
             the fall {:.3}, {interval}; {} combinations).",
            law.exponent, law.points
        );
    }
    let more = match (&curve.doubled, curve.exponent) {
        (Some(doubled), Some(_)) if law.points > 2 => format!(
            "; EXTRAPOLATION: twice the data ({} images) would give {:.2} % errors",
            doubled.train_images,
            doubled.error * 100.0
        ),
        _ => String::new(),
    };
    format!(
        "Learning curve{name}: the error on the shared test images falls as n^{:.3} ({interval}; {} combinations){more}.",
        -law.exponent, law.points
    )
}

/// The two classes with the lowest recall, in one sentence.
fn hardest_classes(summary: &GridSummary) -> Option<String> {
    let two = summary.hardest_two.as_ref()?;
    let recall = |name: &str| {
        let class = summary.classes.iter().find(|c| c.name == name);
        let shown = |Estimate { value, low, high, .. }: Estimate| {
            let [value, low, high] = [value, low, high].map(|fraction| fraction * 100.0);
            format!("{value:.1} % correct, 95 % interval {low:.1} to {high:.1}")
        };
        class.map(|c| shown(c.recall)).unwrap_or_default()
    };
    let [first, second] = &two.classes;
    Some(format!(
        "Hardest classes over all runs: {first} ({}) and {second} ({}), in {:.1} % of the resamples of images and seeds{}.",
        recall(first),
        recall(second),
        two.share * 100.0,
        if two.share < 0.95 { ", so which two are hardest is not certain" } else { "" }
    ))
}

/// What limits the conclusions, most important first.
fn notes(summary: &GridSummary) -> Vec<String> {
    let mut notes = Vec::new();
    if !summary.missing.is_empty() {
        notes.push(format!(
            "Not finished, and not in these figures: {} of {} runs ({}).",
            summary.missing.len(),
            summary.missing.len() + summary.runs.len(),
            shortened(&summary.missing)
        ));
    }
    if summary.programs > 1 {
        notes.push(format!(
            "The runs were trained by {} different programs, which may explain part of any difference.",
            summary.programs
        ));
    }
    let single: Vec<String> = summary.combinations.iter().filter(|c| c.pool.n == 1).map(|c| c.name.clone()).collect();
    if !single.is_empty() {
        notes.push(format!(
            "One seed only, so differences hold for these runs and not for another training: {}.",
            shortened(&single)
        ));
    }
    let steps = || summary.combinations.iter().map(|c| c.steps);
    let (least, most) = (steps().fold(f64::INFINITY, f64::min), steps().fold(0.0, f64::max));
    if summary.combinations.len() > 1 && most > least {
        notes.push(format!(
            "Combinations were trained for {least:.0} to {most:.0} optimiser steps, which may explain part of any \
             difference; `constant_steps` in experiments.toml makes them equal."
        ));
    }
    if let Some(count) = Some(summary.comparisons.len()).filter(|count| *count > 0) {
        notes.push(format!(
            "Each 95 % interval is for its comparison alone; p is after Holm's correction for {count} comparison{}.",
            plural(count)
        ));
    }
    for curve in summary.learning_curves.iter().filter(|curve| curve.law.is_some()) {
        let fit = curve.law.as_ref().and_then(|law| law.residual_sd).map_or_else(
            || "Two points always lie on a line, so these do not show that the law holds.".to_string(),
            |sd| format!("Points lie {:.1} % from the line (root mean square).", sd * 100.0),
        );
        notes.push(format!(
            "Learning curve{}: its training sets contain each other, and other sets of the same size would give other \
             errors. An extrapolation has no interval. {fit}",
            of_setting(curve)
        ));
    }
    notes.push(format!(
        "{} of {} shared test images ({:.2} %) are misclassified by all {} runs (missed_by_all.csv).",
        summary.missed_by_all,
        summary.pool_images,
        summary.missed_by_all as f64 * 100.0 / summary.pool_images as f64,
        summary.runs.len()
    ));
    notes
}

/// The first few, and how many more there are.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Text that Markdown shows as it is: names of classes, runs and sources are anybody's.
fn escaped(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let is_in_word = |at: usize| {
        let is_letter = |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(|c| c.is_alphanumeric());
        is_letter(at.checked_sub(1)) && is_letter(Some(at + 1))
    };
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in characters.iter().enumerate() {
        match c {
            c if c.is_control() => escaped.push(' '),
            '_' if is_in_word(at) => escaped.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' => escaped.extend(['\\', *c]),
            c => escaped.push(*c),
        }
    }
    escaped
}

/// How all figures were computed.
pub(super) fn method(summary: &GridSummary) -> String {
    format!(
        "Intervals are for other images and other seeds (Student's t, approximate degrees of freedom), or for other images \
         only where a combination has one seed. Hardest classes: {} resamples of images and seeds.",
        summary.resamples
    )
}

/// `report.md`, for a pull request.
pub fn markdown(summary: &GridSummary) -> String {
    let mut text = format!(
        "## Experiments\n\n{} runs. Accuracy in %: {COLUMNS}. {} shared test images, the same for all runs. Data: \
         {}.\n\n",
        summary.runs.len(),
        summary.pool_images,
        escaped(&summary.source)
    );
    text += "| combination | seeds | training images | steps | own test images | n | shared test images |\n\
             |---|---|--:|--:|---|--:|---|\n";
    for c in &summary.combinations {
        let seeds: Vec<String> = c.seeds.iter().map(u64::to_string).collect();
        let [test, pool] = accuracies(c);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {test} | {} | {pool} |",
            escaped(&c.name),
            seeds.join(", "),
            c.train_images,
            c.steps,
            c.test_images
        );
    }
    let found = conclusions(summary);
    text += "\n### Conclusions\n\n";
    if !found.differences.is_empty() {
        text += "| better | than | by, points of accuracy | p (Holm) | holds for |\n|---|---|---|---|---|\n";
    }
    for d in &found.differences {
        let (better, worse, p) = (escaped(&d.better), escaped(&d.worse), escaped(&d.p));
        let _ = writeln!(text, "| {better} | {worse} | {} | {p} | {} |", d.points, d.scope());
    }
    let _ = writeln!(text);
    for sentence in &found.sentences {
        let _ = writeln!(text, "{}\n", escaped(sentence));
    }
    for note in &found.notes {
        let _ = writeln!(text, "- {}", escaped(note));
    }
    text + "\n" + &method(summary) + "\n"
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_are_escaped_in_markdown() {
        let check = |text: &str, expected: &str| assert_eq!(escaped(text), expected);
        check("v1+v2-train_images50, 3 %", "v1+v2-train_images50, 3 %");
        check("<img src=x>|a\nb", "\\<img src=x\\>\\|a b");
        check("[a](b) *c* _d_ `e` &amp; ~f~ \\", "\\[a\\](b) \\*c\\* \\_d\\_ \\`e\\` \\&amp; \\~f\\~ \\\\");
    }
}
