//! Checks that a JPEG file has all its coded blocks.
//!
//! The decoder fills missing blocks with grey, without an error if an end-of-image marker follows.
//! This reader follows the Huffman codes of every scan (ITU-T T.81, annexes F and G) without
//! computing pixels, and counts the blocks.

use super::huffman::{Bits, Codes};

/// Most scans of a progressive file. The decoder has the same limit.
const MAX_SCANS: usize = 100;
/// Larger images are not followed: a few bytes can claim any number of blocks.
const MAX_PIXELS: usize = 1 << 28;

/// Checks a whole file. What it does not understand, such as a missing table, it leaves to the
/// decoder.
///
/// # Errors
/// If coded data end before the last block of their scan, or scans or the end-of-image marker are
/// missing.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut file = File { bytes, interval: 0, dc: [const { None }; 4], ac: [const { None }; 4], frame: None };
    let (mut at, mut scans) = (2, 0);
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            0xd9 => return file.finish(),
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let Some(segment) = segment(bytes, at) else { break };
        at += 2 + segment.len();
        let understood = match marker {
            0xc0..=0xc2 => file.start_frame(segment, marker == 0xc2),
            0xc4 => file.add_tables(segment),
            0xdd => segment.first_chunk().map(|n| file.interval = usize::from(u16::from_be_bytes(*n))),
            // Lossless and arithmetic coding.
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => None,
            0xda => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(format!("has more than {MAX_SCANS} scans"));
                }
                file.scan(segment, &mut at)?
            }
            _ => Some(()),
        };
        if understood.is_none() {
            return Ok(());
        }
    }
    Err("is truncated: the end-of-image marker is missing".into())
}

/// Returns the next marker from `at` on, and moves `at` after it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let [first, second] = *bytes.get(*at..)?.first_chunk()?;
        *at += 1;
        if first == 0xff && !matches!(second, 0 | 0xff) {
            *at += 1;
            return Some(second);
        }
    }
}

/// Returns the content of a segment, after its length.
fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    bytes.get(at + 2..at + length.max(2))
}

struct File<'a> {
    bytes: &'a [u8],
    /// MCUs between two restart markers; 0 without them.
    interval: usize,
    dc: [Option<Box<Codes>>; 4],
    ac: [Option<Box<Codes>>; 4],
    frame: Option<Frame>,
}

struct Frame {
    progressive: bool,
    components: Vec<Component>,
    /// MCUs of an interleaved scan.
    wide: usize,
    high: usize,
}

struct Component {
    id: u8,
    /// Blocks of an MCU of an interleaved scan.
    across: usize,
    down: usize,
    /// Blocks of a scan with this component alone.
    wide: usize,
    high: usize,
    scanned: bool,
    /// Progressive: bits of each coefficient that are still missing; none once it is complete.
    bits_to_come: [u8; 64],
    /// Progressive: the coefficients of each block that are not 0, one bit each.
    filled: Vec<u64>,
}

/// A component of a scan, and the indices of its tables.
struct Part {
    place: usize,
    dc: usize,
    ac: usize,
}

/// The range of coefficients of a scan.
#[derive(Clone, Copy)]
struct Band {
    start: u32,
    end: u32,
    /// Whether the scan refines coefficients of an earlier one.
    refines: bool,
}

impl File<'_> {
    fn start_frame(&mut self, segment: &[u8], progressive: bool) -> Option<()> {
        let (&[precision, h1, h0, w1, w0, count], rest) = segment.split_first_chunk()?;
        let [height, width] = [[h1, h0], [w1, w0]].map(|side| usize::from(u16::from_be_bytes(side)));
        let factors: Vec<[usize; 3]> = rest
            .chunks_exact(3)
            .take(usize::from(count))
            .map(|c| [usize::from(c[0]), usize::from(c[1] >> 4), usize::from(c[1] & 15)])
            .collect();
        let most = |place: usize| factors.iter().map(|f| f[place]).max();
        let (across, down) = (most(1)?, most(2)?);
        let odd = |f: &[usize; 3]| !(1..=4).contains(&f[1]) || !(1..=4).contains(&f[2]);
        // Larger images are refused by their header.
        if height * width > MAX_PIXELS {
            return None;
        }
        if precision != 8 || height == 0 || width == 0 || self.frame.is_some() || factors.iter().any(odd) {
            return None;
        }
        let (wide, high) = (width.div_ceil(8 * across), height.div_ceil(8 * down));
        let component = |f: &[usize; 3]| Component {
            id: f[0] as u8,
            across: f[1],
            down: f[2],
            wide: (width * f[1]).div_ceil(8 * across),
            high: (height * f[2]).div_ceil(8 * down),
            scanned: false,
            bits_to_come: [0; 64],
            filled: if progressive { vec![0; wide * f[1] * high * f[2]] } else { Vec::new() },
        };
        self.frame = Some(Frame { progressive, components: factors.iter().map(component).collect(), wide, high });
        Some(())
    }

    fn add_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((head, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let (values, rest) = rest.split_at_checked(counts.iter().map(|n| usize::from(*n)).sum())?;
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(head & 15))? = Some(Box::new(Codes::new(counts, values)?));
            segment = rest;
        }
        Some(())
    }

    /// Follows one scan and moves `at` after its coded data. None if the scan is not understood.
    fn scan(&mut self, segment: &[u8], at: &mut usize) -> Result<Option<()>, String> {
        let Some((parts, band)) = self.start_scan(segment) else { return Ok(None) };
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let mut blocks = Blocks { bits: Bits::new(self.bytes, *at), run: 0 };
        let alone = parts.len() == 1;
        let (wide, high) = match parts[..] {
            [Part { place, .. }] => (frame.components[place].wide, frame.components[place].high),
            _ => (frame.wide, frame.high),
        };
        let in_unit = |c: &Component| if alone { 1 } else { c.across * c.down };
        let total = wide * high * parts.iter().map(|part| in_unit(&frame.components[part.place])).sum::<usize>();
        let mut done = 0;
        let ended = |done: usize, at: usize| {
            let what = if at + 1 >= self.bytes.len() { "truncated" } else { "damaged" };
            format!("is {what}: its coded data end after {done} of {total} blocks")
        };
        for unit in 0..wide * high {
            if self.interval > 0 && unit > 0 && unit % self.interval == 0 && !blocks.restart() {
                return Err(ended(done, blocks.bits.at));
            }
            let (y, x) = (unit / wide, unit % wide);
            for part in &parts {
                let component = &mut frame.components[part.place];
                let (dc, ac) = (self.dc[part.dc].as_deref(), self.ac[part.ac].as_deref());
                let stride = frame.wide * component.across;
                for block in 0..in_unit(component) {
                    let index = if alone {
                        y * stride + x
                    } else {
                        let (down, across) = (block / component.across, block % component.across);
                        (y * component.down + down) * stride + x * component.across + across
                    };
                    let followed = if frame.progressive {
                        let Some(filled) = component.filled.get_mut(index) else { return Ok(None) };
                        blocks.progressive(dc, ac, band, filled)
                    } else {
                        blocks.baseline(dc, ac)
                    };
                    if blocks.bits.ended_early() {
                        return Err(ended(done, blocks.bits.at));
                    }
                    if followed.is_none() {
                        return Err(format!("is damaged: a code of block {done} of {total} is in no table"));
                    }
                    done += 1;
                }
            }
        }
        *at = blocks.bits.at;
        Ok(Some(()))
    }

    /// Returns the components and the band of a scan.
    fn start_scan(&mut self, segment: &[u8]) -> Option<(Vec<Part>, Band)> {
        let (count, rest) = segment.split_first()?;
        let (named, rest) = rest.split_at_checked(2 * usize::from(*count))?;
        let &[start, end, approximation] = rest.first_chunk()?;
        let frame = self.frame.as_mut()?;
        let (before, low) = (approximation >> 4, approximation & 15);
        let band = Band { start: u32::from(start), end: u32::from(end), refines: before > 0 };
        if frame.progressive && (start > end || end > 63 || (start == 0 && end > 0) || (start > 0 && *count > 1)) {
            return None;
        }
        let mut parts = Vec::new();
        for name in named.chunks_exact(2) {
            let place = frame.components.iter().position(|component| component.id == name[0])?;
            let part = Part { place, dc: usize::from(name[1] >> 4), ac: usize::from(name[1] & 15) };
            let component = &mut frame.components[place];
            component.scanned = true;
            if frame.progressive {
                component.bits_to_come[usize::from(start)..=usize::from(end)].fill(low);
            }
            let (dc, ac) = (self.dc.get(part.dc)?, self.ac.get(part.ac)?);
            let (needs_dc, needs_ac) =
                if frame.progressive { (start == 0 && before == 0, start > 0) } else { (true, true) };
            if (needs_dc && dc.is_none()) || (needs_ac && ac.is_none()) {
                return None;
            }
            parts.push(part);
        }
        (!parts.is_empty()).then_some((parts, band))
    }

    /// Checks at the end-of-image marker that nothing is missing.
    fn finish(&self) -> Result<(), String> {
        let Some(frame) = &self.frame else { return Ok(()) };
        if let Some(place) = frame.components.iter().position(|c| !c.scanned) {
            let count = frame.components.len();
            return Err(format!("is damaged: it ends without the coded data of colour {} of {count}", place + 1));
        }
        if frame.components.iter().any(|c| c.bits_to_come.iter().any(|bits| *bits > 0)) {
            return Err("is damaged: it ends before its last scans, which have the details".into());
        }
        Ok(())
    }
}

/// Follows the codes of blocks.
struct Blocks<'a> {
    bits: Bits<'a>,
    /// Blocks that an end-of-band run still covers.
    run: u32,
}

impl Blocks<'_> {
    /// Moves after the next restart marker; false if there is none.
    fn restart(&mut self) -> bool {
        let mut at = self.bits.at;
        let found = matches!(next_marker(self.bits.bytes, &mut at), Some(0xd0..=0xd7));
        if found {
            self.bits = Bits::new(self.bits.bytes, at);
            self.run = 0;
        }
        found
    }

    /// Reads a block of a sequential scan; `None` for a code that is in no table.
    fn baseline(&mut self, dc: Option<&Codes>, ac: Option<&Codes>) -> Option<()> {
        let (dc, ac) = (dc?, ac?);
        let size = self.bits.symbol(dc)?;
        self.bits.skip(u32::from(size).min(16));
        let mut at = 1;
        while at < 64 {
            let symbol = self.bits.symbol(ac)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => at += 16,
                (_, 0) => break,
                (zeros, size) => {
                    self.bits.skip(size.into());
                    at += 1 + u32::from(zeros);
                }
            }
        }
        Some(())
    }

    /// Reads a block of a progressive scan whose `filled` coefficients are not 0.
    fn progressive(&mut self, dc: Option<&Codes>, ac: Option<&Codes>, band: Band, filled: &mut u64) -> Option<()> {
        if band.start == 0 {
            if band.refines {
                self.bits.skip(1);
            } else {
                let size = self.bits.symbol(dc?)?;
                self.bits.skip(u32::from(size).min(16));
            }
            return Some(());
        }
        let ac = ac?;
        let mut at = band.start;
        while self.run == 0 && at <= band.end {
            let symbol = self.bits.symbol(ac)?;
            let (mut zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && zeros < 15 {
                self.run = (1 << zeros) + self.bits.take(zeros);
                break;
            }
            self.bits.skip(size);
            if !band.refines {
                at += zeros;
                if size > 0 {
                    *filled |= 1u64.checked_shl(at).unwrap_or(0);
                }
                at += 1;
                continue;
            }
            // Coefficients that are not 0 have one more bit each and do not count as zeros.
            while at <= band.end {
                if *filled >> at & 1 == 1 {
                    self.bits.skip(1);
                } else if zeros == 0 {
                    *filled |= u64::from(size > 0) << at;
                    at += 1;
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
        }
        if self.run > 0 {
            if band.refines {
                for place in at..=band.end {
                    self.bits.skip((*filled >> place & 1) as u32);
                }
            }
            self.run -= 1;
        }
        Some(())
    }
}
