//! Rewrites serde's messages about values of the wrong type for users who do not know Rust.

/// Rewrites a message of serde: `invalid type: string "many", expected usize` becomes
/// `"many" is not allowed; expected a whole number, 0 or more`. Other messages stay as they are.
pub fn in_plain_words(message: &str) -> String {
    if let Some((found, expected)) = split(message, &["invalid type: ", "invalid value: "], ", expected ") {
        return format!("{} is not allowed; expected {}", found_value(found), expected_kind(expected));
    }
    if let Some((name, allowed)) = split(message, &["unknown variant `"], "`, expected ") {
        return format!("\"{name}\" is not allowed; allowed are {}", names(allowed));
    }
    if let Some((name, allowed)) = split(message, &["unknown field `"], "`, expected ") {
        return format!("unknown key `{name}`; allowed are {}", names(allowed));
    }
    if let Some((length, expected)) = split(message, &["invalid length "], ", expected ") {
        let wanted = expected.rsplit(' ').next().filter(|n| n.parse::<usize>().is_ok());
        let wanted = wanted.map_or_else(|| expected_kind(expected), |n| format!("{n} values"));
        return format!("a list of {length} values is not allowed; expected {wanted}");
    }
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("the key `{name}` is missing");
    }
    message.to_string()
}

/// Splits off one of `beginnings`. Returns the text before `middle` and the text after it.
fn split<'a>(message: &'a str, beginnings: &[&str], middle: &str) -> Option<(&'a str, &'a str)> {
    let rest = beginnings.iter().find_map(|beginning| message.strip_prefix(beginning))?;
    rest.rsplit_once(middle)
}

/// Returns the value in words: −1 for "integer `-1`", and so on.
fn found_value(found: &str) -> String {
    match found {
        "sequence" => "a list".into(),
        "map" => "a block of keys".into(),
        "null" | "unit value" | "Option value" => "an empty value".into(),
        _ => {
            let value = found.split_once(' ').map_or(found, |(_, value)| value);
            value.strip_prefix("point ").unwrap_or(value).trim_matches('`').to_string()
        }
    }
}

fn expected_kind(expected: &str) -> String {
    let kind = match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, 0 or more",
        "isize" | "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        "a map" => "a block of keys",
        other if other.starts_with("struct ") => "a block of keys",
        other => other,
    };
    kind.to_string()
}

/// ``one of `a`, `b` `` as `a, b`.
fn names(allowed: &str) -> String {
    allowed.trim_start_matches("one of ").replace(" or ", ", ").replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::in_plain_words;

    #[test]
    fn errors_name_value_and_expected_type() {
        let check = |message: &str, expected: &str| assert_eq!(in_plain_words(message), expected);
        check(
            "invalid type: string \"many\", expected usize",
            "\"many\" is not allowed; expected a whole number, 0 or more",
        );
        check("invalid value: integer `-1`, expected u64", "-1 is not allowed; expected a whole number, 0 or more");
        check(
            "invalid type: floating point `1.5`, expected usize",
            "1.5 is not allowed; expected a whole number, 0 or more",
        );
        check("invalid type: boolean `true`, expected f32", "true is not allowed; expected a number");
        check("invalid type: null, expected f32", "an empty value is not allowed; expected a number");
        check("invalid type: sequence, expected a boolean", "a list is not allowed; expected true or false");
        check("unknown variant `alexnet`, expected one of `a`, `b`", "\"alexnet\" is not allowed; allowed are a, b");
        check("unknown variant `x`, expected `a` or `b`", "\"x\" is not allowed; allowed are a, b");
        check("unknown field `gird`, expected one of `grid`, `slurm`", "unknown key `gird`; allowed are grid, slurm");
        check(
            "invalid length 2, expected an array of length 3",
            "a list of 2 values is not allowed; expected 3 values",
        );
        check("missing field `grid`", "the key `grid` is missing");
        check("epochs: 0 is not allowed; allowed is 1 or more", "epochs: 0 is not allowed; allowed is 1 or more");
    }
}
