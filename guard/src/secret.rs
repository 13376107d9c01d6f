//! Secrets that stand in a configuration: wiped when dropped, never shown.
//!
//! Where a secret is written in the wrong shape, the reader of the file must not repeat it in its
//! message, as it does with other values.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret text.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// What it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Secret texts.
#[derive(Clone, Debug, Default)]
pub struct SecretTexts(Vec<SecretText>);

impl SecretTexts {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(SecretText::as_str)
    }
}

/// What another shape is told, without the value.
macro_rules! wrong_shape {
    ($words:literal, $($method:ident($kind:ty)),* $(,)?) => {
        $(fn $method<E: Error>(self, _: $kind) -> Result<Self::Value, E> {
            Err(E::custom($words))
        })*
    };
}

struct OneText;

impl<'de> Visitor<'de> for OneText {
    type Value = SecretText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes")
    }

    fn visit_string<E: Error>(self, text: String) -> Result<SecretText, E> {
        Ok(SecretText(Zeroizing::new(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
        self.visit_string(text.to_owned())
    }

    wrong_shape!(
        "a text in quotes is right (what was found is not shown)",
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_f64(f64),
    );

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<SecretText, A::Error> {
        Err(A::Error::custom("one text in quotes is right, not a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<SecretText, A::Error> {
        Err(A::Error::custom("one text in quotes is right, not a table"))
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneText)
    }
}

struct ManyTexts;

impl<'de> Visitor<'de> for ManyTexts {
    type Value = SecretTexts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts in quotes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<SecretTexts, A::Error> {
        let mut found = Vec::new();
        while let Some(text) = texts.next_element()? {
            found.push(text);
        }
        Ok(SecretTexts(found))
    }

    wrong_shape!(
        "a list of texts in quotes is right (what was found is not shown)",
        visit_str(&str),
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_f64(f64),
    );
}

impl<'de> Deserialize<'de> for SecretTexts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ManyTexts)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, SeqDeserializer};

    use super::*;

    #[test]
    fn secrets_are_read_and_not_shown() {
        let one: Result<SecretText, Error> =
            SecretText::deserialize("swordfish".into_deserializer());
        let one = one.unwrap();
        assert_eq!(one.as_str(), "swordfish");
        assert!(!format!("{one:?}").contains("swordfish"));
        let texts = SeqDeserializer::<_, Error>::new(["swordfish", "trout"].into_iter());
        let many = SecretTexts::deserialize(texts).unwrap();
        assert_eq!(many.iter().collect::<Vec<_>>(), ["swordfish", "trout"]);
        assert!(!format!("{many:?}").contains("trout"));
    }

    #[test]
    fn what_has_the_wrong_shape_is_not_repeated() {
        let alone: Result<SecretTexts, Error> =
            SecretTexts::deserialize("swordfish".into_deserializer());
        let number: Result<SecretText, Error> = SecretText::deserialize(4711.into_deserializer());
        for said in [alone.unwrap_err().to_string(), number.unwrap_err().to_string()] {
            assert!(said.contains("quotes") && said.contains("not shown"), "{said}");
            assert!(!said.contains("swordfish") && !said.contains("4711"), "{said}");
        }
    }
}
