//! A pull reader of one JSON document (RFC 8259), positioned at one token at a time.
//!
//! Written by hand because decoding is the stage that bounds the whole pipeline, and keys that stand in the same
//! order in nearly every event need only be compared with the expected one: about twice as fast as a visitor of
//! serde_json that fills the same columns (`benches/decode.rs` measures both). It also tells a bare
//! `NaN`, a truncated payload and a second document apart, which is what a person who reads a dead letter wants
//! to know. Numbers are rounded as `std` does. The grammar is serde_json's, up to the limit on nesting:
//! `tests/event_decode.rs` compares the two on mutated events.

use super::number::Number;

/// Containers nested deeper than this are refused, so that hostile input cannot exhaust the stack.
pub const MAX_DEPTH: usize = 64;

/// Where and why a document stopped being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxError {
    /// Byte position.
    pub at: usize,
    pub kind: SyntaxKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxKind {
    /// The text ended inside a value.
    Truncated,
    /// Something else stands where this was expected.
    Expected(&'static str),
    /// `NaN`, `Infinity` or `-Infinity` as a bare word, as Python's `json.dumps` writes them.
    NonFinite,
    TooDeep,
    /// Text after the end of the document; `true` if it looks like another document.
    Trailing(bool),
}

/// A value; of a container only its kind, unread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    Text(RawText<'a>),
    Object,
    Array,
}

/// The inside of a JSON string, escapes untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawText<'a> {
    pub raw: &'a str,
    pub escaped: bool,
}

/// Half of a surrogate pair: legal JSON that stands for no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoneSurrogate;

impl<'a> RawText<'a> {
    /// The text itself; written to `scratch` (which is cleared) only if there are escapes.
    pub fn unescape<'s>(&self, scratch: &'s mut String) -> Result<&'s str, LoneSurrogate>
    where
        'a: 's,
    {
        if !self.escaped {
            return Ok(self.raw);
        }
        scratch.clear();
        let mut rest = self.raw;
        while let Some(at) = rest.find('\\') {
            scratch.push_str(&rest[..at]);
            let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
            rest = rest.get(at + 2..).unwrap_or_default();
            let character = match escape {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    let (character, used) = unicode_escape(rest)?;
                    rest = rest.get(used..).unwrap_or_default();
                    character
                }
                // `"`, `\` and `/`: the reader let no other through.
                itself => itself as char,
            };
            scratch.push(character);
        }
        scratch.push_str(rest);
        Ok(scratch)
    }
}

/// Reads `XXXX` or `XXXX\uXXXX` after a `\u`; the number of bytes used.
fn unicode_escape(text: &str) -> Result<(char, usize), LoneSurrogate> {
    let unit = |from: usize| text.get(from..from + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let first = unit(0).ok_or(LoneSurrogate)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, 4));
    }
    let second = match text.get(4..6) {
        Some("\\u") => unit(6).ok_or(LoneSurrogate)?,
        _ => return Err(LoneSurrogate),
    };
    if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
        return Err(LoneSurrogate);
    }
    let code_point = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    char::from_u32(code_point).map(|character| (character, 10)).ok_or(LoneSurrogate)
}

#[derive(Debug, Clone)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Bare `NaN` and `Infinity` are passed over while skipping.
    lenient: bool,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, lenient: false }
    }

    /// A reader that skips bare `NaN` and `Infinity`, for who only looks for one key.
    pub fn lenient(text: &'a str) -> Self {
        Self { text, at: 0, lenient: true }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error<T>(&self, expected: &'static str) -> Result<T, SyntaxError> {
        let kind = match self.byte() {
            None => SyntaxKind::Truncated,
            Some(_) => SyntaxKind::Expected(expected),
        };
        Err(SyntaxError { at: self.at, kind })
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                other => return other,
            }
        }
    }

    #[inline]
    fn take(&mut self, wanted: u8, name: &'static str) -> Result<(), SyntaxError> {
        if self.peek() != Some(wanted) {
            return self.error(name);
        }
        self.at += 1;
        Ok(())
    }

    /// Consumes `{`; whether a member follows (`}` is consumed otherwise).
    pub fn open_object(&mut self) -> Result<bool, SyntaxError> {
        self.take(b'{', "`{`")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After a member's value: whether another member follows (else `}` is consumed).
    #[inline]
    pub fn next_member(&mut self) -> Result<bool, SyntaxError> {
        let more = match self.peek() {
            Some(b',') => true,
            Some(b'}') => false,
            _ => return self.error("`,` or `}`"),
        };
        self.at += 1;
        Ok(more)
    }

    /// Consumes `[`; whether an element follows (`]` is consumed otherwise).
    pub fn open_array(&mut self) -> Result<bool, SyntaxError> {
        self.take(b'[', "`[`")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After an element: whether another one follows (else `]` is consumed).
    #[inline]
    pub fn next_element(&mut self) -> Result<bool, SyntaxError> {
        let more = match self.peek() {
            Some(b',') => true,
            Some(b']') => false,
            _ => return self.error("`,` or `]`"),
        };
        self.at += 1;
        Ok(more)
    }

    /// Consumes a key if it is written exactly so (`quoted` has its quotes, so a match is a whole string) and its colon.
    #[inline]
    pub fn take_key(&mut self, quoted: &[u8]) -> Result<bool, SyntaxError> {
        self.peek();
        let found = self.text.as_bytes()[self.at..].starts_with(quoted);
        if found {
            self.at += quoted.len();
            self.take(b':', "`:`")?;
        }
        Ok(found)
    }

    /// Reads a member's key and its colon.
    pub fn key(&mut self) -> Result<RawText<'a>, SyntaxError> {
        if self.peek() != Some(b'"') {
            return self.error("a key in quotes");
        }
        let key = self.string()?;
        self.take(b':', "`:`")?;
        Ok(key)
    }

    /// Reads a scalar whole; a container is only recognised: descend with `open_object`, or `skip` it.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, SyntaxError> {
        match self.peek() {
            Some(b'0'..=b'9' | b'-') => self.number().map(Value::Number),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'{') => Ok(Value::Object),
            Some(b'[') => Ok(Value::Array),
            Some(b't') => self.word("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Value::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Value::Null),
            _ => self.not_a_value(),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), SyntaxError> {
        let found = self.text.as_bytes()[self.at..].iter().zip(word.as_bytes()).take_while(|(a, b)| a == b).count();
        if found < word.len() {
            self.at += found;
            return self.error(word);
        }
        self.at += word.len();
        Ok(())
    }

    fn not_a_value<T>(&self) -> Result<T, SyntaxError> {
        let rest = &self.text.as_bytes()[self.at..];
        if ["NaN", "Infinity"].iter().any(|word| rest.starts_with(word.as_bytes())) {
            return Err(SyntaxError { at: self.at, kind: SyntaxKind::NonFinite });
        }
        self.error("a value")
    }

    /// Passes over the bare `NaN` (true), `Infinity` or `-Infinity` at which a read has failed.
    pub fn take_bare_word(&mut self, error: SyntaxError) -> bool {
        self.at = error.at;
        let rest = &self.text.as_bytes()[error.at..];
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word.as_bytes()));
        self.at += word.map_or(0, str::len);
        word == Some("NaN")
    }

    fn string(&mut self) -> Result<RawText<'a>, SyntaxError> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = string_stop(bytes, at);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                    match bytes.get(at - 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        Some(b'u') => {
                            for _ in 0..4 {
                                if !bytes.get(at).is_some_and(u8::is_ascii_hexdigit) {
                                    self.at = at;
                                    return self.error("four hexadecimal digits");
                                }
                                at += 1;
                            }
                        }
                        _ => {
                            self.at = at - 1;
                            return self.error("an escape such as \\n");
                        }
                    }
                }
                _ => {
                    self.at = at;
                    return self.error("text without control characters");
                }
            }
        }
        self.at = at + 1;
        Ok(RawText { raw: &self.text[start..at], escaped })
    }

    /// The next byte must be a digit or a minus sign.
    #[inline(always)] // Its result is six words, and returning them through memory is slow (measured).
    pub fn number(&mut self) -> Result<Number<'a>, SyntaxError> {
        let start = self.at;
        let negative = self.byte() == Some(b'-');
        if negative {
            self.at += 1;
        }
        let mut mantissa = 0_u64;
        let whole = self.digits(&mut mantissa);
        if whole == 0 {
            if self.text.as_bytes()[start..].starts_with(b"-Infinity") {
                return Err(SyntaxError { at: start, kind: SyntaxKind::NonFinite });
            }
            return self.error("a digit");
        }
        if whole > 1 && self.text.as_bytes()[self.at - whole] == b'0' {
            self.at -= whole - 1;
            return self.error("no digit after a leading zero");
        }
        let mut fraction = 0;
        let mut exponent = 0_i32;
        let mut integer = true;
        if self.byte() == Some(b'.') {
            self.at += 1;
            integer = false;
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return self.error("a digit");
            }
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            integer = false;
            exponent = self.exponent()?;
        }
        let text = &self.text[start..self.at];
        // Up to 19 digits fit in 64 bits; beyond that the text itself is parsed.
        let exact = whole + fraction <= 19;
        let exponent = exponent.saturating_sub(i32::try_from(fraction).unwrap_or(i32::MAX));
        Ok(Number { text, integer, negative, mantissa: exact.then_some(mantissa), exponent })
    }

    /// Adds digits to `mantissa` (wrapping; the caller counts) and returns how many there were.
    #[inline]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        self.at - start
    }

    fn exponent(&mut self) -> Result<i32, SyntaxError> {
        let sign = self.byte();
        if let Some(b'+' | b'-') = sign {
            self.at += 1;
        }
        let start = self.at;
        let mut exponent = 0_i32;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start {
            return self.error("a digit");
        }
        Ok(if sign == Some(b'-') { -exponent } else { exponent })
    }

    /// Passes over one value of any kind, checking that it is JSON. `depth`: containers open around it.
    pub fn skip(&mut self, depth: usize) -> Result<(), SyntaxError> {
        let value = match self.value() {
            Err(error) if self.lenient && error.kind == SyntaxKind::NonFinite => {
                self.take_bare_word(error);
                return Ok(());
            }
            other => other?,
        };
        if matches!(value, Value::Object | Value::Array) && depth >= MAX_DEPTH {
            return Err(SyntaxError { at: self.at, kind: SyntaxKind::TooDeep });
        }
        match value {
            Value::Object => {
                let mut more = self.open_object()?;
                while more {
                    self.key()?;
                    self.skip(depth + 1)?;
                    more = self.next_member()?;
                }
            }
            Value::Array => {
                self.take(b'[', "`[`")?;
                if self.peek() == Some(b']') {
                    self.at += 1;
                    return Ok(());
                }
                loop {
                    self.skip(depth + 1)?;
                    let more = match self.peek() {
                        Some(b',') => true,
                        Some(b']') => false,
                        _ => return self.error("`,` or `]`"),
                    };
                    self.at += 1;
                    if !more {
                        break;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Nothing but white space may follow the document.
    pub fn finish(&mut self) -> Result<(), SyntaxError> {
        match self.peek() {
            None => Ok(()),
            Some(byte) => {
                Err(SyntaxError { at: self.at, kind: SyntaxKind::Trailing(matches!(byte, b'{' | b'[' | b'"')) })
            }
        }
    }
}

/// The first byte from `at` on that ends plain text in a string: a quote, a backslash, a control character.
#[inline]
fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Eight bytes a step: `(x - ones) & !x & high` marks zero bytes; its lowest mark is always a true one.
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let marks = ((quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word))
            & HIGH;
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            return at;
        }
        at += 1;
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(text: &str) -> Result<(), SyntaxError> {
        let mut reader = Reader::new(text);
        reader.skip(0)?;
        reader.finish()
    }

    #[test]
    fn a_document_is_accepted_exactly_where_serde_json_accepts_it() {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"\\u00e9\"",
            "\"\\x\"",
            "\"\n\"",
            "1",
            "-",
            "-0",
            "01",
            "1.",
            ".5",
            "1.5",
            "1e",
            "1e+5",
            "1E-05",
            "true",
            "tru",
            "null",
            " ",
            "\t",
            "\"",
            "\\",
            "NaN",
            "é",
            "\"é ü long enough\"",
        ];
        let mut state = 7_u64;
        for _ in 0..200_000 {
            let mut text = String::new();
            for _ in 0..(state >> 33) % 9 + 1 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            assert_eq!(skip(&text).is_ok(), expected, "{text:?}: {:?}", skip(&text));
        }
    }

    #[test]
    fn deep_nesting_ends_in_an_error_and_not_in_a_full_stack() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(skip(&deep), Err(SyntaxError { at: MAX_DEPTH, kind: SyntaxKind::TooDeep }));
        let allowed = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(skip(&allowed), Ok(()));
    }

    #[test]
    fn escapes_read_as_serde_json_reads_them() {
        for text in [r#""a\"b\\c\/d\b\f\n\r\t""#, r#""\u00e9\u20AC\ud83d\ude00 tail""#, r#""plain""#, r#""""#] {
            let Value::Text(raw) = Reader::new(text).value().unwrap() else { panic!("{text} is a string") };
            let mut scratch = String::from("left over");
            assert_eq!(raw.unescape(&mut scratch).unwrap(), serde_json::from_str::<String>(text).unwrap());
        }
        for text in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\ud83dx""#, r#""\ud83d\u0041""#] {
            let Value::Text(raw) = Reader::new(text).value().unwrap() else { panic!("{text} is a string") };
            assert_eq!(raw.unescape(&mut String::new()), Err(LoneSurrogate), "{text}");
        }
    }

    #[test]
    fn a_string_ends_at_the_same_byte_whatever_its_length() {
        for stop in ["\"", "\\", "\u{1f}", "\n"] {
            for length in 0..40 {
                let text = format!("{}{stop}{}", "é".repeat(length), "\"\\\u{1}".repeat(5));
                assert_eq!(string_stop(text.as_bytes(), 0), 2 * length, "{text:?}");
            }
        }
        assert_eq!(string_stop(b"no stop in here", 0), 15);
    }

    #[test]
    fn errors_tell_truncation_bare_words_and_second_documents_apart() {
        for (text, kind) in [
            (r#"{"a": 1"#, SyntaxKind::Truncated),
            (r#"{"a": tr"#, SyntaxKind::Truncated),
            (r#"{"a": "x"#, SyntaxKind::Truncated),
            (r#"{"a": NaN}"#, SyntaxKind::NonFinite),
            (r#"{"a": -Infinity}"#, SyntaxKind::NonFinite),
            (r#"{"a": -}"#, SyntaxKind::Expected("a digit")),
            (r#"{"a": 1} {"a": 2}"#, SyntaxKind::Trailing(true)),
            (r#"{"a": 1}}"#, SyntaxKind::Trailing(false)),
            (r#"{"a": 1.5,,}"#, SyntaxKind::Expected("a key in quotes")),
            (r#"{"a": 012}"#, SyntaxKind::Expected("no digit after a leading zero")),
        ] {
            assert_eq!(skip(text).unwrap_err().kind, kind, "{text}");
        }
    }
}
