//! The parts of the stack machine: input, stack, marks, memo and the list of objects, with checks
//! that none can be left or overrun.

use std::collections::HashMap;

use super::value::{Object, Value};

/// Most values that a pickle may create or memoize. The largest official file has 200,000.
const MAX_VALUES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Machine<'a> {
    input: &'a [u8],
    /// Position of the next byte of the input.
    pub(super) at: usize,
    /// Position of the current opcode.
    pub(super) opcode_at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack. Values below the last one are out of reach.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pub(super) objects: Vec<Object<'a>>,
    /// Number of values created and memoized.
    values: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, ..Self::default() }
    }

    /// Returns an error at the current opcode.
    pub(super) fn wrong(&self, problem: &str) -> String {
        format!("{problem}, at byte {}", self.opcode_at)
    }

    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let rest = &self.input[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| {
            format!(
                "is cut short or damaged: {length} bytes are needed from byte {} on, {} are left",
                self.at,
                rest.len()
            )
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    /// Reads up to the next line break.
    pub(super) fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.input[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        let line = line.ok_or_else(|| self.wrong("has a name that is not text"))?;
        self.at += line.len() + 1;
        Ok(line)
    }

    /// Counts a value that is created or memoized.
    fn spend(&mut self) -> Result<(), String> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.wrong(&format!("holds more than {MAX_VALUES} values, which no file of CIFAR does")));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        self.spend()?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn make(&mut self, object: Object<'a>) -> Result<(), String> {
        self.objects.push(object);
        self.push(Value::Object(self.objects.len() - 1))
    }

    pub(super) fn mark(&mut self) -> Result<(), String> {
        self.spend()?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Value<'a>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = if self.stack.len() > floor { self.stack.pop() } else { None };
        value.ok_or_else(|| self.wrong("pops a value from an empty stack"))
    }

    /// Pops the last `N` values, in the order in which they were pushed.
    pub(super) fn pop_last<const N: usize>(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mut values = vec![Value::None; N];
        for value in values.iter_mut().rev() {
            *value = self.pop()?;
        }
        Ok(values)
    }

    /// Pops all values since the last mark, and the mark.
    pub(super) fn pop_marked(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or_else(|| self.wrong("pops to a mark that does not exist"))?;
        Ok(self.stack.drain(mark..).collect())
    }

    /// Returns the object on top of the stack, without popping it.
    pub(super) fn top(&mut self) -> Result<Option<&mut Object<'a>>, String> {
        let value = self.pop()?;
        self.stack.push(value);
        Ok(match value {
            Value::Object(place) => self.objects.get_mut(place),
            _ => None,
        })
    }

    /// Memoizes the value on top of the stack; without a key, under the next free one.
    pub(super) fn remember(&mut self, key: Option<u32>) -> Result<(), String> {
        self.spend()?;
        let value = self.pop()?;
        self.stack.push(value);
        self.memo.insert(key.unwrap_or(self.memo.len() as u32), value);
        Ok(())
    }

    pub(super) fn recall(&mut self, key: u32) -> Result<(), String> {
        let value = self.memo.get(&key).copied().ok_or_else(|| self.wrong("uses a value that it has not memoized"))?;
        self.push(value)
    }

    /// Returns the only value that is left.
    pub(super) fn last(&mut self) -> Result<Value<'a>, String> {
        let root = self.pop()?;
        if self.stack.is_empty() && self.marks.is_empty() { Ok(root) } else { Err(self.wrong("ends too early")) }
    }
}
