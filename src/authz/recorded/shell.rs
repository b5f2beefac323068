//! Pure: which words does a shell make of a line? (POSIX quoting, and bash's `$'…'`)
//!
//! Nothing is expanded: a `$` or a backtick that a shell would act on is refused, for what it stands for is not known.

use crate::authz::recorded::unread::Unread;

/// Splits `line` as a shell does. A backslash at the end of a line joins it with the next.
///
/// # Errors
/// If a quote is not closed, or a shell would put something else in its place.
pub fn words(line: &str) -> Result<Vec<String>, Unread> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => match rest.next() {
                None | Some('\n') => {}
                Some(literal) => word.get_or_insert_default().push(literal),
            },
            '\'' => single(word.get_or_insert_default(), &mut rest)?,
            '"' => double(word.get_or_insert_default(), &mut rest)?,
            '$' if rest.peek() == Some(&'\'') => {
                rest.next();
                dollar(word.get_or_insert_default(), &mut rest)?;
            }
            '$' | '`' => return Err(expands()),
            // The end of a command.
            '|' | ';' | '&' | '<' | '>' => {
                return Err(Unread::at(
                    "",
                    format!("`{next}` ends a command in a shell; give the command alone, or quote it"),
                ));
            }
            '#' if word.is_none() => while rest.next().is_some_and(|c| c != '\n') {},
            literal => word.get_or_insert_default().push(literal),
        }
    }
    words.extend(word);
    Ok(words)
}

fn expands() -> Unread {
    Unread::at("", "a shell would put something else in the place of `$` or a backtick; write what that is")
}

fn open(quote: &str) -> Unread {
    Unread::at("", format!("a quote ({quote}) is not closed"))
}

fn single(word: &mut String, rest: &mut impl Iterator<Item = char>) -> Result<(), Unread> {
    loop {
        match rest.next() {
            None => return Err(open("'")),
            Some('\'') => return Ok(()),
            Some(literal) => word.push(literal),
        }
    }
}

fn double(word: &mut String, rest: &mut impl Iterator<Item = char>) -> Result<(), Unread> {
    loop {
        match rest.next() {
            None => return Err(open("\"")),
            Some('"') => return Ok(()),
            Some('$' | '`') => return Err(expands()),
            Some('\\') => match rest.next() {
                None => return Err(open("\"")),
                Some('\n') => {}
                Some(literal @ ('"' | '\\' | '$' | '`')) => word.push(literal),
                Some(other) => word.extend(['\\', other]),
            },
            Some(literal) => word.push(literal),
        }
    }
}

/// `$'…'`, which browsers write when they copy a request for curl.
fn dollar(
    word: &mut String,
    rest: &mut std::iter::Peekable<impl Iterator<Item = char>>,
) -> Result<(), Unread> {
    loop {
        match rest.next() {
            None => return Err(open("$'")),
            Some('\'') => return Ok(()),
            Some('\\') => match rest.next() {
                None => return Err(open("$'")),
                Some('n') => word.push('\n'),
                Some('r') => word.push('\r'),
                Some('t') => word.push('\t'),
                Some('x') => word.push(number(rest, 2)?),
                Some('u') => word.push(number(rest, 4)?),
                Some('U') => word.push(number(rest, 8)?),
                Some(literal @ ('\'' | '"' | '\\' | '?')) => word.push(literal),
                Some(other) => word.extend(['\\', other]),
            },
            Some(literal) => word.push(literal),
        }
    }
}

fn number(rest: &mut std::iter::Peekable<impl Iterator<Item = char>>, digits: usize) -> Result<char, Unread> {
    let mut value = 0;
    for _ in 0..digits {
        let Some(digit) = rest.peek().and_then(|c| c.to_digit(16)) else { break };
        rest.next();
        value = value * 16 + digit;
    }
    char::from_u32(value).ok_or_else(|| Unread::at("", "an escape in $'…' is no character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_falls_into_the_words_that_a_shell_makes_of_it() {
        for (line, expected) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            ("a 'b c' d", &["a", "b c", "d"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("'' \"\"", &["", ""]),
            ("a \\\n b", &["a", "b"]),
            ("a\\ b", &["a b"]),
            ("\"a\\\"b\\n\"", &["a\"b\\n"]),
            ("'a\\'", &["a\\"]),
            ("$'a\\'b\\x41\\u00e4\\n'", &["a'bA\u{e4}\n"]),
            ("a # b", &["a"]),
            ("a#b", &["a#b"]),
            ("", &[]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_a_shell_would_expand_or_does_not_end_is_refused() {
        for (line, said) in [
            ("a 'b", "is not closed"),
            ("\"b", "is not closed"),
            ("$'b", "is not closed"),
            ("-H \"$TOKEN\"", "would put something else"),
            ("$HOME", "would put something else"),
            ("`id`", "would put something else"),
            ("curl a | jq", "`|` ends a command"),
            ("$'\\Uffffffff'", "is no character"),
        ] {
            assert!(words(line).unwrap_err().to_string().contains(said), "{line}");
        }
    }
}
