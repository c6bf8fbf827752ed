//! The body of the page of hard images: what is known beforehand is written here, the scripts fill in the rest.

use cifar_data::splits::Split;
use maud::{Markup, html};

use super::data::{Embed, MEASURES, PageData, Pattern, Patterns};

/// Keys and what they do, for the help.
const KEYS: [(&str, &str); 12] = [
    ("j k ← → ↑ ↓", "next and previous image, a line down and up"),
    ("Enter", "open the image"),
    ("Esc", "close"),
    ("a", "accept the suggested label"),
    ("0 … 9", "give the label of this number"),
    ("d", "drop: leave the image out of training"),
    ("x", "dismiss: the label is right"),
    ("n", "write a note on the open image"),
    ("u", "undo"),
    ("s", "save review.csv"),
    ("/", "search"),
    ("?", "this help"),
];

/// Patterns that are told at once; the others are a click away.
const PATTERNS_AT_FIRST: usize = 12;

/// `pictures` is the number of those that the file holds.
pub(super) fn body(data: &PageData, pictures: usize) -> Markup {
    html! {
        header.top {
            div.title {
                h1 { "Hard images" }
                p.facts {
                    (facts(data))
                }
            }
            div.tools {
                button #save type="button" { "Save review.csv" }
                label.button for="load" tabindex="0" role="button" { "Load" }
                input #load type="file" accept=".csv,text/csv" hidden;
                button #undo type="button" disabled { "Undo" }
                button #theme type="button" aria-label="Switch between dark and light" { "◐" }
                button #help-open type="button" aria-label="Help: keys" { "?" }
            }
            nav aria-label="Views" {
                a href="#overview" { "Overview" }
                a href="#gallery" { "Gallery " span.count #gallery-count {} }
                a href="#pairs" { "Pairs " span.count { (grouped(data.pairs.len())) } }
                a href="#measures" { "Measures" }
            }
        }
        p #message role="status" aria-live="polite" popover="manual" {}
        main {
            (overview(data))
            (gallery(data, pictures))
            section.view #view-pairs hidden aria-labelledby="pairs-title" {
                h2 #pairs-title { "Pairs that look alike" }
                p.lead {
                    "Each pair with its difference: the second image is laid over the first where it fits best (mirrored or not, shifted by up "
                    "to two pixels), grey is equal, and differences are shown four times as strong."
                    @if data.pairs.len() > data.embed.pairs {
                        " Pictures are in this file for the first " (grouped(data.embed.pairs)) " pairs of " (grouped(data.pairs.len())) "."
                    }
                }
                div #pair-list {}
                div.pager #pair-pager {}
            }
            (measures())
        }
        dialog #detail aria-labelledby="detail-title" {}
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keys" }
            dl.keys { @for (key, meaning) in KEYS { dt { kbd { (key) } } dd { (meaning) } } }
            p {
                "Decisions stay in this browser until you save them. The file " code { "review.csv" } " (" code { "id,content,file,decision,label,note" }
                ") goes to " code { "labels/review.csv" } "; nothing is relabelled before."
            }
            form method="dialog" { button { "Close" } }
        }
    }
}

fn overview(data: &PageData) -> Markup {
    html! {
        section.view #view-overview aria-labelledby="overview-title" {
            h2 #overview-title .hidden { "Overview" }
            div.cards #categories {}
            (withheld(data.withheld))
            div.columns {
                section.panel aria-labelledby="confusion-title" {
                    div.head {
                        h3 #confusion-title { "What is taken for what" }
                        label { "Split " select #confusion-split {} }
                    }
                    p.lead { "Rows are given labels, columns predictions; shade is the share of the row. A cell opens its images." }
                    div.scroll #confusion {}
                }
                section.panel aria-labelledby="map-title" {
                    div.head { h3 #map-title { "Data map" } span #map-count .faint {} }
                    p.lead { "Each point an image that passes the gallery's filters: how sure the network was of its label over the epochs, and how much that moved." }
                    div #map-box {
                        canvas #map tabindex="0" role="application"
                            aria-label="Data map: variability across, confidence upwards. Arrow keys go from image to image, Enter opens." {}
                        p #map-hint .faint aria-live="polite" {}
                    }
                }
            }
            (patterns(data.patterns))
        }
    }
}

/// Why a category is empty: nobody is to take that for clean labels.
fn withheld(reasons: &[String]) -> Markup {
    html! {
        @if !reasons.is_empty() {
            section.panel #withheld aria-labelledby="withheld-title" {
                h3 #withheld-title { "What the network cannot tell" }
                @for reason in reasons { p.lead { (reason) } }
            }
        }
    }
}

fn patterns(patterns: &Patterns) -> Markup {
    html! {
        section.panel aria-labelledby="patterns-title" {
            h3 #patterns-title { "Patterns" }
            p.lead {
                @if patterns.tested == 0 {
                    "No patterns were tested."
                } @else {
                    (patterns.told.len()) " of " (patterns.tested) " tested patterns survive at a false discovery rate of "
                    (patterns.level) " (Benjamini–Hochberg). The others are not told."
                }
            }
            @let (first, others) = patterns.told.split_at(patterns.told.len().min(PATTERNS_AT_FIRST));
            (told(first))
            @if !others.is_empty() {
                details {
                    summary { (others.len()) " more" }
                    (told(others))
                }
            }
        }
    }
}

fn told(patterns: &[Pattern]) -> Markup {
    html! {
        @if !patterns.is_empty() {
            ul.patterns {
                @for pattern in patterns {
                    li {
                        (pattern.sentence) " "
                        span.faint { (pattern.effect) ", n = " (grouped(pattern.n)) ", q = " (short(pattern.q)) }
                    }
                }
            }
        }
    }
}

fn gallery(data: &PageData, pictures: usize) -> Markup {
    html! {
        section.view #view-gallery hidden aria-labelledby="gallery-title" {
            h2 #gallery-title .hidden { "Gallery" }
            form.filters #filters aria-label="Filters" {
                label { "Search " input #search type="search" placeholder="id or file" autocomplete="off"; }
                label { "Category " select #by-category {} }
                label { "Label " select #by-label {} }
                label { "Predicted " select #by-predicted {} }
                label { "Split " select #by-split {} }
                label { "Decision " select #by-decision {} }
                fieldset {
                    legend { "Range of a measure" }
                    div #ranges {}
                    button #add-range type="button" { "Add a range" }
                }
                label { "Sort by " select #sort {} }
                label.check { input #reverse type="checkbox"; " reversed" }
                label.check { input #only-pictures type="checkbox"; " only images with a picture" }
                button #clear type="button" { "Clear filters" }
            }
            div.results {
                p.lead #gallery-summary aria-live="polite" {}
                p.faint { (embedded(data.embed, data.rows.len(), pictures)) }
                div #grid role="list" aria-label="Images" {}
            }
        }
    }
}

/// Which pictures there are, and that the others are missing.
fn embedded(embed: Embed, rows: usize, pictures: usize) -> String {
    let hardest = rows.min(embed.images);
    if pictures == rows {
        return format!("This file holds the pictures of all {} images.", grouped(rows));
    }
    format!(
        "This file holds {} pictures of {} images: the hardest {}, and {} more of pairs and neighbours. The others are listed without.",
        grouped(pictures),
        grouped(rows),
        grouped(hardest),
        grouped(pictures - hardest)
    )
}

fn measures() -> Markup {
    html! {
        section.view #view-measures hidden aria-labelledby="measures-title" {
            h2 #measures-title { "Measures" }
            p.lead {
                "Figures on this page are rounded to four digits; " code { "hard_images.csv" }
                " has all of them, in the columns named here. Empty means that a measure does not apply to an image."
            }
            div.scroll {
                table.plain {
                    thead { tr { th { "Measure" } th { "Column" } th { "Meaning" } th { "Direction" } } }
                    tbody {
                        @for measure in &MEASURES {
                            tr {
                                th scope="row" { (measure.title) }
                                td { code { (measure.key) } }
                                td { (measure.meaning) }
                                td { (measure.harder.in_words()) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the line below the title. Predictions that were given have no partitions and no seed.
fn facts(data: &PageData) -> String {
    let seeds = data.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let seeds = match data.seeds.len() {
        0 => String::new(),
        1 => format!("seed {seeds}"),
        _ => format!("seeds {seeds}"),
    };
    let n = format!("n = {} ({})", grouped(data.rows.len()), splits(data));
    let parts = [&data.header.source.description, data.dataset_version, data.model, &seeds, &n];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn splits(data: &PageData) -> String {
    let count = |split| data.rows.iter().filter(|row| row.split == split).count();
    Split::ALL.map(|split| format!("{split} {}", grouped(count(split)))).join(", ")
}

/// `12345` as `12,345`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two significant digits.
fn short(value: f64) -> String {
    if value >= 0.001 { format!("{value:.3}") } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (60_000, "60,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let embed = Embed { images: 100, neighbours_of: 10, pairs: 5 };
        let words = embedded(embed, 60_000, 140);
        assert!(words.contains("140 pictures of 60,000 images: the hardest 100, and 40 more"), "{words}");
        assert!(embedded(embed, 90, 90).contains("all 90 images"));
    }
}
