//! Variables in configured text: `${NAME}`, `${env:NAME}` and `${NAME:-default}`. Nothing is run and nothing is expanded twice.

/// Replaces every variable in `text` by what `env` says.
///
/// # Errors
/// In words, when a variable does not exist or is not written to its end.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) =
            after.split_once('}').ok_or_else(|| "`${` has no `}`; a variable is written ${NAME}".to_owned())?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        let ok = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !ok {
            return Err(format!("`${{{inside}}}` is not a variable of the environment; write ${{NAME}}"));
        }
        let value = env(name).filter(|value| default.is_none() || !value.is_empty());
        let value = value.or_else(|| default.map(str::to_owned));
        let value =
            value.ok_or_else(|| format!("the variable `{name}` is not set; set it, or write ${{{name}:-default}}"))?;
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_a(text: &str) -> Result<String, String> {
        expand(text, &|name| match name {
            "A" => Some("${B}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_once() {
        assert_eq!(with_a("x${A}y${env:A}$z").unwrap(), "x${B}y${B}$z");
        assert_eq!(with_a("${NO:-d:-e}${EMPTY:-f}${EMPTY}").unwrap(), "d:-ef");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(with_a("${NO}").unwrap_err().contains("`NO` is not set"));
        for text in ["${A", "${}", "${input:key}", "${A B}"] {
            assert!(with_a(text).is_err(), "{text}");
        }
    }
}
