//! The run's secret: 32 bytes that both ends of a connection must know.

use std::fmt;

use super::error::JobError;
use crate::wire::SECRET_BYTES;

/// Its length.
pub(super) const LENGTH: usize = 32;
const _: () = assert!(LENGTH as u64 == SECRET_BYTES);

/// The secret. Never printed.
#[derive(Clone)]
pub(super) struct Secret([u8; LENGTH]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Reads 64 hexadecimal digits. The error does not repeat them.
    pub(super) fn parse(text: &str) -> Result<Secret, JobError> {
        let wrong = || JobError::Spec {
            why: "its secret is not 64 hexadecimal digits".to_owned(),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != LENGTH || !rest.is_empty() {
            return Err(wrong());
        }
        let mut secret = [0; LENGTH];
        for (byte, [high, low]) in secret.iter_mut().zip(pairs) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(wrong());
            };
            *byte = high << 4 | low;
        }
        Ok(Secret(secret))
    }

    /// The bytes that the connecting side shows.
    pub(super) const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `shown` is the secret, in a time that does not depend on where they differ.
    pub(super) fn matches(&self, shown: &[u8]) -> bool {
        let difference = self
            .0
            .iter()
            .zip(shown)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        shown.len() == LENGTH && std::hint::black_box(difference) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_32_bytes_match() {
        let secret = Secret::parse(&"0aF1".repeat(16)).unwrap();
        let same = [0x0a, 0xf1].repeat(16);
        assert!(secret.matches(&same));
        assert!(!secret.matches(&same[..31]));
        assert!(!secret.matches(&[]));
        let mut other = same;
        other[31] ^= 1;
        assert!(!secret.matches(&other));
    }

    #[test]
    fn a_malformed_secret_is_refused_without_repeating_it() {
        for text in [
            "",
            "ab",
            &"g0".repeat(32),
            &"é".repeat(32),
            &"0".repeat(63),
            &"0".repeat(65),
        ] {
            let error = Secret::parse(text).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert_eq!(
            format!("{:?}", Secret::parse(&"00".repeat(32)).unwrap()),
            "Secret(..)"
        );
    }
}
