//! Tables of comma separated values, read by the compiler: a mistake in one is an error of the
//! build, and nothing is parsed at run time.

/// The first `COUNT` numbers of `text`, row by row, each times 10^`digits` and exact.
///
/// Lines that begin with `#` or a letter are comments and headings. Fails to compile if there are
/// more or fewer numbers, more digits after the point, or anything else.
pub(super) const fn numbers<const COUNT: usize>(text: &str, digits: u32) -> [i32; COUNT] {
    let bytes = text.as_bytes();
    let mut values = [0; COUNT];
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        if bytes[at] == b'#' || bytes[at].is_ascii_alphabetic() {
            while at < bytes.len() && bytes[at] != b'\n' {
                at += 1;
            }
        } else if bytes[at] == b'\n' || bytes[at] == b',' {
            at += 1;
        } else {
            let negative = bytes[at] == b'-';
            if negative {
                at += 1;
            }
            let (mut value, mut behind_point, mut point) = (0_i32, 0, false);
            assert!(at < bytes.len() && bytes[at].is_ascii_digit(), "a number");
            while at < bytes.len() && (bytes[at].is_ascii_digit() || bytes[at] == b'.') {
                if bytes[at] == b'.' {
                    point = true;
                } else {
                    value = value * 10 + (bytes[at] - b'0') as i32;
                    behind_point += point as u32;
                }
                at += 1;
            }
            assert!(behind_point <= digits, "too many digits behind the point");
            value *= 10_i32.pow(digits - behind_point);
            values[count] = if negative { -value } else { value };
            count += 1;
        }
    }
    assert!(count == COUNT, "another count of numbers");
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_comments_skipped() {
        const VALUES: [i32; 4] = numbers("# 1,2\nname,other\n1.5,-2\n0.25,30\n", 2);
        assert_eq!(VALUES, [150, -200, 25, 3000]);
    }
}
