//! Packs many small images into PNG sheets. A browser then decodes few files, and only when they
//! become visible.

use cifar_data::ImageSize;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::PageError;

/// Images per row of a sheet.
pub(super) const COLUMNS: usize = 16;
/// Images on a full sheet.
pub(super) const PER_SHEET: usize = 256;

/// Returns sheets with the images in order, each as the bytes of a PNG file. A row has [`COLUMNS`]
/// images, a sheet [`PER_SHEET`].
pub(super) fn sheets(pictures: &[&[u8]], size: ImageSize) -> Result<Vec<Vec<u8>>, PageError> {
    pictures.chunks(PER_SHEET).map(|pictures| sheet(pictures, size)).collect()
}

fn sheet(pictures: &[&[u8]], size: ImageSize) -> Result<Vec<u8>, PageError> {
    let row = size.width * 3;
    let (width, height) = (COLUMNS * size.width, pictures.len().div_ceil(COLUMNS) * size.height);
    let mut pixels = vec![0; width * height * 3];
    for (index, picture) in pictures.iter().enumerate() {
        let (top, left) = (index / COLUMNS * size.height, index % COLUMNS * size.width);
        for (y, line) in picture.chunks_exact(row).enumerate() {
            let start = ((top + y) * width + left) * 3;
            pixels[start..start + row].copy_from_slice(line);
        }
    }
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|e| PageError::Picture(e.to_string()))?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_at_its_position_on_the_sheet() {
        let size = ImageSize { height: 2, width: 3 };
        let pictures: Vec<Vec<u8>> = (0..270u32).map(|n| (0..18).map(|k| (n * 7 + k) as u8).collect()).collect();
        let borrowed: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        let sheets = sheets(&borrowed, size).unwrap();
        assert_eq!(sheets.len(), 2);
        let decoded: Vec<_> = sheets.iter().map(|png| image::load_from_memory(png).unwrap().to_rgb8()).collect();
        assert_eq!(decoded[0].dimensions(), (48, 32));
        assert_eq!(decoded[1].dimensions(), (48, 2));
        for (n, picture) in pictures.iter().enumerate() {
            let (sheet, index) = (&decoded[n / PER_SHEET], n % PER_SHEET);
            for (k, rgb) in picture.chunks_exact(3).enumerate() {
                let (x, y) = (index % COLUMNS * 3 + k % 3, index / COLUMNS * 2 + k / 3);
                assert_eq!(sheet.get_pixel(x as u32, y as u32).0, rgb, "picture {n}, pixel {k}");
            }
        }
    }
}
