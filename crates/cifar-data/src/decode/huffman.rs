//! Reads Huffman codes of JPEG files, bit by bit.

/// Number of bits that are looked up at once.
const LOOKUP: u32 = 9;

/// Reads coded data up to the next marker, and zeros after it.
pub(super) struct Bits<'a> {
    pub(super) bytes: &'a [u8],
    /// Position after the bytes in the buffer.
    pub(super) at: usize,
    /// The next bits, at the upper end.
    buffer: u64,
    have: u32,
    /// Number of bits at the end that are not from the file.
    made_up: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, have: 0, made_up: 0 }
    }

    /// Returns whether bits were used that are not from the file.
    pub(super) fn ended_early(&self) -> bool {
        self.made_up > self.have
    }

    /// Fills the buffer with at least 32 bits, enough for a code and the bits after it.
    fn fill(&mut self) {
        if self.have >= 32 {
            return;
        }
        if let Some(chunk) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
            && !chunk.contains(&0xff)
        {
            self.buffer |= u64::from(u32::from_be_bytes(*chunk)) << (32 - self.have);
            self.have += 32;
            self.at += 4;
            return;
        }
        while self.have <= 56 {
            let byte = match self.bytes.get(self.at..).unwrap_or_default() {
                [0xff, 0, ..] => {
                    self.at += 2;
                    0xff
                }
                [0xff, ..] | [] => {
                    self.made_up = self.made_up.saturating_add(8);
                    0
                }
                [byte, ..] => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.have);
            self.have += 8;
        }
    }

    /// Skips up to 32 bits.
    pub(super) fn skip(&mut self, count: u32) {
        self.fill();
        self.buffer <<= count;
        self.have -= count;
    }

    /// Returns up to 16 bits as a number.
    pub(super) fn take(&mut self, count: u32) -> u32 {
        self.fill();
        let value = self.buffer.checked_shr(64 - count).unwrap_or(0) as u32;
        self.skip(count);
        value
    }

    /// Returns the value of the next code.
    pub(super) fn symbol(&mut self, codes: &Codes) -> Option<u8> {
        self.fill();
        let entry = codes.lookup[(self.buffer >> (64 - LOOKUP)) as usize];
        if entry > 0 {
            self.skip(u32::from(entry >> 8));
            return Some(entry as u8);
        }
        let next = (self.buffer >> 48) as u32;
        let length = (LOOKUP + 1..=16).find(|length| next < codes.ends[*length as usize])?;
        self.skip(length);
        let place = (next >> (16 - length)).wrapping_add_signed(codes.offsets[length as usize]);
        codes.values.get(place as usize).copied()
    }
}

/// A Huffman table.
pub(super) struct Codes {
    /// By the next bits: length of the code in the upper byte, its value in the lower one; 0 for
    /// longer codes.
    lookup: [u16; 1 << LOOKUP],
    /// By length: the first 16 bits after its last code.
    ends: [u32; 17],
    /// By length: the offset from a code to the index of its value.
    offsets: [i32; 17],
    values: Vec<u8>,
}

impl Codes {
    /// Builds the table from the number of codes of each length; `None` if there are more than fit.
    pub(super) fn new(counts: &[u8; 16], values: &[u8]) -> Option<Self> {
        let mut codes = Self { lookup: [0; 1 << LOOKUP], ends: [0; 17], offsets: [0; 17], values: values.to_vec() };
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, count) in (1..).zip(counts) {
            codes.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..*count {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOKUP {
                    let entry = (length as u16) << 8 | u16::from(values[place]);
                    let first = (code << (LOOKUP - length)) as usize;
                    codes.lookup[first..first + (1 << (LOOKUP - length))].fill(entry);
                }
                (code, place) = (code + 1, place + 1);
            }
            codes.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(codes)
    }
}
