//! JSON values as Go's `fmt` and `reflect` show them, for refusals that quote one. It must not know what a value means.
use serde_json::{Number, Value};

/// As `%v` prints a value.
pub fn value(value: &Value) -> String {
    print(value, &scalar)
}

/// As `%s` prints a value: what is no text says so.
pub(crate) fn text(value: &Value) -> String {
    print(value, &|value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_owned(),
        other => format!("%!s({}={})", type_name(other), scalar(other)),
    })
}

fn print(value: &Value, scalar: &dyn Fn(&Value) -> String) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| print(item, scalar)).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let mut entries: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}:{}", print(value, scalar))).collect();
            entries.sort_unstable();
            format!("map[{}]", entries.join(" "))
        }
        other => scalar(other),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => show_number(number),
        other => other.to_string(),
    }
}

/// Whole numbers plainly; others in as few digits as tell them apart, with an exponent when they are long.
fn show_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let shortest = format!("{float:e}");
    let Some((digits, exponent)) = shortest.split_once('e') else { return shortest };
    // Rust writes the exponent that was made here as a plain number.
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{float}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// As `%T` names the type that a value is decoded into; `<nil>` for null.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        other => kind(other),
    }
}

/// The `reflect.Kind` of that type; `invalid` for null.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_in_go() {
        for (given, expected) in [
            (json!({"b": ["x", 1, null], "a": true}), "map[a:true b:[x 1 <nil>]]"),
            (json!({}), "map[]"),
            (json!(1.5), "1.5"),
            (json!(123456.0), "123456"),
            (json!(1234567.0), "1.234567e+06"),
            (json!(0.00001), "1e-05"),
            (json!(-2.5e30), "-2.5e+30"),
        ] {
            assert_eq!(value(&given), expected);
        }
        for (given, expected) in [
            (json!("merge"), "merge"),
            (json!(5), "%!s(int64=5)"),
            (json!(null), "%!s(<nil>)"),
            (json!({"a": [true]}), "map[a:[%!s(bool=true)]]"),
        ] {
            assert_eq!(text(&given), expected);
        }
        assert_eq!((type_name(&json!([])), kind(&json!([]))), ("[]interface {}", "slice"));
    }
}
