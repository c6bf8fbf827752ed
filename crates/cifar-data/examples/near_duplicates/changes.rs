//! Changes that keep an image recognisable, as made by people and web pages.

use cifar_data::ImageSize;
use cifar_data::random::Stream;
use image::codecs::jpeg::JpegEncoder;

const SIDE: usize = 32;
/// The size of the images.
pub(crate) const SIZE: ImageSize = ImageSize { height: SIDE, width: SIDE };

/// Changes an image. Returns `None` if the change does not apply to it.
pub(crate) type Change = fn(&[u8], &mut Stream) -> Option<Vec<u8>>;

/// Every kind of change. [`recorded_again`] then mirrors, brightens and compresses the copy.
pub(crate) const KINDS: [(&str, Change); 9] = [
    ("none", |image, _| Some(image.to_vec())),
    ("shift by up to 2 pixels", |image, random| {
        let by = |random: &mut Stream| random.below(5) as f64 - 2.0;
        Some(window(image, [by(random), by(random)], [32.0, 32.0], None))
    }),
    ("aspect 0.75-1.33, cut", |image, random| {
        let kept = 32.0 * shrunk(random);
        let at = random.uniform(0.0, 32.0 - kept);
        let upright = random.chance(0.5);
        Some(window(image, either(upright, [at, 0.0]), either(upright, [kept, 32.0]), None))
    }),
    ("aspect 0.75-1.33, bars", |image, random| {
        let whole = 32.0 / shrunk(random);
        let upright = random.chance(0.5);
        let start = -(whole - 32.0) * random.uniform(0.3, 0.7);
        let bars = plain_colour(random);
        Some(window(image, either(upright, [start, 0.0]), either(upright, [whole, 32.0]), Some(bars)))
    }),
    ("crop, 70-100 % of the area", |image, random| Some(crop(image, random.uniform(0.7, 1.0).sqrt(), random))),
    ("crop, 70-100 % of the side", |image, random| Some(crop(image, random.uniform(0.7, 1.0), random))),
    ("background recoloured", |image, random| background(image, random, true)),
    ("background blanked", |image, random| background(image, random, false)),
    ("caption", |image, random| Some(caption(image, random))),
];

/// Returns a factor from 0.75 to 1, uniform on a logarithmic scale, like the ratios of sides.
fn shrunk(random: &mut Stream) -> f64 {
    0.75f64.powf(random.unit())
}

fn either(upright: bool, [along, across]: [f64; 2]) -> [f64; 2] {
    if upright { [along, across] } else { [across, along] }
}

fn crop(image: &[u8], kept: f64, random: &mut Stream) -> Vec<u8> {
    let side = 32.0 * kept;
    let mut start = || random.uniform(0.0, 32.0 - side);
    window(image, [start(), start()], [side, side], None)
}

/// Resamples the rectangle with its upper left corner at `start` (y, x) and of `size` (height,
/// width) to the whole image. Outside the image, its edge is repeated, or `outside` is the colour.
fn window(image: &[u8], start: [f64; 2], size: [f64; 2], outside: Option<[u8; 3]>) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(image.len());
    for at in 0..SIDE * SIDE {
        let place = |axis: usize, at: usize| start[axis] + (at as f64 + 0.5) * size[axis] / 32.0 - 0.5;
        let (y, x) = (place(0, at / SIDE), place(1, at % SIDE));
        let inside = |at: f64| (-0.5..31.5).contains(&at);
        match outside {
            Some(colour) if !inside(y) || !inside(x) => pixels.extend(colour),
            _ => pixels.extend([0, 1, 2].map(|channel| cubic(image, y, x, channel))),
        }
    }
    pixels
}

/// Catmull-Rom interpolation.
fn cubic(image: &[u8], y: f64, x: f64, channel: usize) -> u8 {
    let weights = |t: f64| {
        let (t2, t3) = (t * t, t * t * t);
        [-t + 2.0 * t2 - t3, 2.0 - 5.0 * t2 + 3.0 * t3, t + 4.0 * t2 - 3.0 * t3, t3 - t2].map(|w| w / 2.0)
    };
    let place = |at: f64, tap: usize| (at.floor() as i64 + tap as i64 - 1).clamp(0, SIDE as i64 - 1) as usize;
    let (rows, columns) = (weights(y - y.floor()), weights(x - x.floor()));
    let mut sum = 0.0;
    for (row, down) in rows.iter().enumerate() {
        for (column, right) in columns.iter().enumerate() {
            sum += down * right * f64::from(image[(place(y, row) * SIDE + place(x, column)) * 3 + channel]);
        }
    }
    sum.round().clamp(0.0, 255.0) as u8
}

/// White, black or any colour.
fn plain_colour(random: &mut Stream) -> [u8; 3] {
    match random.below(3) {
        0 => [255; 3],
        1 => [0; 3],
        _ => [(); 3].map(|()| random.below(256) as u8),
    }
}

/// Gives the background another colour, with or without its texture. The background is the region
/// connected to the edge through colours close to the edge's median. Returns `None` if it covers
/// less than a sixth or more than three quarters of the image.
fn background(image: &[u8], random: &mut Stream, keeps_texture: bool) -> Option<Vec<u8>> {
    let edge: Vec<usize> = (0..SIDE * SIDE)
        .filter(|at| [0, SIDE - 1].contains(&(at / SIDE)) || [0, SIDE - 1].contains(&(at % SIDE)))
        .collect();
    let old = [0, 1, 2].map(|channel| {
        let mut values: Vec<u8> = edge.iter().map(|at| image[at * 3 + channel]).collect();
        values.sort_unstable();
        values[values.len() / 2]
    });
    let is_like = |at: usize| (0..3).all(|channel| image[at * 3 + channel].abs_diff(old[channel]) <= 36);
    let mut mask = vec![false; SIDE * SIDE];
    let mut open: Vec<usize> = edge.into_iter().filter(|at| is_like(*at)).collect();
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut mask[at], true) {
            continue;
        }
        let (y, x) = (at / SIDE, at % SIDE);
        let around = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
        let inside = around.into_iter().filter(|(y, x)| *y < SIDE && *x < SIDE).map(|(y, x)| y * SIDE + x);
        open.extend(inside.filter(|at| !mask[*at] && is_like(*at)));
    }
    let size = mask.iter().filter(|is_background| **is_background).count();
    if !(SIDE * SIDE / 6..=SIDE * SIDE * 3 / 4).contains(&size) {
        return None;
    }
    let new = loop {
        let colour = plain_colour(random);
        if (0..3).map(|channel| i32::from(colour[channel].abs_diff(old[channel]))).sum::<i32>() >= 90 {
            break colour;
        }
    };
    let mut pixels = image.to_vec();
    for (pixel, _) in pixels.chunks_exact_mut(3).zip(&mask).filter(|(_, is_background)| **is_background) {
        for (channel, value) in pixel.iter_mut().enumerate() {
            let texture = if keeps_texture { i32::from(*value) - i32::from(old[channel]) } else { 0 };
            *value = (i32::from(new[channel]) + texture).clamp(0, 255) as u8;
        }
    }
    Some(pixels)
}

/// Draws an opaque bar at the top or bottom, or an opaque box anywhere, with letter-like strokes; 9
/// to 25 % of the image.
fn caption(image: &[u8], random: &mut Stream) -> Vec<u8> {
    let paper = plain_colour(random);
    let ink = if paper.iter().map(|v| u32::from(*v)).sum::<u32>() > 384 { [20; 3] } else { [235; 3] };
    let (top, left, height, width) = if random.chance(0.5) {
        let height = 3 + random.below(6) as usize;
        (if random.chance(0.5) { 0 } else { SIDE - height }, 0, height, SIDE)
    } else {
        let (height, width) = (8 + random.below(7) as usize, 12 + random.below(7) as usize);
        let mut start = |side: usize| random.below((SIDE - side) as u64 + 1) as usize;
        (start(height), start(width), height, width)
    };
    let mut pixels = image.to_vec();
    for y in top..top + height {
        for x in left..left + width {
            let is_line = (y - top) % 4 != 0 && y + 1 < top + height && x > left && x + 1 < left + width;
            let colour = if is_line && random.chance(0.4) { ink } else { paper };
            pixels[(y * SIDE + x) * 3..][..3].copy_from_slice(&colour);
        }
    }
    pixels
}

/// Mirrors half of the copies, changes the brightness of half of them, and compresses all as JPEG
/// of quality 75.
pub(crate) fn recorded_again(image: &[u8], random: &mut Stream) -> Vec<u8> {
    let mut pixels = image.to_vec();
    if random.chance(0.5) {
        for row in 0..SIDE {
            for x in 0..SIDE * 3 {
                pixels[row * SIDE * 3 + x] = image[(row * SIDE + SIDE - 1 - x / 3) * 3 + x % 3];
            }
        }
    }
    if random.chance(0.5) {
        let (contrast, brightness) = (random.uniform(0.8, 1.2), random.uniform(-20.0, 20.0));
        for value in &mut pixels {
            *value = ((f64::from(*value) - 128.0) * contrast + 128.0 + brightness).round().clamp(0.0, 255.0) as u8;
        }
    }
    compressed(&pixels)
}

/// Compresses as JPEG of quality 75 and decodes again.
fn compressed(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 75)
        .encode(pixels, SIDE as u32, SIDE as u32, image::ExtendedColorType::Rgb8)
        .expect("an image of 32×32 pixels fits");
    image::load_from_memory(&bytes).expect("just written").into_rgb8().into_raw()
}
