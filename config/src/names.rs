//! Rules for words: names of services and headers, path templates, log filters.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A rule: 1 to 63 letters, digits, dots, dashes or underscores.
pub(crate) fn service(name: &str, (): &()) -> garde::Result {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if let Some(stranger) = name.chars().find(|&c| !allowed(c)) {
        return reject(format!("a name cannot contain {stranger:?}: use letters, digits, dots, dashes or underscores"));
    }
    match name.len() {
        0 => reject("a name cannot be empty"),
        1..=63 => Ok(()),
        length => reject(format!("a name has at most 63 characters, this one has {length}")),
    }
}

/// A rule: `/`, or segments each begun by `/`, that are either plain or one `{parameter}`.
pub(crate) fn template(template: &str, (): &()) -> garde::Result {
    let Some(path) = template.strip_prefix('/') else {
        return reject("a path template begins with `/`, for example /orders/{id}");
    };
    if template.len() > 1024 {
        return reject("a path template has at most 1024 characters");
    }
    if let Some(stranger) = path.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
        return reject(format!("a path template cannot contain {stranger:?}"));
    }
    let parameter = |segment: &str| {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    for segment in path.split('/') {
        if segment.contains(['{', '}']) && !parameter(segment) {
            return reject(format!("`{segment}` is neither a plain segment nor one parameter such as {{id}}"));
        }
    }
    if path.contains("//") || path.starts_with('/') {
        return reject("a path template cannot contain an empty segment (`//`)");
    }
    Ok(())
}

/// A rule: the name of a header field, in lower case (RFC 9110, section 5.1).
pub(crate) fn header(name: &str, (): &()) -> garde::Result {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    if let Some(stranger) = name.chars().find(|&c| !allowed(c)) {
        let hint = if stranger.is_ascii_uppercase() { ": write it in lower case" } else { "" };
        return reject(format!("a header name cannot contain {stranger:?}{hint}"));
    }
    match name.len() {
        0 => reject("a header name cannot be empty"),
        1..=64 => Ok(()),
        length => reject(format!("a header name has at most 64 characters here, this one has {length}")),
    }
}

/// The schema of a list of header names.
pub(crate) fn headers_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "pattern": r"^[a-z0-9._-]{1,64}$|\$\{" } })
}

/// A rule: levels or `target=level`, separated by commas. This is what every subscriber of log events understands; a
/// misspelt level would otherwise silently be taken for the name of a target.
pub(crate) fn filter(filter: &str, (): &()) -> garde::Result {
    if filter.len() > 1024 {
        return reject("a log filter has at most 1024 characters");
    }
    for directive in filter.split(',').map(str::trim) {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("any", directive));
        if !LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known)) {
            return reject(format!("`{level}` is not a log level: use one of {}", LEVELS.join(", ")));
        }
        if target.is_empty() || !target.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.'))
        {
            return reject(format!("`{target}` is not the name of a log target"));
        }
    }
    Ok(())
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

fn reject(message: impl Into<String>) -> garde::Result {
    Err(garde::Error::new(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "orders", "Orders_v2.eu-west", &"x".repeat(63)] {
            assert!(service(good, &()).is_ok(), "{good}");
        }
        for bad in ["", "a b", "orders/1", "größe", &"x".repeat(64)] {
            assert!(service(bad, &()).is_err(), "{bad}");
        }
    }

    #[test]
    fn templates_are_whole_segments() {
        for good in ["/", "/orders", "/orders/{id}", "/orders/{id}/", "/a/{b}/c/{d_1}"] {
            assert!(template(good, &()).is_ok(), "{good}");
        }
        for bad in ["", "orders", "/a//b", "//a", "/a/{}", "/a/x{id}", "/a/{id", "/a?b", "/a b", "/{a}{b}"] {
            assert!(template(bad, &()).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_name_known_levels_only() {
        for good in ["info", "INFO", "off", "warn,couplet_proxy=debug", "couplet_proxy::forward=trace, info"] {
            assert!(filter(good, &()).is_ok(), "{good}");
        }
        for bad in ["", "inof", "info,", "=info", "a b=info", "couplet_proxy", "a=b=c"] {
            assert!(filter(bad, &()).is_err(), "{bad}");
        }
    }
}
