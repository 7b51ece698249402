//! An image that every server can decode and no compression makes smaller: a bitmap of random pixels
//! (Windows bitmap, BITMAPINFOHEADER, 24 bits), in a data URL (RFC 2397, RFC 4648).

use rand_chacha::ChaCha12Rng;
use rand_core::Rng as _;

/// Both headers.
const HEADER_BYTES: u32 = 54;

/// The smallest image: its header and one row.
pub(super) const LEAST_BYTES: u32 = HEADER_BYTES + 4 * 3;

/// A data URL with an image file of exactly so many bytes.
pub(super) fn data_url(random: &mut ChaCha12Rng, bytes: u32) -> String {
    let mut url = "data:image/bmp;base64,".to_owned();
    encode(&bitmap(random, bytes.max(LEAST_BYTES)), &mut url);
    url
}

/// Nearly square; what no whole row fills stands behind the pixels, where decoders do not look.
fn bitmap(random: &mut ChaCha12Rng, bytes: u32) -> Vec<u8> {
    let pixels = (bytes - HEADER_BYTES) / 3;
    // A row of four pixels has twelve bytes, as rows must be whole words.
    let width = (pixels.isqrt() / 4 * 4).max(4);
    let height = pixels / width;
    let mut file = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    file.extend_from_slice(b"BM");
    for word in [bytes, 0, HEADER_BYTES, 40, width, height] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    // One plane of 24 bits, not compressed.
    file.extend_from_slice(&[1, 0, 24, 0]);
    for word in [0, width * height * 3, 2835, 2835, 0, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    let begun = file.len();
    file.resize(usize::try_from(bytes).unwrap_or(begun), 0);
    random.fill_bytes(&mut file[begun..]);
    file
}

/// Base64 (RFC 4648, section 4).
fn encode(bytes: &[u8], text: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|place| three.get(place).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, a, b, c]);
        for place in 0..4_u32 {
            let digit = usize::try_from((bits >> (18 - 6 * place)) & 63).unwrap_or(0);
            let is_there = usize::try_from(place).unwrap_or(0) <= three.len();
            text.push(if is_there {
                char::from(ALPHABET[digit])
            } else {
                '='
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::draw::stream;

    #[test]
    fn base64_is_that_of_the_standard() {
        let encoded = |text: &str| {
            let mut out = String::new();
            encode(text.as_bytes(), &mut out);
            out
        };
        // RFC 4648, section 10.
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, expected) in pairs {
            assert_eq!(encoded(text), expected);
        }
    }

    #[test]
    fn an_image_has_the_size_that_was_asked_for_and_its_pixels_fit() {
        for bytes in [LEAST_BYTES, 1000, 4096, 300_001] {
            let file = bitmap(&mut stream(1, 1), bytes);
            assert_eq!(file.len(), usize::try_from(bytes).unwrap());
            let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            let [width, height] = [word(18), word(22)];
            assert!(width % 4 == 0 && height > 0, "{width} x {height}");
            assert!(HEADER_BYTES + width * height * 3 <= bytes);
        }
    }
}
