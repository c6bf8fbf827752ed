//! What the figures carry, in words, and nothing that they do not.

use std::fmt::Write as _;

use super::{Comparison, LearningCurve, MOST_COMPARED, Summary};
use crate::statistics::Spread;

/// A comparison counts if its corrected probability is below this.
const LEVEL: f64 = 0.05;

/// The table of combinations for people, one line each.
pub fn table(summary: &Summary) -> String {
    let mut text = format!(
        "{:<32} {:>4} {:>7}  {:<34} {}\n",
        "combination", "runs", "trained", "own test split, %", "evaluation pool, %"
    );
    for c in &summary.combinations {
        let [test, pool] = [&c.test, &c.pool].map(spread);
        let _ = writeln!(text, "{:<32} {:>4} {:>7}  {test:<34} {pool}", c.name, c.pool.n, c.train_images);
    }
    text.trim_end().to_string()
}

/// Mean ± standard deviation and interval in per cent; for one run the value, and that there is no interval.
pub(super) fn spread(spread: &Spread) -> String {
    let percent = |x: f64| x.clamp(0.0, 1.0) * 100.0;
    match (spread.sd, spread.low, spread.high) {
        (Some(sd), Some(low), Some(high)) => {
            format!("{:.2} ± {:.2} [{:.2}, {:.2}]", spread.mean * 100.0, sd * 100.0, percent(low), percent(high))
        }
        _ => format!("{:.2} (n = 1: no interval)", spread.mean * 100.0),
    }
}

/// A probability as somebody writes it.
pub(super) fn probability(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") }
}

/// One sentence each.
pub fn conclusions(summary: &Summary) -> Vec<String> {
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
        lines.push(format!("One seed only, so no interval over seeds: {}.", shortened(&single)));
    }
    comparisons(summary, &mut lines);
    summary.learning_curves.iter().for_each(|curve| learning_curve(curve, &mut lines));
    classes(summary, &mut lines);
    for c in &summary.combinations {
        if let Some(agreement) = c.agreement {
            let kappa = agreement.kappa.map(|k| format!(", Fleiss' kappa {k:.3}")).unwrap_or_default();
            lines.push(format!(
                "{}: two of its {} runs say the same of {:.1} % of the pool's images{kappa}.",
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

fn comparisons(summary: &Summary, lines: &mut Vec<String>) {
    let count = summary.comparisons.len();
    if count == 0 {
        if summary.combinations.len() > MOST_COMPARED {
            lines.push(format!("More than {MOST_COMPARED} combinations: they are not compared with each other."));
        }
        return;
    }
    let (mut told, others): (Vec<&Comparison>, Vec<&Comparison>) =
        summary.comparisons.iter().partition(|c| c.p_holm < LEVEL);
    told.sort_by(|a, b| b.difference.value.abs().total_cmp(&a.difference.value.abs()));
    if !told.is_empty() {
        lines.push(format!(
            "Compared on the pool, for these runs and over other images like these (95 % intervals; p after Holm's correction for \
             {count} comparisons):"
        ));
    }
    for c in told {
        let d = &c.difference;
        let (better, worse, [value, low, high]) = if d.value >= 0.0 {
            (&c.first, &c.second, [d.value, d.low, d.high])
        } else {
            (&c.second, &c.first, [-d.value, -d.high, -d.low])
        };
        lines.push(format!(
            "{better} is better than {worse} by {:.2} points ({:.2} to {:.2}; {}).",
            value * 100.0,
            low * 100.0,
            high * 100.0,
            probability(c.p_holm)
        ));
    }
    if !others.is_empty() {
        let pairs: Vec<String> = others.iter().map(|c| format!("{} and {}", c.first, c.second)).collect();
        lines.push(format!("Not told apart on the pool: {}.", shortened(&pairs)));
    }
}

fn learning_curve(curve: &LearningCurve, lines: &mut Vec<String>) {
    let name = if curve.setting.is_empty() { String::new() } else { format!(" ({})", curve.setting) };
    let (Some(law), Some(doubled)) = (&curve.law, &curve.doubled) else {
        lines.push(format!("Learning curve{name}: no line, since all combinations have as many training images."));
        return;
    };
    let points = law.points;
    let (Some(low), Some(high)) = (law.exponent_low, law.exponent_high) else {
        lines.push(format!("Learning curve{name}: two points make a line, but no interval."));
        return;
    };
    lines.push(format!(
        "Learning curve{name}: error on the pool falls as n^-{:.3} (95 % interval of the exponent {low:.3} to {high:.3}, \
         {points} combinations).",
        law.exponent
    ));
    if low <= 0.0 {
        lines.push(format!(
            "This curve{name} cannot be told from a flat one: what more data would give, it does not say."
        ));
        return;
    }
    if let (Some(low), Some(high)) = (doubled.predicted.low, doubled.predicted.high) {
        lines.push(format!(
            "EXTRAPOLATION{name}: if that law goes on, twice the data ({} images) give an error of {:.2} % (95 % interval for \
             another such combination {:.2} to {:.2}).",
            doubled.train_images,
            doubled.predicted.error * 100.0,
            low * 100.0,
            high * 100.0
        ));
    }
}

fn classes(summary: &Summary, lines: &mut Vec<String>) {
    if let Some(two) = &summary.hardest_two {
        let recall = |name: &str| {
            let class = summary.classes.iter().find(|c| c.name == name);
            let shown = |[value, low, high]: [f64; 3]| {
                format!("{:.1} % right, 95 % interval {:.1} to {:.1}", value * 100.0, low * 100.0, high * 100.0)
            };
            class.map(|c| shown(c.recall)).unwrap_or_default()
        };
        let [first, second] = &two.classes;
        lines.push(format!(
            "Hardest classes over all runs: {first} ({}) and {second} ({}); these two are the hardest in {:.1} % of the \
             resamples{}.",
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

/// `report.md`, for a pull request.
pub fn markdown(summary: &Summary) -> String {
    let mut text = format!(
        "## Experiments\n\n{} runs; accuracy in %, mean ± standard deviation and 95 % interval over seeds (Student's t). The \
         evaluation pool has {} images, the same for all runs. Data: {}.\n\n",
        summary.runs.len(),
        summary.pool_images,
        escaped(&summary.source)
    );
    text +=
        "| combination | seeds | training images | own test split | n | evaluation pool |\n|---|---|--:|---|--:|---|\n";
    for c in &summary.combinations {
        let seeds: Vec<String> = c.seeds.iter().map(u64::to_string).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            escaped(&c.name),
            seeds.join(", "),
            c.train_images,
            spread(&c.test),
            c.test_images,
            spread(&c.pool)
        );
    }
    text += "\n### What may be concluded\n\n";
    for line in conclusions(summary) {
        let _ = writeln!(text, "- {}", escaped(&line));
    }
    let _ = writeln!(
        text,
        "\nIntervals over seeds take the images as given; those of comparisons and classes ({} resamples of images) take the \
         runs as given.",
        summary.resamples
    );
    text
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
