//! What a backend says of its own places, said so that they lead through the proxy again: the `Location` of redirects and the links of
//! HTML pages. Pure. Links are changed where they stand; nothing else of a page is touched.

use super::location::clean;
use std::ops::Range;

/// The attributes that hold links, by element.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text up to their end tag, whatever it looks like.
const RAW_TEXT: &[&str] =
    &["iframe", "noembed", "noframes", "plaintext", "script", "style", "textarea", "title", "xmp"];

/// The places that links are judged by.
pub(super) struct Places<'a> {
    /// The backend's host and port.
    pub backend: &'a str,
    /// The host that the client asked.
    pub requested: &'a str,
    /// The path of the proxy, which goes in front.
    pub prefix: &'a str,
}

struct Link<'a> {
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    rest: &'a str,
}

/// Splits a link; `None` when it is none.
fn split(link: &str) -> Option<Link<'_>> {
    if link.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return None;
    }
    let (scheme, after) = match link.split_once(':') {
        Some((scheme, after)) if is_scheme(scheme) => (scheme, after),
        Some((start, _)) if !start.contains(['/', '?', '#']) => return None,
        _ => ("", link),
    };
    let (host, after) = match after.strip_prefix("//") {
        Some(after) => after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len())),
        None => ("", after),
    };
    let (path, rest) = after.split_at(after.find(['?', '#']).unwrap_or(after.len()));
    Some(Link { scheme, host: host.rsplit('@').next().unwrap_or(host), path, rest })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|other| other.is_ascii_alphanumeric() || "+-.".contains(other))
}

impl Places<'_> {
    /// The link through the proxy; `None` when it stays as it is.
    pub(super) fn through(&self, link: &str) -> Option<String> {
        let Link { scheme, host, path, rest } = split(link)?;
        let elsewhere = !host.is_empty() && host != self.backend && host != self.requested;
        if elsewhere || !path.starts_with('/') {
            return None;
        }
        // A link to the host that the client asked keeps it; one to the backend's loses it.
        let front = if host == self.requested && !host.is_empty() && scheme.is_empty() {
            format!("//{host}")
        } else if host == self.requested && !host.is_empty() {
            format!("{scheme}://{host}")
        } else {
            String::new()
        };
        if path.starts_with(self.prefix) {
            return Some(format!("{front}{path}{rest}"));
        }
        let mut joined = clean(&format!("{}/{path}", self.prefix));
        if path.ends_with('/') && !joined.ends_with('/') {
            joined.push('/');
        }
        Some(format!("{front}{joined}{rest}"))
    }

    /// A page with its links changed.
    pub(super) fn page(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + page.len() / 16);
        let mut copied = 0;
        for link in links(page) {
            out.extend_from_slice(&page[copied..link.start]);
            self.value(&mut out, &page[link.clone()]);
            copied = link.end;
        }
        out.extend_from_slice(&page[copied..]);
        out
    }

    /// The value of an attribute, with its quotes if it has some.
    fn value(&self, out: &mut Vec<u8>, value: &[u8]) {
        let quote = value.first().copied().filter(|first| value.len() > 1 && matches!(first, b'"' | b'\''));
        let inner = if quote.is_some() { &value[1..value.len() - 1] } else { value };
        let changed = std::str::from_utf8(inner).ok().and_then(|link| self.through(link)); // Other bytes are no link.
        match changed {
            None => out.extend_from_slice(value),
            Some(link) => {
                let quote = quote.unwrap_or(b'"');
                out.push(quote);
                out.extend_from_slice(link.as_bytes());
                out.push(quote);
            }
        }
    }
}

/// Where the values of attributes that hold links stand in a page, quotes included.
fn links(page: &[u8]) -> Vec<Range<usize>> {
    let mut links = Vec::new();
    let mut at = 0;
    while let Some(open) = find(page, at, b"<") {
        let rest = &page[open + 1..];
        at = match rest.first() {
            Some(b'!') if rest.starts_with(b"!--") => past(page, open + 4, b"-->"),
            Some(b'!' | b'?' | b'/') => past(page, open, b">"),
            Some(first) if first.is_ascii_alphabetic() => tag(page, open + 1, &mut links),
            _ => open + 1,
        };
    }
    links
}

fn find(page: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    page.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn past(page: &[u8], from: usize, end: &[u8]) -> usize {
    find(page, from, end).map_or(page.len(), |at| at + end.len())
}

/// The end of the run of bytes that fit.
fn run(page: &[u8], from: usize, fits: impl Fn(u8) -> bool) -> usize {
    page[from..].iter().position(|byte| !fits(*byte)).map_or(page.len(), |length| from + length)
}

/// Reads a start tag whose name begins at `from`, and the text of an element that holds nothing else. Returns where to go on.
fn tag(page: &[u8], from: usize, links: &mut Vec<Range<usize>>) -> usize {
    let outside = |byte: u8| byte.is_ascii_whitespace() || byte == b'/';
    let mut at = run(page, from, |byte| !outside(byte) && byte != b'>');
    let name = String::from_utf8_lossy(&page[from..at]).to_ascii_lowercase();
    let wanted = LINKS.iter().find(|(element, _)| *element == name).map_or(&[][..], |(_, wanted)| wanted);
    loop {
        at = run(page, at, outside);
        match page.get(at) {
            None => return at,
            Some(b'>') => break,
            Some(_) => {}
        }
        let (attribute, value, next) = attribute(page, at);
        if wanted.iter().any(|wanted| attribute.eq_ignore_ascii_case(wanted.as_bytes())) {
            links.extend(value);
        }
        at = next;
    }
    at += 1;
    if RAW_TEXT.contains(&&*name) { end_of_text(page, at, &name) } else { at }
}

/// The name of an attribute, where its value stands if it has one, and where it ends.
fn attribute(page: &[u8], from: usize) -> (&[u8], Option<Range<usize>>, usize) {
    // A name may begin with an equals sign, as browsers read it.
    let end = run(page, from + 1, |byte| !byte.is_ascii_whitespace() && !matches!(byte, b'=' | b'>' | b'/'));
    let name = &page[from..end];
    let equals = run(page, end, |byte| byte.is_ascii_whitespace());
    if page.get(equals) != Some(&b'=') {
        return (name, None, end);
    }
    let start = run(page, equals + 1, |byte| byte.is_ascii_whitespace());
    let stop = match page.get(start) {
        Some(quote @ (b'"' | b'\'')) => match find(page, start + 1, &[*quote]) {
            Some(close) => close + 1,
            // A quote that is never closed makes the rest of the page no tag at all.
            None => return (name, None, page.len()),
        },
        _ => run(page, start, |byte| !byte.is_ascii_whitespace() && byte != b'>'),
    };
    (name, Some(start..stop), stop)
}

fn end_of_text(page: &[u8], from: usize, name: &str) -> usize {
    let end = format!("</{name}");
    let found =
        page[from..].windows(end.len()).position(|window| window.eq_ignore_ascii_case(end.as_bytes()));
    found.map_or(page.len(), |at| from + at)
}

/// Rewrites bytes as a page; says how long it became. For fuzzing.
pub fn fuzz_page(page: &[u8]) -> usize {
    let places = Places {
        backend: "10.0.0.1:80",
        requested: "localhost",
        prefix: "/api/v1/namespaces/n/services/s/proxy",
    };
    places.page(page).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places<'_> = Places {
        backend: "10.0.0.1:80",
        requested: "localhost:8001",
        prefix: "/api/v1/namespaces/n/services/s/proxy",
    };

    #[test]
    fn links_to_the_backend_lead_through_the_proxy() {
        let prefix = PLACES.prefix;
        for (link, expected) in [
            ("/a?b=c#d", Some(format!("{prefix}/a?b=c#d"))),
            ("/", Some(format!("{prefix}/"))),
            ("/a//b/", Some(format!("{prefix}/a/b/"))),
            ("http://10.0.0.1:80/a", Some(format!("{prefix}/a"))),
            ("http://localhost:8001/a", Some(format!("http://localhost:8001{prefix}/a"))),
            ("//10.0.0.1:80/a", Some(format!("{prefix}/a"))),
            (&format!("{prefix}/a"), Some(format!("{prefix}/a"))),
            ("http://elsewhere/a", None),
            ("a/b", None),
            ("#top", None),
            ("mailto:someone", None),
            ("", None),
            ("http://10.0.0.1:80", None),
            ("/a b", None),
        ] {
            assert_eq!(PLACES.through(link), expected, "{link}");
        }
    }

    #[test]
    fn pages_are_changed_where_their_links_stand() {
        let page = concat!(
            "<!DOCTYPE html><!-- <a href=\"/no\"> --><HTML><head><title><a href='/no'></title>",
            "<script src=/a.js>if (1 < 2) { \"<a href='/no'>\" }</script></head><body class=\"/no\">",
            "<a class=x HREF = '/b?x=1&amp;y=2'>b</a><img src=\"c.png\" alt='/no'/><a href=\"http://elsewhere/\">",
            "1 < 2 <p href=\"/no\">\u{e9}</body></html>"
        );
        let expected = page
            .replace("src=/a.js", &format!("src=\"{}/a.js\"", PLACES.prefix))
            .replace("'/b?", &format!("'{}/b?", PLACES.prefix));
        assert_eq!(String::from_utf8(PLACES.page(page.as_bytes())).unwrap(), expected);
    }

    #[test]
    fn broken_pages_stay_as_they_are() {
        for page in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"/x",
            "<a href='",
            "<!--",
            "<script>",
            "</",
            "<a =",
            "<a/",
        ] {
            assert_eq!(PLACES.page(page.as_bytes()), page.as_bytes(), "{page}");
        }
    }
}
