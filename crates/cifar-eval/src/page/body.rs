//! The body of the hard-images page. Static content is written here; the scripts fill in the rest.

use cifar_data::splits::Split;
use maud::{Markup, html};

use super::data::{Embed, PageData, PatternLine, Patterns};
use crate::measures::scores_first;

/// Keyboard shortcuts, for the help.
const KEYS: [(&str, &str); 13] = [
    ("j k ← → ↑ ↓", "next and previous image, next and previous row"),
    ("Enter", "open the image"),
    ("Esc", "close"),
    ("a", "accept the suggested label"),
    ("0 … 9", "relabel to the class with this number"),
    ("d", "drop: exclude the image from training"),
    ("x", "dismiss: the label is correct"),
    ("n", "add a note to the open image"),
    ("m", "show or hide the activation map"),
    ("u", "undo"),
    ("s", "save review.csv"),
    ("/", "search"),
    ("?", "show this help"),
];

/// Patterns that are visible at first. The others are behind a click.
const PATTERNS_VISIBLE: usize = 12;

/// Returns the body. `pictures` is the number of embedded images.
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
                span #served .faint role="status" {}
                button #save type="button" { "Save review.csv" }
                label.button for="load" tabindex="0" role="button" { "Load" }
                input #load type="file" accept=".csv,text/csv" hidden;
                button #undo type="button" disabled { "Undo" }
                button #theme type="button" aria-label="Switch between dark and light" { "◐" }
                button #help-open type="button" aria-label="Help: keyboard shortcuts" { "?" }
            }
            nav aria-label="Views" {
                a href="#overview" { "Overview" }
                a href="#review" { "Review" }
                a href="#gallery" { "Gallery " span.count #gallery-count {} }
                @if has_map(data) { a href="#map" { "Map" } }
                a href="#pairs" { "Duplicates " span.count { (grouped(data.pairs.len())) } }
                a href="#measures" { "Measures" }
            }
        }
        p #message role="status" aria-live="polite" popover="manual" {}
        main {
            (overview(data))
            (review())
            (gallery(data, pictures))
            @if has_map(data) { (feature_map()) }
            section.view #view-pairs hidden aria-labelledby="pairs-title" {
                h2 #pairs-title { "Exact and near duplicates" }
                p.lead {
                    "Each pair with its difference image. The second image is aligned to the first: mirrored or not, and shifted by up to two "
                    "pixels. Grey means equal; differences are amplified four times."
                    @if data.pairs.len() > data.embed.pairs {
                        " This file contains pictures for the first " (grouped(data.embed.pairs)) " of " (grouped(data.pairs.len())) " pairs."
                    }
                }
                div #pair-list {}
                div.pager #pair-pager {}
            }
            (measures())
        }
        dialog #detail aria-labelledby="detail-title" {}
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keyboard shortcuts" }
            dl.keys { @for (key, meaning) in KEYS { dt { kbd { (key) } } dd { (meaning) } } }
            p {
                "Decisions stay in this browser until you save them. Save " code { "review.csv" }
                " into the labels folder, as " code { "labels/review.csv" } ". With " code { "cifar-cli review" }
                " each decision is saved there at once. Labels change when " code { "prepare" } " runs."
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
                        h3 #confusion-title { "Confusion matrix" }
                        label { "Split " select #confusion-split {} }
                    }
                    p.lead { "Rows are labels, columns are predictions. Shading is the fraction of the row. Click a cell to see its images." }
                    div.scroll #confusion {}
                }
                section.panel aria-labelledby="map-title" {
                    div.head { h3 #map-title { "Data map" } span #map-count .faint {} }
                    p.lead {
                        "Each point is an image that passes the gallery filters. Confidence is the probability of its label, mean over epochs. "
                        "Variability is the standard deviation over epochs."
                    }
                    div #map-box {
                        canvas #map tabindex="0" role="application"
                            aria-label="Data map: variability on the horizontal axis, confidence on the vertical axis. Arrow keys select an image, Enter opens it." {}
                        p #map-hint .faint aria-live="polite" {}
                    }
                }
            }
            (patterns(data.patterns))
        }
    }
}

/// Says why a category is empty. Without a reason, an empty category looks like clean labels.
fn withheld(reasons: &[String]) -> Markup {
    html! {
        @if !reasons.is_empty() {
            section.panel #withheld aria-labelledby="withheld-title" {
                h3 #withheld-title { "Images that the network cannot judge" }
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
                    (patterns.significant.len()) " of " (patterns.tested) " tested patterns are significant at a false discovery rate of "
                    (patterns.level) " (Benjamini–Hochberg). The others are not shown."
                }
            }
            @let (first, others) = patterns.significant.split_at(patterns.significant.len().min(PATTERNS_VISIBLE));
            (pattern_list(first))
            @if !others.is_empty() {
                details {
                    summary { (others.len()) " more" }
                    (pattern_list(others))
                }
            }
        }
    }
}

fn pattern_list(patterns: &[PatternLine]) -> Markup {
    html! {
        @if !patterns.is_empty() {
            ul.patterns {
                @for pattern in patterns {
                    li {
                        (pattern.sentence) " "
                        span.faint { (pattern.effect) ", n = " (grouped(pattern.n)) ", q = " (q_value(pattern.q)) }
                    }
                }
            }
        }
    }
}

/// The queue of flagged images.
fn review() -> Markup {
    html! {
        section.view #view-review hidden aria-labelledby="review-title" {
            div.head {
                h2 #review-title { "Review" }
                label { "Flagged as " select #queue-category {} }
            }
            p.lead {
                "Decide on one image after the other: " kbd { "a" } " accepts the suggested label, a number relabels, "
                kbd { "d" } " drops the image, " kbd { "x" } " says that the label is correct, " kbd { "u" } " undoes. "
                "Decisions never apply to test images, so these are not here."
            }
            div #queue {}
        }
    }
}

fn gallery(data: &PageData, pictures: usize) -> Markup {
    html! {
        section.view #view-gallery hidden aria-labelledby="gallery-title" {
            h2 #gallery-title .hidden { "Gallery" }
            form.filters #filters aria-label="Filters" {
                label { "Search " input #search type="search" placeholder="id or file name" autocomplete="off"; }
                label { "Category " select #by-category {} }
                label { "Label " select #by-label {} }
                label { "Predicted " select #by-predicted {} }
                label { "Split " select #by-split {} }
                label { "Decision " select #by-decision {} }
                fieldset {
                    legend { "Measure range" }
                    div #ranges {}
                    button #add-range type="button" { "Add range" }
                }
                label { "Sort by " select #sort {} }
                label.check { input #reverse type="checkbox"; " reverse order" }
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

/// Returns whether an image is on the map of features.
fn has_map(data: &PageData) -> bool {
    data.rows.iter().any(|row| row.position.is_some())
}

fn feature_map() -> Markup {
    html! {
        section.view #view-map hidden aria-labelledby="feature-title" {
            div.head { h2 #feature-title { "Map of features" } span #feature-count .faint {} }
            p.lead {
                "Images that the network finds similar are near each other (UMAP of its last features). Only nearness has a meaning: axes, "
                "sizes of groups and distances between groups have none."
            }
            div.controls {
                label { "Colour by " select #feature-colour {} }
                button #feature-in type="button" aria-label="zoom in" { "+" }
                button #feature-out type="button" aria-label="zoom out" { "−" }
                button #feature-reset type="button" { "Whole map" }
            }
            div.panel { div #feature-box {
                canvas #feature-map tabindex="0" role="application"
                    aria-label="Map of features. Arrow keys select an image, Enter opens it, plus and minus zoom, Home shows the whole map." {}
                div #feature-card aria-hidden="true" hidden {}
                p #feature-hint .hidden aria-live="polite" {}
            } }
            div #feature-legend role="group" aria-label="Groups" {}
            p.lead {
                "Click a point to open its image, drag to move the map, and scroll to zoom. Larger points have a picture in this file. Images "
                "that the gallery filters hide are grey."
            }
        }
    }
}

/// Says which images have a picture in this file.
fn embedded(embed: Embed, rows: usize, pictures: usize) -> String {
    let hardest = rows.min(embed.images);
    if pictures == rows {
        return format!("This file contains the pictures of all {} images.", grouped(rows));
    }
    format!(
        "This file contains pictures of {} of {} images: the {} hardest, and {} more: duplicates, neighbours, outliers and others across the map. The others are listed without a picture.",
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
                "Values on this page are rounded to four significant digits. " code { "hard_images.csv" }
                " has the exact values, in the columns named here. An empty value means that the measure does not apply to the image."
            }
            div.scroll {
                table.plain {
                    thead { tr { th { "Measure" } th { "Column" } th { "Meaning" } th { "Direction" } } }
                    tbody {
                        @for measure in scores_first() {
                            tr {
                                th scope="row" { (measure.title) }
                                td { code { (measure.key) } }
                                td { (measure.meaning) }
                                td { (measure.direction.in_words()) }
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

/// Formats `12345` as `12,345`.
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

/// Formats a q value: three decimals, or scientific notation below 0.001.
fn q_value(value: f64) -> String {
    if value >= 0.001 { format!("{value:.3}") } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_have_thousands_separators() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (60_000, "60,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn the_number_of_embedded_images_is_shown() {
        let embed = Embed { images: 100, ..Embed::default() };
        let text = embedded(embed, 60_000, 140);
        assert!(text.contains("pictures of 140 of 60,000 images: the 100 hardest, and 40 more"), "{text}");
        assert!(embedded(embed, 90, 90).contains("all 90 images"));
    }
}
