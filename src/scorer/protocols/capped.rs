//! Lists of JSON whose length has a limit: a list's elements may take many times the memory of their text.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// At most `MAX` elements; one more is an error, before it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for Capped<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Capped<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Capped<T, MAX>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == MAX {
                        return Err(A::Error::custom(format!("a list has more than {MAX} elements")));
                    }
                    elements.push(element);
                }
                Ok(Capped(elements))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_element_too_many_is_an_error() {
        assert_eq!(serde_json::from_str::<Capped<u8, 2>>("[1,2]").unwrap().0, [1, 2]);
        let error = serde_json::from_str::<Capped<u8, 2>>("[1,2,3]").unwrap_err();
        assert!(error.to_string().contains("more than 2"), "{error}");
    }
}
