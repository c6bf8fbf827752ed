//! Writes the hard-images page for synthetic images with invented measures. Use it to try out the
//! page or to work on it:
//!
//! ```sh
//! cargo run --release -p cifar-eval --example page -- demo.html 60000
//! ```

mod demo;

use std::path::Path;

use cifar_eval::page::Embed;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.first().ok_or("usage: page FILE [IMAGES]")?;
    let images = arguments.get(1).map_or(Ok(2000), |text| text.parse())?;
    let page = demo::Demo::new(images)?.page(Embed::default())?;
    cifar_data::output::write_file(Path::new(file), &page)?;
    Ok(())
}
