//! Draws one image: a figure on a background, with a random position, size, angle and colours, and
//! distractors.

use crate::random::{Purpose, Stream, stream};

/// Side of every image, in pixels.
pub(super) const SIZE: usize = 32;

/// The figures, in the order of their labels.
pub(super) const CLASSES: [&str; 10] =
    ["arrow", "checker", "crescent", "cross", "disc", "ring", "square", "star", "stripes", "triangle"];

/// Streams of single images, separate from those of the plan.
const DRAW: u64 = 0;
const DISTURB: u64 = 3;

/// Subsamples per side of each pixel.
const SUBSAMPLES: usize = 3;

type Colour = [f64; 3];

/// Returns whether a point is inside the figure `class`, which fills about the unit disc.
fn inside(class: usize, u: f64, v: f64) -> bool {
    let radius = (u * u + v * v).sqrt();
    let square = u.abs().max(v.abs());
    match CLASSES[class] {
        "arrow" => {
            (v.abs() < 0.22 && (-0.95..0.2).contains(&u)) || ((0.1..0.95).contains(&u) && v.abs() < 0.75 * (0.95 - u))
        }
        "checker" => square < 0.85 && (((u + 0.85) / 0.425) as i32 + ((v + 0.85) / 0.425) as i32) % 2 == 0,
        "crescent" => radius < 0.92 && (u - 0.38) * (u - 0.38) + v * v > 0.55,
        "cross" => u.abs().min(v.abs()) < 0.26 && square < 0.92,
        "disc" => radius < 0.85,
        "ring" => (0.5..0.92).contains(&radius),
        "square" => square < 0.74,
        "star" => {
            let turn = std::f64::consts::PI * 0.4;
            let angle = libm::atan2(v, u) / turn;
            // 0 at a tip, 1 half-way between two tips.
            let from_tip = 2.0 * (angle - libm::round(angle)).abs();
            radius < 0.97 - 0.57 * from_tip
        }
        "stripes" => square < 0.85 && ((v + 0.85) / 0.34) as i32 % 2 == 0,
        _ => v < 0.6 && v > 1.9 * u.abs() - 0.95,
    }
}

fn colour(random: &mut Stream) -> Colour {
    std::array::from_fn(|_| random.uniform(20.0, 235.0))
}

fn distance(a: &Colour, b: &Colour) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn mix(a: &Colour, b: &Colour, share: f64) -> Colour {
    std::array::from_fn(|c| a[c] * (1.0 - share) + b[c] * share)
}

/// Draws image `id`, SIZE × SIZE × RGB.
pub(super) fn draw(seed: u64, id: u64, class: usize) -> Vec<u8> {
    let mut random = stream(seed, Purpose::Synthetic, DRAW, id);
    let size = SIZE as f64;
    let (from, to) = (colour(&mut random), colour(&mut random));
    let background = mix(&from, &to, 0.5);
    let mut figure = colour(&mut random);
    while distance(&figure, &background) < 100.0 {
        figure = colour(&mut random);
    }
    let (centre_x, centre_y) = (random.uniform(0.42, 0.58) * size, random.uniform(0.42, 0.58) * size);
    let (radius, aspect) = (random.uniform(8.0, 14.0), random.uniform(0.85, 1.2));
    let angle = random.uniform(-0.35, 0.35) + if random.chance(0.1) { std::f64::consts::PI } else { 0.0 };
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let gradient = random.uniform(0.0, 2.0 * std::f64::consts::PI);
    let (gradient_x, gradient_y) = (libm::cos(gradient), libm::sin(gradient));
    let waves =
        [random.uniform(0.2, 0.9), random.uniform(0.2, 0.9), random.uniform(0.0, 6.0), random.uniform(0.0, 12.0)];
    let clutter = Clutter::new(&mut random);

    let mut canvas = vec![[0.0; 3]; SIZE * SIZE];
    for (at, pixel) in canvas.iter_mut().enumerate() {
        let (x, y) = ((at % SIZE) as f64, (at / SIZE) as f64);
        let mut covered = 0;
        for sub in 0..SUBSAMPLES * SUBSAMPLES {
            let offset = |k: usize| (k as f64 + 0.5) / SUBSAMPLES as f64;
            let dx = (x + offset(sub % SUBSAMPLES) - centre_x) / (radius * aspect);
            let dy = (y + offset(sub / SUBSAMPLES) - centre_y) / radius * aspect;
            covered += u32::from(inside(class, cos * dx + sin * dy, cos * dy - sin * dx));
        }
        let along = 0.5 + ((x / size - 0.5) * gradient_x + (y / size - 0.5) * gradient_y) * 0.5;
        let mut ground = mix(&from, &to, along);
        let wave = waves[3] * libm::sin(waves[0] * x + waves[1] * y + waves[2]);
        for value in &mut ground {
            *value += wave;
        }
        let ground = clutter.behind(x, y, &ground);
        let seen = mix(&ground, &figure, f64::from(covered) / (SUBSAMPLES * SUBSAMPLES) as f64);
        *pixel = clutter.before(x, y, &seen);
    }
    if random.chance(0.3) {
        blur(&mut canvas);
    }
    let (light, noise) = (random.uniform(0.6, 1.25), random.uniform(3.0, 14.0));
    to_bytes(canvas.iter().flatten().map(|value| value * light + noise * random.normal()))
}

/// Distractors: strokes behind the figure, a blob in front of it.
struct Clutter {
    strokes: Vec<([f64; 3], f64, Colour)>,
    blob: Option<([f64; 3], Colour)>,
}

impl Clutter {
    fn new(random: &mut Stream) -> Self {
        let size = SIZE as f64;
        let strokes = (0..random.below(2))
            .map(|_| {
                let angle = random.uniform(0.0, std::f64::consts::PI);
                let (a, b) = (libm::cos(angle), libm::sin(angle));
                let through = a * random.uniform(0.0, size) + b * random.uniform(0.0, size);
                ([a, b, through], random.uniform(0.5, 1.6), colour(random))
            })
            .collect();
        let blob = random.chance(0.2).then(|| {
            let place = [random.uniform(0.0, size), random.uniform(0.0, size), random.uniform(2.5, 6.0)];
            (place, colour(random))
        });
        Self { strokes, blob }
    }

    fn behind(&self, x: f64, y: f64, ground: &Colour) -> Colour {
        let on = |stroke: &&([f64; 3], f64, Colour)| {
            let ([a, b, through], width, _) = stroke;
            (a * x + b * y - through).abs() < *width
        };
        self.strokes.iter().rev().find(on).map_or(*ground, |(_, _, colour)| *colour)
    }

    fn before(&self, x: f64, y: f64, seen: &Colour) -> Colour {
        match &self.blob {
            Some(([cx, cy, radius], colour)) if (x - cx) * (x - cx) + (y - cy) * (y - cy) < radius * radius => *colour,
            _ => *seen,
        }
    }
}

/// Averages each pixel with its neighbours.
fn blur(canvas: &mut [Colour]) {
    let sharp = canvas.to_vec();
    for y in 1..SIZE - 1 {
        for x in 1..SIZE - 1 {
            let mut sum = [0.0; 3];
            for (down, right) in (0..3).flat_map(|down| (0..3).map(move |right| (down, right))) {
                for (s, c) in sum.iter_mut().zip(sharp[(y + down - 1) * SIZE + x + right - 1]) {
                    *s += c;
                }
            }
            canvas[y * SIZE + x] = sum.map(|s| s / 9.0);
        }
    }
}

fn to_bytes(values: impl Iterator<Item = f64>) -> Vec<u8> {
    values.map(|v| (v + 0.5).clamp(0.0, 255.0) as u8).collect()
}

/// Makes a near-duplicate of `original`: shifted by up to two pixels, perhaps mirrored, with other
/// brightness and noise.
pub(super) fn disturb(seed: u64, id: u64, original: &[u8], pixels: &mut [u8]) {
    let mut random = stream(seed, Purpose::Synthetic, DISTURB, id);
    let mut shift = || random.below(5) as i64 - 2;
    let (down, right) = (shift(), shift());
    let (mirrored, light, noise) = (random.chance(0.5), random.uniform(0.85, 1.15), random.uniform(1.0, 6.0));
    let last = SIZE as i64 - 1;
    let values = (0..SIZE * SIZE * 3).map(|at| {
        let (x, y, channel) = ((at / 3 % SIZE) as i64, (at / 3 / SIZE) as i64, at % 3);
        let x = if mirrored { last - x } else { x };
        let (row, column) = ((y + down).clamp(0, last) as usize, (x + right).clamp(0, last) as usize);
        f64::from(original[(row * SIZE + column) * 3 + channel]) * light + noise * random.normal()
    });
    pixels.copy_from_slice(&to_bytes(values));
}
