//! The program's text for people: comments, texts and keywords told apart, and no secret in it. Pure.

use maud::{Markup, html};

/// Words that stand out.
const KEYWORDS: [&str; 34] = [
    "CREATE",
    "TABLE",
    "VIEW",
    "AS",
    "WITH",
    "PRIMARY",
    "KEY",
    "NOT",
    "ENFORCED",
    "INSERT",
    "INTO",
    "SELECT",
    "FROM",
    "LEFT",
    "INNER",
    "JOIN",
    "ON",
    "AND",
    "OR",
    "WHERE",
    "SET",
    "EXECUTE",
    "STATEMENT",
    "BEGIN",
    "END",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "IS",
    "IN",
    "BETWEEN",
    "CAST",
    "TRY_CAST",
];
/// What the name of an option with a secret has in it.
const SECRET: [&str; 5] = ["password", "secret", "token", "jaas", "key.pem"];
/// What stands in its place.
const HIDDEN: &str = "'…'";

enum Token<'a> {
    Comment(&'a str),
    Text(&'a str),
    Word(&'a str),
    Other(&'a str),
}

/// The text, marked up.
pub fn render(text: &str) -> Markup {
    let tokens = tokens(text);
    let secrets = secrets(&tokens);
    html! {
        pre.sql tabindex="0" { code {
            @for (token, is_secret) in tokens.iter().zip(secrets) {
                @match token {
                    Token::Comment(text) => i { (text) },
                    Token::Text(text) if is_secret => s title="A secret, not shown" { (shown(text)) },
                    Token::Text(text) => q { (text) },
                    Token::Word(word) if KEYWORDS.contains(&word.to_ascii_uppercase().as_str()) => b { (word) },
                    Token::Word(text) | Token::Other(text) => (text),
                }
            }
        } }
    }
}

/// Which tokens are the values of options with a secret, `'name' = 'value'`, or addresses with a password.
fn secrets(tokens: &[Token<'_>]) -> Vec<bool> {
    let is_value_of_secret = |at: usize| match tokens.get(at.wrapping_sub(2)..at) {
        Some([Token::Text(option), Token::Other(between)]) => between.trim() == "=" && is_secret(option),
        _ => false,
    };
    let has_credentials = |token: &Token<'_>| matches!(token, Token::Text(text) if without_credentials(text) != *text);
    tokens.iter().enumerate().map(|(at, token)| is_value_of_secret(at) || has_credentials(token)).collect()
}

/// Addresses as people may see them: what stands between `//` and `@` is left out.
pub fn without_credentials(addresses: &str) -> String {
    let one = |address: &str| match address.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.find('/').unwrap_or(rest.len());
            let begin = rest[..host].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[begin..])
        }
        None => address.to_owned(),
    };
    addresses.split(';').map(one).collect::<Vec<_>>().join(";")
}

/// A variable's name is no secret; its value is not in the text.
fn shown(text: &str) -> &str {
    if text.starts_with("'${") && text.ends_with("}'") { text } else { HIDDEN }
}

fn is_secret(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    SECRET.iter().any(|word| option.contains(word))
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '\'' {
            rest[1..].find('\'').map_or(rest.len(), |at| at + 2)
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            let next = rest[first.len_utf8()..].find(|c: char| is_word(c) || c == '\'' || c == '-');
            next.map_or(rest.len(), |at| at + first.len_utf8())
        };
        let (token, after) = rest.split_at(length);
        tokens.push(match first {
            '-' if token.starts_with("--") => Token::Comment(token),
            '\'' => Token::Text(token),
            first if is_word(first) => Token::Word(token),
            _ => Token::Other(token),
        });
        rest = after;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_the_rest_is() {
        let text = "-- it's\nCREATE TABLE t (a INT) WITH ('username' = 'me', 'password' = 'pa<ss', 'index' = 'x');\n\
                    'properties.sasl.jaas.config' = 'org… password=\"x\"','properties.ssl.key.password'='${KEY}' -";
        let text = format!("{text} 'hosts' = 'http://me:pw@a:1/x;http://b:2'");
        let drawn = render(&text).into_string();
        for secret in ["pa&lt;ss", "org…", "pw"] {
            assert!(!drawn.contains(secret), "{secret} is in {drawn}");
        }
        for shown in ["-- it's", "<b>CREATE</b>", "'me'", "'x'", "'${KEY}'", "'password'"] {
            assert!(drawn.contains(shown), "{shown} is not in {drawn}");
        }
        assert_eq!(without_credentials("http://me:pw@a:1/x@y;http://b:2"), "http://a:1/x@y;http://b:2");
    }
}
