//! A restricted reader of Python's pickles: a stack machine that creates lists, dictionaries,
//! strings, numbers and arrays, and nothing else.
//!
//! A pickle is a program, and Python's reader runs any function that it names. This reader calls
//! none: it knows five names and creates what they would return; any other name or opcode is an
//! error. It reads protocol 2, as written by Python 2 and NumPy in the official files, and
//! protocols 2 to 5 of Python 3. Strings and pixels stay in the file's bytes, and the number of
//! other values is limited, so a small file cannot ask for much memory.

mod machine;
mod opcodes;
mod value;

use machine::Machine;
use opcodes as op;
pub(super) use value::{Array, Payload, Pickle, Value};
use value::{Global, Object, object};

/// Most dimensions of an array, as in NumPy.
const MAX_DIMENSIONS: usize = 64;

impl<'a> Pickle<'a> {
    /// Loads a whole file.
    pub(super) fn load(bytes: &'a [u8]) -> Result<Self, String> {
        match bytes {
            [] => return Err("is empty".into()),
            [op::PROTO, 2..=5, ..] => {}
            [op::PROTO, protocol, ..] => return Err(format!("is a pickle of protocol {protocol}; allowed are 2 to 5")),
            _ => return Err("is not a pickle of protocol 2 to 5".into()),
        }
        let mut machine = Machine::new(bytes);
        let root = loop {
            machine.opcode_at = machine.at;
            match machine.array()? {
                [op::STOP] => break machine.last()?,
                [opcode] => machine.step(opcode)?,
            }
        };
        if machine.at != bytes.len() {
            return Err(format!("has bytes after its end at byte {}", machine.at));
        }
        Ok(Self { objects: machine.objects, root })
    }
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            op::PROTO => self.array::<1>().map(|_| ()),
            op::FRAME => self.array::<8>().map(|_| ()),

            op::NONE => self.push(Value::None),
            op::NEWTRUE => self.push(Value::Bool(true)),
            op::NEWFALSE => self.push(Value::Bool(false)),
            op::BININT1 | op::BININT2 | op::BININT => {
                let number = match opcode {
                    op::BININT1 => u8::from_le_bytes(self.array()?).into(),
                    op::BININT2 => u16::from_le_bytes(self.array()?).into(),
                    _ => i32::from_le_bytes(self.array()?).into(),
                };
                self.push(Value::Int(number))
            }
            op::SHORT_BINSTRING
            | op::BINSTRING
            | op::SHORT_BINBYTES
            | op::BINBYTES
            | op::BINBYTES8
            | op::BYTEARRAY8 => {
                let length = match opcode {
                    op::SHORT_BINSTRING | op::SHORT_BINBYTES => u8::from_le_bytes(self.array()?).into(),
                    // A BINSTRING's length is signed; a negative one is too large here and refused.
                    op::BINSTRING | op::BINBYTES => u32::from_le_bytes(self.array()?).into(),
                    _ => u64::from_le_bytes(self.array()?),
                };
                let bytes = self.take(length)?;
                self.push(Value::Bytes(bytes))
            }
            op::SHORT_BINUNICODE | op::BINUNICODE | op::BINUNICODE8 => {
                let length = match opcode {
                    op::SHORT_BINUNICODE => u8::from_le_bytes(self.array()?).into(),
                    op::BINUNICODE => u32::from_le_bytes(self.array()?).into(),
                    _ => u64::from_le_bytes(self.array()?),
                };
                let text = std::str::from_utf8(self.take(length)?);
                self.push(Value::Text(text.map_err(|_| self.wrong("has text that is not UTF-8"))?))
            }

            op::BINPUT => {
                let key = u8::from_le_bytes(self.array()?).into();
                self.remember(Some(key))
            }
            op::LONG_BINPUT => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(Some(key))
            }
            op::MEMOIZE => self.remember(None),
            op::BINGET => {
                let key = u8::from_le_bytes(self.array()?).into();
                self.recall(key)
            }
            op::LONG_BINGET => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)
            }
            _ => self.collect(opcode),
        }
    }

    /// Executes the opcodes that build containers.
    fn collect(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            op::MARK => self.mark(),
            op::EMPTY_LIST => self.make(Object::List(Vec::new())),
            op::EMPTY_DICT => self.make(Object::Dict(Vec::new())),
            op::EMPTY_TUPLE | op::TUPLE | op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let values = match opcode {
                    op::EMPTY_TUPLE => Vec::new(),
                    op::TUPLE1 => self.pop_last::<1>()?,
                    op::TUPLE2 => self.pop_last::<2>()?,
                    op::TUPLE3 => self.pop_last::<3>()?,
                    _ => self.pop_marked()?,
                };
                self.make(Object::Tuple(values))
            }
            op::APPEND | op::APPENDS => {
                let values = if opcode == op::APPEND { self.pop_last::<1>()? } else { self.pop_marked()? };
                let Some(Object::List(list)) = self.top()? else {
                    return Err(self.wrong("appends to a value that is not a list"));
                };
                list.extend(values);
                Ok(())
            }
            op::SETITEM | op::SETITEMS => {
                let values = if opcode == op::SETITEM { self.pop_last::<2>()? } else { self.pop_marked()? };
                let (Some(Object::Dict(dict)), (entries, [])) = (self.top()?, values.as_chunks::<2>()) else {
                    return Err(self.wrong("sets entries of a value that is not a dictionary"));
                };
                dict.extend(entries.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.global(module.text().unwrap_or_default(), name.text().unwrap_or_default())
            }
            op::REDUCE => self.reduce(),
            op::BUILD => self.build(),
            _ => Err(self.wrong(&format!(
                "has the opcode {}, but only lists, dictionaries, strings, numbers and arrays are allowed",
                op::name(opcode)
            ))),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let Some(global) = Global::find(module, name) else {
            let shown: String = format!("{module}.{name}").chars().take(80).collect();
            return Err(self.wrong(&format!(
                "names {}, but only NumPy's arrays are allowed, and nothing is executed",
                shown.escape_debug()
            )));
        };
        self.push(Value::Global(global))
    }

    /// Creates what a known function would return.
    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = match object(&self.objects, arguments) {
            Some(Object::Tuple(values)) => values.as_slice(),
            _ => &[],
        };
        match (function, arguments) {
            (Value::Global(Global::Encode), &[Value::Text(text), encoding]) if encoding.text() == Some("latin1") => {
                self.push(Value::Latin1(text))
            }
            (Value::Global(Global::DType), &[Value::Text(name), ..]) => self.make(Object::DType(name.as_bytes())),
            (Value::Global(Global::DType), &[Value::Bytes(name), ..]) => self.make(Object::DType(name)),
            (Value::Global(Global::Reconstruct), &[Value::Global(Global::NdArray), ..]) => {
                self.make(Object::Array(None))
            }
            (Value::Global(Global::FromBuffer), &[data, dtype, shape, order]) => {
                let column_major = match order.text() {
                    Some("C") => Value::Bool(false),
                    Some("F") => Value::Bool(true),
                    _ => Value::None,
                };
                let array = self.array_of(shape, dtype, column_major, data)?;
                self.make(Object::Array(Some(array)))
            }
            _ => Err(self.wrong("calls a value that is not a function, or with wrong arguments")),
        }
    }

    /// Fills the array that `reduce` created.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let array = match object(&self.objects, state) {
            // A version number comes first; the oldest arrays have none.
            Some(Object::Tuple(values)) => match values[..] {
                [_, shape, dtype, column_major, data] | [shape, dtype, column_major, data] => {
                    self.array_of(shape, dtype, column_major, data)
                }
                _ => Err(self.wrong("builds an array from a value that does not describe one")),
            },
            _ => Err(self.wrong("builds an array from a value that does not describe one")),
        };
        match self.top()? {
            Some(Object::Array(place)) => *place = Some(array?),
            // Byte order and similar properties: bytes have none, and no other numbers are used.
            Some(Object::DType(_)) => {}
            _ => return Err(self.wrong("builds a value that is not an array")),
        }
        Ok(())
    }

    fn array_of(
        &self,
        shape: Value<'a>,
        dtype: Value<'a>,
        column_major: Value<'a>,
        data: Value<'a>,
    ) -> Result<Array<'a>, String> {
        let wrong = || self.wrong("has an array in an unknown form");
        let shape = match object(&self.objects, shape) {
            Some(Object::Tuple(sizes)) if sizes.len() <= MAX_DIMENSIONS => {
                let size = |value: &Value| value.number().and_then(|number| usize::try_from(number).ok());
                sizes.iter().map(size).collect::<Option<Vec<_>>>().ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        };
        let Some(Object::DType(dtype)) = object(&self.objects, dtype) else { return Err(wrong()) };
        let column_major = match column_major {
            Value::Bool(flag) => flag,
            Value::Int(flag) => flag != 0,
            _ => return Err(wrong()),
        };
        Ok(Array { shape, dtype, column_major, data: data.payload().ok_or_else(wrong)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../../../tests/fixtures/pickles/", $name, ".pickle"))
        };
    }

    /// Pickles as Python and NumPy write them, created by `tests/fixtures/make_archives.py`.
    const GOLDEN: [&[u8]; 7] = [
        fixture!("python2"),
        fixture!("protocol2"),
        fixture!("protocol3"),
        fixture!("protocol4"),
        fixture!("protocol5"),
        fixture!("columns"),
        fixture!("columns5"),
    ];

    #[track_caller]
    fn check_refused(bytes: &[u8], parts: &[&str]) {
        let problem = Pickle::load(bytes).map(|_| ()).expect_err("this pickle must be refused");
        for part in parts {
            assert!(problem.contains(part), "{problem:?} does not say {part:?}");
        }
    }

    /// Returns a pickle of protocol 2 with these opcodes.
    fn program(opcodes: &[u8]) -> Vec<u8> {
        [b"\x80\x02", opcodes].concat()
    }

    #[test]
    fn pickles_of_python_are_read() {
        for (number, bytes) in GOLDEN.into_iter().enumerate() {
            let pickle = Pickle::load(bytes).unwrap();
            let labels = pickle.list(pickle.entry("labels").unwrap()).unwrap();
            assert_eq!(labels, [6, 300, 70000, -1].map(Value::Int));
            let files = pickle.list(pickle.entry("filenames").unwrap()).unwrap();
            assert_eq!(files.iter().map(|f| f.text().unwrap()).collect::<Vec<_>>(), ["a.png"; 2]);
            let array = pickle.array(pickle.entry("data").unwrap()).unwrap();
            assert_eq!(
                (array.shape.as_slice(), array.dtype, array.column_major),
                (&[2, 3][..], &b"u1"[..], number > 4)
            );
            let bytes = match array.data {
                Payload::Bytes(bytes) => bytes.to_vec(),
                Payload::Latin1(text) => text.chars().map(|c| u8::try_from(c).unwrap()).collect(),
            };
            assert_eq!(bytes, if number > 4 { [200, 3, 201, 4, 202, 5] } else { [200, 201, 202, 3, 4, 5] });
            assert_eq!(pickle.entry("label"), Err("has no entry `label`".into()));
        }
    }

    #[test]
    fn every_pickle_that_is_cut_short_is_refused() {
        for bytes in GOLDEN {
            for length in 0..bytes.len() {
                assert!(Pickle::load(&bytes[..length]).is_err(), "{length} bytes");
            }
            check_refused(&[bytes, b"."].concat(), &["has bytes after its end"]);
        }
    }

    #[test]
    fn only_the_names_of_arrays_are_accepted() {
        for name in ["os\nsystem", "builtins\neval", "__builtin__\neval", "numpy\nload", "_codecs\ndecode", "\n"] {
            let shown = name.replace('\n', ".");
            let bytes = program(&[b"c", name.as_bytes(), b"\nX\x02\0\0\0ls\x85R."].concat());
            check_refused(&bytes, &[&format!("names {shown}, "), "at byte 2", "nothing is executed"]);
        }
        check_refused(
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.",
            &["names posix.system", "at byte 17"],
        );
        check_refused(&program(b"cos\nsys\x1b[2Jtem\n."), &["names os.sys\\u{1b}[2Jtem, "]);
    }

    #[test]
    fn opcodes_that_find_or_run_code_are_refused() {
        for (opcode, name) in [
            (b'i', "0x69 (INST)"),
            (b'o', "0x6f (OBJ)"),
            (0x81, "0x81 (NEWOBJ)"),
            (0x92, "0x92 (NEWOBJ_EX)"),
            (b'P', "0x50 (PERSID)"),
            (b'Q', "0x51 (BINPERSID)"),
            (0x82, "0x82 (EXT)"),
            (0x97, "0x97 (NEXT_BUFFER)"),
            (0xff, "0xff"),
        ] {
            check_refused(&program(&[b'N', opcode]), &["has the opcode", name, "at byte 3"]);
        }
    }

    #[test]
    fn functions_check_their_arguments() {
        for opcodes in [
            &b"c_codecs\nencode\nX\x01\0\0\0aX\x04\0\0\0utf8\x86R."[..],
            b"c_codecs\nencode\nX\x01\0\0\0a\x85R.",
            b"cnumpy\nndarray\n)R.",
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n\x85R.",
            b"NNR.",
            b"K\x01)R.",
        ] {
            check_refused(&program(opcodes), &["calls a value that is not a function, or with wrong arguments"]);
        }
        check_refused(&program(b"N)b."), &["builds a value that is not an array"]);
        check_refused(
            &program(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85RNb."),
            &["builds an array"],
        );
    }

    #[test]
    fn the_stack_cannot_be_overrun() {
        for opcodes in [&b"."[..], b"a.", b"\x85.", b"K\x01\x86.", b"K\x01(\x85.", b"(a.", b"R.", b"b.", b"q\0."] {
            check_refused(&program(opcodes), &["pops a value from an empty stack"]);
        }
        check_refused(&program(b"t."), &["pops to a mark that does not exist, at byte 2"]);
        check_refused(&program(b"h\x07."), &["uses a value that it has not memoized"]);
        check_refused(&program(b"NN."), &["ends too early"]);
        check_refused(&program(b"(K\x01."), &["ends too early"]);
        check_refused(&program(b"}K\x01a."), &["appends to a value that is not a list"]);
        check_refused(&program(b"](K\x01K\x02u."), &["sets entries of a value that is not a dictionary"]);
        check_refused(&program(b"}(K\x01u."), &["sets entries of a value that is not a dictionary"]);
        check_refused(b"", &["is empty"]);
        check_refused(b"\x80\x06.", &["protocol 6; allowed are 2 to 5"]);
        check_refused(b"(dp0\n.", &["is not a pickle of protocol 2 to 5"]);
    }

    #[test]
    fn a_list_may_contain_itself_or_be_deep() {
        assert!(Pickle::load(&program(b"]q\0h\0a.")).is_ok());
        let deep = [b"N".to_vec(), vec![op::TUPLE1; 500_000], b".".to_vec()].concat();
        assert!(Pickle::load(&program(&deep)).is_ok());
    }

    #[test]
    fn declared_lengths_allocate_nothing() {
        check_refused(&program(b"B\xff\xff\xff\xffx"), &["4294967295 bytes are needed", "1 are left"]);
        check_refused(&program(b"T\xff\xff\xff\xffx"), &["4294967295 bytes are needed"]);
        check_refused(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffx", &["18446744073709551615 bytes are needed"]);
        assert!(Pickle::load(&program(b"Nr\xff\xff\xff\xff.")).is_ok(), "a large key takes no room");
        check_refused(&program(&vec![b'N'; 2_000_000]), &["holds more than 1048576 values"]);
        check_refused(
            &program(&[b"Nq\0".to_vec(), b"q\0".repeat(2_000_000)].concat()),
            &["holds more than 1048576 values"],
        );
    }
}
