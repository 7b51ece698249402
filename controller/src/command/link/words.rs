//! A command line split into words as a shell does, without one: quotes and backslashes count,
//! nothing is expanded.

/// Splits `text` into words.
///
/// # Errors
/// No word at all, or a quote that is not closed; the message is for the user.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    // `None` between words, so that '' is a word and blanks are not.
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(quoted) => word.push(quoted),
                        None => return Err(format!("`{text}`: a ' is not closed")),
                    }
                }
            }
            '"' => quoted(&mut characters, word.get_or_insert_default())
                .ok_or_else(|| format!("`{text}`: a \" is not closed"))?,
            '\\' => match characters.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err(format!("`{text}`: nothing follows the last \\")),
            },
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    if words.is_empty() {
        return Err("the command has no words".to_owned());
    }
    Ok(words)
}

/// Reads on to the closing double quote; `None` if there is none.
fn quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match characters.next()? {
            '"' => return Some(()),
            '\\' => match characters.next()? {
                // Before anything else a backslash stands for itself (POSIX, 2.2.3).
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            plain => word.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell_that_expands_nothing() {
        for (text, words) in [
            ("iperf3 -s -1", vec!["iperf3", "-s", "-1"]),
            ("  a\t'b  c'  ", vec!["a", "b  c"]),
            (r#"say "it's \"so\" \n""#, vec!["say", r#"it's "so" \n"#]),
            (r"a\ b\'c ''", vec!["a b'c", ""]),
            ("x'y'\"z\"", vec!["xyz"]),
            ("echo $HOME *", vec!["echo", "$HOME", "*"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_or_empty_is_refused() {
        for text in ["'a", "\"a", "a\\", "", "  ", "\"a\\"] {
            assert!(split(text).is_err(), "{text:?}");
        }
    }
}
