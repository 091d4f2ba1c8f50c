//! Variables in values: `${VAR}`, `${VAR:-default}`, and `$$` for a dollar sign.

use super::document::Node;
use super::document::Step;
use super::document::Value;
use super::document::join;
use super::error::DocumentError;

/// What a variable holds, or nothing if it is not set.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts the variables into every value in `node`. One that cannot be done is reported and dropped.
pub(crate) fn expand(node: &mut Node, path: &str, env: Lookup<'_>, file: &str, errors: &mut Vec<DocumentError>) {
    match &mut node.value {
        Value::Null | Value::Dropped => {}
        Value::Scalar { text, .. } if !text.contains('$') => {}
        Value::Scalar { text, quoted } => match expanded(text, env) {
            // `field: ${VAR:-}` leaves the field out, as an empty value does.
            Ok(text) if text.is_empty() && !*quoted => node.value = Value::Null,
            Ok(new) => *text = new,
            Err(message) => {
                errors.push(DocumentError::message(file, Some(node.at), path.to_owned(), message));
                node.value = Value::Dropped;
            }
        },
        Value::List(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                expand(node, &join(path, &Step::Index(index)), env, file, errors);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                expand(&mut entry.node, &join(path, &Step::Key(entry.key.clone())), env, file, errors);
            }
        }
    }
}

fn expanded(text: &str, env: Lookup<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some(after) = rest.strip_prefix('{') else {
            // A lone dollar sign is one, as in a regular expression.
            out.push('$');
            continue;
        };
        let Some((inner, after)) = after.split_once('}') else {
            return Err(format!("`${{{after}` has no closing brace; a dollar sign before a brace is written `$$`"));
        };
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) {
            return Err(format!("`{name}` is no name of a variable; a dollar sign before a brace is written `$$`"));
        }
        // As a shell: `:-` also replaces a variable that is set to nothing.
        match (env(name), default) {
            (Some(value), Some(default)) if value.is_empty() => out.push_str(default),
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!(
                    "the environment variable `{name}` is not set; `${{{name}:-...}}` would give it a default"
                ));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_in_a_shell() {
        let env = |name: &str| match name {
            "HOST" => Some("greeter".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let cases = [
            ("plain", Ok("plain")),
            ("${HOST}", Ok("greeter")),
            ("a-${HOST}-b:${PORT:-80}", Ok("a-greeter-b:80")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-full}", Ok("full")),
            ("${MISSING:-}", Ok("")),
            ("${MISSING:-a:-b}", Ok("a:-b")),
            ("${NESTED}", Ok("${HOST}")),
            ("$${HOST} costs 5$$", Ok("${HOST} costs 5$")),
            ("^/a$|^/b$", Ok("^/a$|^/b$")),
            ("${MISSING}", Err("the environment variable `MISSING` is not set")),
            ("${HOST", Err("no closing brace")),
            ("${}", Err("no name of a variable")),
            ("${1X}", Err("no name of a variable")),
        ];
        for (text, want) in cases {
            match (expanded(text, &env), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, want {want:?}"),
            }
        }
    }
}
