//! Reads captures of links.

/// The kind of a block that holds a packet.
const ENHANCED_PACKET: u32 = 6;

/// The code of a comment among a block's options.
const COMMENT: u16 = 1;

/// Where a packet begins in its block.
const FRAME_AT: usize = 28;

/// The comments of the packets of a file of this machine's byte order, and how many bytes are left
/// behind its last whole block.
///
/// # Errors
/// Its blocks do not fit together.
pub fn comments(file: &[u8]) -> Result<(Vec<String>, usize), String> {
    let mut comments = Vec::new();
    let mut rest = file;
    loop {
        let (Some(kind), Some(length)) = (word(rest, 0), word(rest, 4)) else {
            return Ok((comments, rest.len()));
        };
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let Some((block, behind)) = rest.split_at_checked(length) else {
            return Ok((comments, rest.len()));
        };
        let at = file.len() - rest.len();
        let again = length.checked_sub(4).and_then(|last| word(block, last));
        if length < 12 || again != word(block, 4) {
            return Err(format!("the block at {at} does not end with its length"));
        }
        if kind == ENHANCED_PACKET {
            let comment = comment(block);
            comments.push(comment.ok_or_else(|| format!("the packet at {at} has no comment"))?);
        }
        rest = behind;
    }
}

/// The three moments in a packet's comment: when it came, was due and left. Nothing is due that the
/// end of a playback lets go.
#[must_use]
pub fn moments(comment: &str) -> Option<(u64, Option<u64>, u64)> {
    let (arrival, rest) = comment.strip_prefix("arrival ")?.split_once(" ns, due ")?;
    let (due, rest) = rest.split_once(", achieved ")?;
    let (achieved, _) = rest.split_once(" ns (CLOCK_MONOTONIC)")?;
    let due = match due {
        "never" => None,
        due => Some(due.strip_suffix(" ns")?.parse().ok()?),
    };
    Some((arrival.parse().ok()?, due, achieved.parse().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    word.try_into().ok().map(u32::from_ne_bytes)
}

/// The first option of a packet's block, if it is a comment.
fn comment(block: &[u8]) -> Option<String> {
    let frame = usize::try_from(word(block, 20)?).ok()?;
    let option = FRAME_AT + frame.next_multiple_of(4);
    let half = |at: usize| {
        let half = block.get(at..at + 2)?;
        half.try_into().ok().map(u16::from_ne_bytes)
    };
    let (code, length) = (half(option)?, usize::from(half(option + 2)?));
    let text = block.get(option + 4..option + 4 + length)?;
    let text = (code == COMMENT).then(|| text.to_vec())?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(text: &str) -> Vec<u8> {
        let mut body = vec![0; 20];
        body[12..16].copy_from_slice(&2_u32.to_ne_bytes());
        body.extend([1, 2, 0, 0]);
        body.extend(COMMENT.to_ne_bytes());
        body.extend(u16::try_from(text.len()).unwrap().to_ne_bytes());
        body.extend(text.bytes());
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32::try_from(body.len() + 12).unwrap().to_ne_bytes();
        let kind = ENHANCED_PACKET.to_ne_bytes();
        [&kind[..], &length, &body, &length].concat()
    }

    #[test]
    fn a_file_can_be_read_up_to_its_last_whole_block() {
        let whole = [packet("first"), packet("second")].concat();
        let both = vec!["first".to_owned(), "second".to_owned()];
        assert_eq!(comments(&whole), Ok((both.clone(), 0)));
        let torn = [&whole[..], &packet("third")[..30]].concat();
        assert_eq!(comments(&torn), Ok((both, 30)));
        let mut broken = whole;
        *broken.last_mut().unwrap() ^= 1;
        assert!(comments(&broken).is_err());
    }

    #[test]
    fn the_moments_of_a_packet_are_read_from_its_comment() {
        let clock = "(CLOCK_MONOTONIC)";
        let shaped = format!("arrival 1 ns, due 5 ns, achieved 6 ns {clock}; held 4 ns, late 1 ns");
        assert_eq!(moments(&shaped), Some((1, Some(5), 6)));
        let let_go = format!("arrival 1 ns, due never, achieved 6 ns {clock}; let go");
        assert_eq!(moments(&let_go), Some((1, None, 6)));
        assert_eq!(moments("arrival 1 ns"), None);
    }
}
