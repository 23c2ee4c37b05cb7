//! One thing found in a file: a line of text for people, an object for programs.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A value of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Field {
    /// A number.
    Number(u64),
    /// A number that may be negative.
    Signed(i64),
    /// An id of a member or cluster: hexadecimal, in JSON as a string.
    Id(u64),
    /// Yes or no.
    Flag(bool),
    /// Words of this program.
    Word(String),
    /// A key or value of a client: quoted, with everything but printable ASCII escaped as in `\x00`, `\n`, `\\`.
    Bytes(Vec<u8>),
}

/// A thing with its fields, and what it is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    kind: &'static str,
    fields: Vec<(&'static str, Field)>,
    says: Option<String>,
    parts: Vec<Item>,
}

impl Item {
    /// A thing of this kind.
    pub fn new(kind: &'static str) -> Item {
        Item { kind, fields: Vec::new(), says: None, parts: Vec::new() }
    }

    #[must_use]
    fn with(mut self, name: &'static str, field: Field) -> Item {
        self.fields.push((name, field));
        self
    }

    /// With a number.
    #[must_use]
    pub fn number(self, name: &'static str, value: impl TryInto<u64>) -> Item {
        self.with(name, Field::Number(value.try_into().unwrap_or(u64::MAX)))
    }

    /// With a number that may be negative.
    #[must_use]
    pub fn signed(self, name: &'static str, value: i64) -> Item {
        self.with(name, Field::Signed(value))
    }

    /// With an id.
    #[must_use]
    pub fn id(self, name: &'static str, value: u64) -> Item {
        self.with(name, Field::Id(value))
    }

    /// With a yes or no.
    #[must_use]
    pub fn flag(self, name: &'static str, value: bool) -> Item {
        self.with(name, Field::Flag(value))
    }

    /// With a word.
    #[must_use]
    pub fn word(self, name: &'static str, value: impl fmt::Display) -> Item {
        self.with(name, Field::Word(value.to_string()))
    }

    /// With a client's bytes.
    #[must_use]
    pub fn bytes(self, name: &'static str, value: &[u8]) -> Item {
        self.with(name, Field::Bytes(value.to_vec()))
    }

    /// With a sentence for the reader.
    #[must_use]
    pub fn saying(mut self, words: impl fmt::Display) -> Item {
        self.says = Some(words.to_string());
        self
    }

    /// With a part.
    pub fn push(&mut self, part: Item) {
        self.parts.push(part);
    }

    /// Of which kind it is.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:depth$}{}", "", self.kind, depth = depth * 2)?;
        for (name, field) in &self.fields {
            match field {
                Field::Number(value) => write!(f, " {name}={value}")?,
                Field::Signed(value) => write!(f, " {name}={value}")?,
                Field::Id(value) => write!(f, " {name}={value:x}")?,
                Field::Flag(value) => write!(f, " {name}={value}")?,
                Field::Word(value) => write!(f, " {name}={value}")?,
                Field::Bytes(value) => write!(f, " {name}=\"{}\"", value.escape_ascii())?,
            }
        }
        if let Some(says) = &self.says {
            write!(f, ": {says}")?;
        }
        for part in &self.parts {
            f.write_str("\n")?;
            part.line(f, depth + 1)?;
        }
        Ok(())
    }
}

/// A line, and indented below it a line for each part.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line(f, 0)
    }
}

/// An object: `kind`, the fields, `says` and `parts` where there are any.
impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind)?;
        for (name, field) in &self.fields {
            match field {
                Field::Number(value) => map.serialize_entry(name, value)?,
                Field::Signed(value) => map.serialize_entry(name, value)?,
                Field::Id(value) => map.serialize_entry(name, &format!("{value:x}"))?,
                Field::Flag(value) => map.serialize_entry(name, value)?,
                Field::Word(value) => map.serialize_entry(name, value)?,
                Field::Bytes(value) => map.serialize_entry(name, &value.escape_ascii().to_string())?,
            }
        }
        if let Some(says) = &self.says {
            map.serialize_entry("says", says)?;
        }
        if !self.parts.is_empty() {
            map.serialize_entry("parts", &self.parts)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_item_as_text_and_as_json() {
        let mut item = Item::new("entry").number("index", 7u64).id("member", 0x8e9e).flag("shared", true);
        item.push(Item::new("put").bytes("key", b"a\"\0\\").signed("lease", -1).word("created", "now").saying("why"));
        let text = "entry index=7 member=8e9e shared=true\n  put key=\"a\\\"\\x00\\\\\" lease=-1 created=now: why";
        assert_eq!(item.to_string(), text);
        let json = serde_json::to_string(&item).expect("plain data");
        let expected = r#"{"kind":"entry","index":7,"member":"8e9e","shared":true,"parts":[{"kind":"put","key":"a\\\"\\x00\\\\","lease":-1,"created":"now","says":"why"}]}"#;
        assert_eq!(json, expected);
    }
}
