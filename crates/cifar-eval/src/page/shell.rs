//! What self-contained pages share: one HTML document with style, scripts, data and pictures in it, that asks the network
//! for nothing. A page brings its body, its data and its scripts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::PageError;

/// The browser itself refuses what is not in the file.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// The parts of a page.
pub(super) struct Shell<'a> {
    pub title: &'a str,
    /// Puts a banner over the page: what it shows was made from drawn images.
    pub synthetic: bool,
    pub styles: &'a [&'a str],
    /// Run in this order, in one scope, as strict code.
    pub scripts: &'a [&'a str],
    pub body: Markup,
    /// JSON by [`to_json`]; the script finds it as the element `data`.
    pub data: String,
    /// PNG files; the script finds them, in base64, as the elements `sheet-0`, `sheet-1`, ….
    pub sheets: &'a [Vec<u8>],
}

impl Shell<'_> {
    /// The bytes of the file.
    pub(super) fn render(&self) -> Vec<u8> {
        let script = format!("(() => {{\n\"use strict\";\n{}}})();\n", self.scripts.concat());
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) @if self.synthetic { " – SYNTHETIC" } }
                    // Without an icon of its own, a browser may ask for one.
                    link rel="icon" href="data:,";
                    style { (PreEscaped(self.styles.concat())) }
                }
                body {
                    @if self.synthetic {
                        p.synthetic role="note" {
                            strong { "SYNTHETIC" } " These images were drawn by a program. Nothing here is about real photographs."
                        }
                    }
                    (self.body)
                    noscript { p.notice { "This page needs JavaScript. It runs in the page alone; nothing is sent anywhere." } }
                    script id="data" type="application/json" { (PreEscaped(&self.data)) }
                    @for (index, sheet) in self.sheets.iter().enumerate() {
                        script id={ "sheet-" (index) } type="text/plain" { (PreEscaped(BASE64.encode(sheet))) }
                    }
                    script { (PreEscaped(script)) }
                }
            }
        };
        page.into_string().into_bytes()
    }
}

/// JSON that may stand in a script element: no text in it can end the element or begin another one.
pub(super) fn to_json(data: &impl Serialize) -> Result<String, PageError> {
    let json = serde_json::to_string(data).map_err(|e| PageError::Data(e.to_string()))?;
    // Outside of strings JSON has none of these, and in a string the escape means the same.
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_the_data() {
        let nasty = ["</script><script>alert(1)</script>", "<!--", "]]>", "a&amp;b", "\u{2028}\u{2029}", "\"\\\n\0"];
        let json = to_json(&nasty).unwrap();
        assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}', '\n', '\0']), "{json}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), nasty);
    }

    #[test]
    fn no_title_breaks_out_of_the_document() {
        let shell = Shell {
            title: "</title><script>alert(1)</script>",
            synthetic: false,
            styles: &[],
            scripts: &[],
            body: html! {},
            data: "{}".into(),
            sheets: &[],
        };
        let page = String::from_utf8(shell.render()).unwrap();
        assert_eq!(page.matches("<script").count(), 2, "{page}");
        assert!(page.contains("&lt;/title&gt;"), "{page}");
    }
}
