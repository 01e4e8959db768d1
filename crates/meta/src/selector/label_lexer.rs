//! Cuts the text of a label selector into tokens. It must not know what tokens mean together.

/// A piece of a label selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

/// A token and the text it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) token: Token,
    pub(super) text: String,
}

fn literal(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::Greater,
        "in" => Token::In,
        "<" => Token::Less,
        "!=" => Token::NotEquals,
        "notin" => Token::NotIn,
        "(" => Token::Open,
        _ => return None,
    })
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// All tokens, the last one `End`.
pub(super) fn scan(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        // Upstream's reader takes a NUL for the end of the text.
        if first == '\0' {
            break;
        }
        let (item, length) = if is_special(first) { special(rest) } else { word(rest) };
        items.push(item);
        rest = rest[length..].trim_start_matches(is_space);
    }
    items.push(Item { token: Token::End, text: String::new() });
    items
}

fn word(rest: &str) -> (Item, usize) {
    let end = rest.find(|c| is_special(c) || is_space(c) || c == '\0').unwrap_or(rest.len());
    let text = &rest[..end];
    (Item { token: literal(text).unwrap_or(Token::Identifier), text: text.to_owned() }, end)
}

/// The longest operator that the special characters start with.
fn special(rest: &str) -> (Item, usize) {
    let end = rest.find(|c| !is_special(c)).unwrap_or(rest.len());
    let found = (1..=end.min(2)).rev().find_map(|length| Some((literal(&rest[..length])?, length)));
    match found {
        Some((token, length)) => (Item { token, text: rest[..length].to_owned() }, length),
        None => {
            let text = format!("error expected: keyword found '{}'", &rest[..end]);
            (Item { token: Token::Error, text }, end)
        }
    }
}
