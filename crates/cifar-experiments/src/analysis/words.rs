//! What the figures carry, in words, and nothing that they do not.

use std::fmt::Write as _;

use super::{Combination, Comparison, GridSummary, LearningCurve, MOST_COMPARED};
use cifar_eval::interval::Interval;
use cifar_eval::statistics::Spread;
use cifar_eval::statistics::contrast::Estimate;

/// A comparison counts if its corrected probability is below this.
const LEVEL: f64 = 0.05;

/// What the columns of accuracies hold.
pub(super) const COLUMNS: &str = "mean ± standard deviation over seeds [95 % interval of the mean for other seeds and images; of one run \
                                  (n = 1), for other images alone]";

/// The table of combinations for people, one line each.
pub fn table(summary: &GridSummary) -> String {
    let mut text = format!(
        "{:<32} {:>4} {:>7} {:>7}  {:<34} {}\n",
        "combination", "runs", "trained", "steps", "own test split, %", "evaluation pool, %"
    );
    for c in &summary.combinations {
        let [test, pool] = accuracies(c);
        let _ =
            writeln!(text, "{:<32} {:>4} {:>7} {:>7.0}  {test:<34} {pool}", c.name, c.pool.n, c.train_images, c.steps);
    }
    text + &format!("({COLUMNS}; trained: images; steps: of the optimiser)")
}

/// Accuracy on the own test split and on the pool, see [`COLUMNS`].
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

/// A probability as somebody writes it.
pub(super) fn probability(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") }
}

/// One sentence each.
pub fn conclusions(summary: &GridSummary) -> Vec<String> {
    let mut lines = Vec::new();
    if !summary.missing.is_empty() {
        lines.push(format!(
            "Not finished, and not in these figures: {} of {} runs ({}).",
            summary.missing.len(),
            summary.missing.len() + summary.runs.len(),
            shortened(&summary.missing)
        ));
    }
    if summary.programs > 1 {
        lines.push(format!(
            "The runs were trained by {} different programs; part of any difference may come from that.",
            summary.programs
        ));
    }
    let single: Vec<String> = summary.combinations.iter().filter(|c| c.pool.n == 1).map(|c| c.name.clone()).collect();
    if !single.is_empty() {
        lines.push(format!("One seed only, so nothing can be said about training again: {}.", shortened(&single)));
    }
    steps(summary, &mut lines);
    comparisons(summary, &mut lines);
    summary.learning_curves.iter().for_each(|curve| learning_curve(curve, &mut lines));
    classes(summary, &mut lines);
    for c in &summary.combinations {
        if let Some(agreement) = c.agreement {
            let kappa = agreement.kappa.map(|k| format!(", Fleiss' kappa {k:.3}")).unwrap_or_default();
            lines.push(format!(
                "{}: two of its {} runs predict the same class for {:.1} % of the pool's images{kappa}.",
                c.name,
                agreement.runs,
                agreement.same * 100.0
            ));
        }
    }
    lines.push(format!(
        "{} of {} images of the pool ({:.2} %) are missed by all {} runs (missed_by_all.csv).",
        summary.missed_by_all,
        summary.pool_images,
        summary.missed_by_all as f64 * 100.0 / summary.pool_images as f64,
        summary.runs.len()
    ));
    lines
}

/// Unequal training is said before anything that it may explain.
fn steps(summary: &GridSummary, lines: &mut Vec<String>) {
    let steps = || summary.combinations.iter().map(|c| c.steps);
    let (least, most) = (steps().fold(f64::INFINITY, f64::min), steps().fold(0.0, f64::max));
    if summary.combinations.len() > 1 && most > least {
        lines.push(format!(
            "Combinations were trained for {least:.0} to {most:.0} optimiser steps: a difference may come from that as well as from \
             what they differ in by name. `constant_steps` in experiments.toml gives all about as many."
        ));
    }
}

fn comparisons(summary: &GridSummary, lines: &mut Vec<String>) {
    let count = summary.comparisons.len();
    if count == 0 {
        if summary.combinations.len() > MOST_COMPARED {
            lines.push(format!("More than {MOST_COMPARED} combinations: they are not compared with each other."));
        }
        return;
    }
    let (mut found, others): (Vec<&Comparison>, Vec<&Comparison>) =
        summary.comparisons.iter().partition(|c| c.p_holm < LEVEL);
    found.sort_by(|a, b| b.difference.value.abs().total_cmp(&a.difference.value.abs()));
    let (training, these): (Vec<&Comparison>, Vec<&Comparison>) =
        found.into_iter().partition(|c| c.difference.covers_seeds());
    let correction =
        format!("each 95 % interval by itself; p after Holm's correction for {count} comparison{}", plural(count));
    if !training.is_empty() {
        lines.push(format!("Compared on the pool, for other seeds and other images like these ({correction}):"));
    }
    for c in training {
        let (better, worse, figures) = directed(c);
        lines.push(format!("{} is better than {} {figures}.", better.0, worse.0));
    }
    if !these.is_empty() {
        lines.push(format!(
            "Compared on the pool, for these very runs and other images like these ({correction}). With one seed nothing can be \
             said about training:"
        ));
    }
    for c in these {
        let (better, worse, figures) = directed(c);
        let verb = if better.1 == 1 { "classifies" } else { "classify" };
        lines.push(format!("{} {verb} more images correctly than {} {figures}.", of_runs(better), of_runs(worse)));
    }
    if !others.is_empty() {
        let pairs: Vec<String> = others.iter().map(|c| format!("{} and {}", c.first, c.second)).collect();
        lines.push(format!("No difference established on the pool: {}.", shortened(&pairs)));
    }
}

/// A combination's name and its number of runs.
type Named<'a> = (&'a str, usize);

fn of_runs((name, runs): Named) -> String {
    if runs == 1 { format!("this run of {name}") } else { format!("these {runs} runs of {name}") }
}

/// The better one, the other, and by how much.
fn directed(c: &Comparison) -> (Named<'_>, Named<'_>, String) {
    let Estimate { value, low, high, .. } = c.difference;
    let [first, second] = [(c.first.as_str(), c.runs[0]), (c.second.as_str(), c.runs[1])];
    let (better, worse, [value, low, high]) =
        if value >= 0.0 { (first, second, [value, low, high]) } else { (second, first, [-value, -high, -low]) };
    let [value, low, high] = [value, low, high].map(|share| share * 100.0);
    (better, worse, format!("by {value:.2} points ({low:.2} to {high:.2}; {})", probability(c.p_holm)))
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
            "Points differ in optimiser steps too ({least:.0} to {most:.0}), so the curve shows more images and longer training \
             together. `constant_steps` in experiments.toml separates them."
        )
    }
}

fn learning_curve(curve: &LearningCurve, lines: &mut Vec<String>) {
    let name = if curve.setting.is_empty() { String::new() } else { format!(" ({})", curve.setting) };
    let (Some(law), Some(doubled)) = (&curve.law, &curve.doubled) else {
        lines.push(format!(
            "Learning curve{name}: no line; numbers of training images must differ, and errors must be above 0."
        ));
        return;
    };
    let interval = curve.exponent.map_or_else(
        || "no interval, since a combination has one seed".to_string(),
        |Interval { low, high }| format!("95 % interval {low:.3} to {high:.3} for other seeds and test images"),
    );
    lines.push(format!(
        "Learning curve{name}: error on the pool falls as n^-{:.3} ({interval}; {} combinations). {}",
        law.exponent,
        law.points,
        steps_of_curve(curve)
    ));
    lines.push(format!(
        "The interval of the exponent{name} takes the training sets as they are: they contain each other, and other sets of the same \
         size would give other errors. {}",
        law.residual_sd.map_or_else(
            || "Two points always lie on a line, so these do not show that the law holds.".to_string(),
            |sd| format!("Points lie {:.1} % from the line (root mean square).", sd * 100.0)
        )
    ));
    match curve.exponent {
        Some(interval) if interval.low <= 0.0 => lines.push(format!(
            "This curve{name} cannot be distinguished from a flat one: it does not say what more data would give."
        )),
        Some(_) if law.points > 2 => lines.push(format!(
            "EXTRAPOLATION{name}: if that law continues, twice the data ({} images) give an error of {:.2} %. No interval: these runs do \
             not show whether it continues.",
            doubled.train_images,
            doubled.error * 100.0
        )),
        _ => {}
    }
}

fn classes(summary: &GridSummary, lines: &mut Vec<String>) {
    if let Some(two) = &summary.hardest_two {
        let recall = |name: &str| {
            let class = summary.classes.iter().find(|c| c.name == name);
            let shown = |Estimate { value, low, high, .. }: Estimate| {
                let [value, low, high] = [value, low, high].map(|share| share * 100.0);
                format!("{value:.1} % correct, 95 % interval {low:.1} to {high:.1}")
            };
            class.map(|c| shown(c.recall)).unwrap_or_default()
        };
        let [first, second] = &two.classes;
        lines.push(format!(
            "Hardest classes over all runs: {first} ({}) and {second} ({}); these two are the hardest in {:.1} % of the \
             resamples of images and seeds{}.",
            recall(first),
            recall(second),
            two.share * 100.0,
            if two.share < 0.95 { ", so which two are the hardest is not certain" } else { "" }
        ));
    }
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

/// What all figures have in common.
pub(super) fn method(summary: &GridSummary) -> String {
    format!(
        "Intervals of accuracies, comparisons and classes are for other images and other seeds (Student's t, approximate \
         degrees of freedom); where a combination has one seed, they are for other images only. Corrections for the number of \
         tests are made within comparisons and within classes. Hardest classes: {} resamples of images and seeds.",
        summary.resamples
    )
}

/// `report.md`, for a pull request.
pub fn markdown(summary: &GridSummary) -> String {
    let mut text = format!(
        "## Experiments\n\n{} runs. Accuracy in %: {COLUMNS}. The evaluation pool has {} images, the same for all runs. Data: \
         {}.\n\n",
        summary.runs.len(),
        summary.pool_images,
        escaped(&summary.source)
    );
    text += "| combination | seeds | training images | steps | own test split | n | evaluation pool |\n\
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
    text += "\n### What may be concluded\n\n";
    for line in conclusions(summary) {
        let _ = writeln!(text, "- {}", escaped(&line));
    }
    text + "\n" + &method(summary) + "\n"
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_are_text_in_markdown() {
        let check = |text: &str, expected: &str| assert_eq!(escaped(text), expected);
        check("v1+v2-train_images50, 3 %", "v1+v2-train_images50, 3 %");
        check("<img src=x>|a\nb", "\\<img src=x\\>\\|a b");
        check("[a](b) *c* _d_ `e` &amp; ~f~ \\", "\\[a\\](b) \\*c\\* \\_d\\_ \\`e\\` \\&amp; \\~f\\~ \\\\");
    }
}
