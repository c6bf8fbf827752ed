//! Encodes Protocol Buffers, as much as an ONNX file needs.
//!
//! The wire format is that of <https://protobuf.dev/programming-guides/encoding/>. Repeated numbers
//! are written one by one; readers must accept them packed and unpacked.

/// Wire types of the format.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// A message. Fields are appended in the order of the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Appends an `int32`, `int64` or enumeration.
    pub(super) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3 | VARINT);
        // A negative number has the bits of its two's complement in 64 bits.
        self.varint(value as u64);
        self
    }

    /// Appends a `float`.
    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | FIXED_32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Appends `bytes`.
    pub(super) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Appends a `string`.
    pub(super) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Appends a message.
    pub(super) fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Appends each message of a repeated field.
    pub(super) fn messages(self, field: u64, values: &[Self]) -> Self {
        values.iter().fold(self, |message, value| message.message(field, value))
    }

    /// Returns the number of encoded bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the encoded fields.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends seven bits per byte, the lowest first; all bytes but the last have the top bit set.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: Message, expected: &[u8]) {
        assert_eq!(message.into_bytes(), expected);
    }

    /// The first three are the examples of the format's description.
    #[test]
    fn messages_have_the_bytes_of_the_specification() {
        let new = Message::default;
        check(new().int(1, 150), &[0x08, 0x96, 0x01]);
        check(new().text(2, "testing"), b"\x12\x07testing");
        check(new().message(3, &new().int(1, 150)), &[0x1a, 0x03, 0x08, 0x96, 0x01]);
        check(new().int(1, 0).int(1, 127).int(1, 128), &[0x08, 0, 0x08, 127, 0x08, 0x80, 0x01]);
        check(new().int(1, -1), &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(new().float(2, 1.0), &[0x15, 0, 0, 0x80, 0x3f]);
        // Field 20 needs two bytes for its key.
        check(new().int(20, 7), &[0xa0, 0x01, 0x07]);
        check(new().messages(1, &[new(), new().int(1, 1)]), &[0x0a, 0, 0x0a, 2, 0x08, 1]);
        check(new().bytes(1, &[9; 200]), &[&[0x0a, 200, 1], &[9; 200][..]].concat());
    }
}
