//! The data-quality page: the report as tables, and the contact sheets in the same folder. It makes
//! no network request.

use cifar_data::duplicates::PairCounts;
use cifar_data::splits::Split;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{DataQualityReport, Issue};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1100px;margin:2em auto;padding:0 1em}\
table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}\
th:first-child,td:first-child{text-align:left}img{max-width:100%;border:1px solid #ddd;margin:.5em 0}\
.stamp{color:#d55e00;font-weight:bold}";

/// Returns the page as HTML. `pictures` has the file name without extension and the title of each
/// contact sheet.
pub(super) fn html(report: &DataQualityReport, classes: &[String], pictures: &[(&str, String)]) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Data quality of " (report.dataset_version) } style { (PreEscaped(STYLE)) } }
            body {
                h1 { "Data quality" @if report.synthetic { " " span.stamp { "SYNTHETIC" } } }
                p {
                    (report.images) " images of " (report.dataset_version) " (" (report.source) "), split seed " (report.split_seed)
                    ". Counts are by current label. Nothing on this page affects training or evaluation."
                }
                (counts(report, classes))
                (statistics(report))
                (issues(report))
                (pairs(report))
                @for (name, title) in pictures {
                    h2 id=(name) { (title) }
                    img src={ (name) ".png" } alt=(title) loading="lazy";
                }
            }
        }
    }
    .into_string()
}

fn counts(report: &DataQualityReport, classes: &[String]) -> Markup {
    let of = |split: Split, class: &str| report.counts.get(&split).and_then(|classes| classes.get(class));
    let partitions: std::collections::BTreeSet<&str> =
        report.counts.values().flat_map(|c| c.values()).flat_map(|p| p.keys()).map(String::as_str).collect();
    html! {
        h2 { "Images by class, split and partition" }
        table {
            tr {
                th { "class" }
                @for split in Split::ALL { @for partition in &partitions { th { (split) " " (partition) } } }
                th { "total" }
            }
            @for class in classes {
                tr {
                    td { (class) }
                    @for split in Split::ALL {
                        @for partition in &partitions {
                            td { (of(split, class).and_then(|p| p.get(*partition)).copied().unwrap_or(0)) }
                        }
                    }
                    td { (Split::ALL.into_iter().filter_map(|split| of(split, class)).flat_map(|p| p.values()).sum::<usize>()) }
                }
            }
        }
    }
}

fn statistics(report: &DataQualityReport) -> Markup {
    html! {
        h2 { "Brightness (0 to 255)" }
        table {
            tr { th { "split" } th { "images" } th { "mean" } th { "contrast" } th { "entropy (bits per pixel)" } th { "sharpness" } th { "darkest" } th { "brightest" } }
            @for (split, s) in &report.statistics {
                tr {
                    td { (split) } td { (s.images) }
                    @for value in [s.brightness, s.contrast] { td { (format!("{value:.1}")) } }
                    @for value in [s.entropy, s.sharpness] { td { (format!("{value:.2}")) } }
                    @for value in [s.darkest, s.brightest] { td { (format!("{value:.1}")) } }
                }
            }
        }
    }
}

fn issues(report: &DataQualityReport) -> Markup {
    let of = |issue, split| {
        report.issues.get(&issue).and_then(|splits| splits.get(&split)).map_or(0, |c| c.values().sum::<usize>())
    };
    html! {
        h2 { "Suspicious images" }
        table {
            tr { th { "test" } @for split in Split::ALL { th { (split) } } th { "total" } th { "criterion" } }
            @for issue in Issue::ALL {
                tr {
                    td { (issue.name().replace('_', " ")) }
                    @for split in Split::ALL { td { (of(issue, split)) } }
                    td { (report.failing(issue)) }
                    td { (issue.test()) }
                }
            }
        }
        p { "The full list is in " code { "issues.csv" } "." }
    }
}

fn pairs(report: &DataQualityReport) -> Markup {
    let row = |name: &str, counts: &PairCounts| {
        html! {
            tr { td { (name) } td { (counts.exact) } td { (counts.near) } td { (counts.similar) } }
        }
    };
    html! {
        h2 { "Duplicates" }
        table {
            tr { th { "pairs" } th { "exact" } th { "near" } th { "similar" } }
            (row("all", &report.duplicate_pairs))
            (row("between test and other images", &report.straddling_pairs))
        }
        p {
            (report.label_conflicts) " exact and near duplicate pairs have different labels (" code { "label_conflicts.csv" }
            "). Similar pairs may be different photographs, so they are not kept in one split."
        }
    }
}
