//! The values of a pickle, and access to a loaded one.

/// A value: small and copied freely. Containers are in a list and referred to by their index, so
/// chains and cycles of any depth need no recursion to walk or to free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// Bytes that Python 3 wrote as text for an old protocol. Decoded on use.
    Latin1(&'a str),
    Global(Global),
    Object(usize),
}

/// The functions and classes that a pickle may name. None is called: the machine creates what they
/// would return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Global {
    /// Creates an empty array, to be built.
    Reconstruct,
    /// Creates an array from its bytes.
    FromBuffer,
    NdArray,
    DType,
    /// Creates bytes from text.
    Encode,
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("numpy", "ndarray") => Self::NdArray,
            ("numpy", "dtype") => Self::DType,
            ("_codecs", "encode") => Self::Encode,
            _ => return None,
        })
    }
}

/// A container.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    DType(&'a [u8]),
    /// `None` until it is built.
    Array(Option<Array<'a>>),
}

/// A NumPy array as stored in the file.
#[derive(Debug)]
pub(in super::super) struct Array<'a> {
    pub(in super::super) shape: Vec<usize>,
    /// NumPy's name of the type, such as `u1`.
    pub(in super::super) dtype: &'a [u8],
    /// Whether the first index varies fastest.
    pub(in super::super) column_major: bool,
    pub(in super::super) data: Payload<'a>,
}

/// The bytes of an array.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Payload<'a> {
    Bytes(&'a [u8]),
    Latin1(&'a str),
}

impl<'a> Value<'a> {
    /// Returns a string in any of its forms: Python 2 wrote it as bytes.
    pub(in super::super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Text(text) => Some(text),
            Self::Latin1(text) => text.is_ascii().then_some(text),
            _ => None,
        }
    }

    pub(in super::super) fn number(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn payload(self) -> Option<Payload<'a>> {
        match self {
            Self::Bytes(bytes) => Some(Payload::Bytes(bytes)),
            Self::Latin1(text) => Some(Payload::Latin1(text)),
            _ => None,
        }
    }
}

/// A loaded pickle.
#[derive(Debug)]
pub(in super::super) struct Pickle<'a> {
    pub(super) objects: Vec<Object<'a>>,
    pub(super) root: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Returns an entry of the top-level dictionary.
    pub(in super::super) fn entry(&self, key: &str) -> Result<Value<'a>, String> {
        let Some(Object::Dict(entries)) = object(&self.objects, self.root) else {
            return Err("is not a dictionary".into());
        };
        let found = entries.iter().rev().find(|(name, _)| name.text() == Some(key));
        found.map(|(_, value)| *value).ok_or_else(|| format!("has no entry `{key}`"))
    }

    pub(in super::super) fn list(&self, value: Value) -> Option<&[Value<'a>]> {
        match object(&self.objects, value) {
            Some(Object::List(values)) => Some(values),
            _ => None,
        }
    }

    pub(in super::super) fn array(&self, value: Value) -> Option<&Array<'a>> {
        match object(&self.objects, value) {
            Some(Object::Array(array)) => array.as_ref(),
            _ => None,
        }
    }
}

pub(super) fn object<'o, 'a>(objects: &'o [Object<'a>], value: Value) -> Option<&'o Object<'a>> {
    match value {
        Value::Object(place) => objects.get(place),
        _ => None,
    }
}
