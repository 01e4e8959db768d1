//! Numbers that may be written as percentages or names. It must not know of what they are a share.
use std::fmt;

use serde_json::Value;

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A percentage, or the name of a port.
    String(String),
}

/// Why a value cannot be scaled, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// The text is no percentage.
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotPercentage,
    /// The number before the percent sign cannot be read.
    #[error("invalid value for IntOrString: invalid value {}: strconv.Atoi: parsing {}: invalid syntax", crate::field::quote(.0), crate::field::quote(.0.trim_end_matches('%')))]
    BadNumber(String),
}

impl IntOrString {
    /// Reads a JSON number or string; anything else is `None`.
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => {
                number.as_i64().and_then(|number| i32::try_from(number).ok()).map(Self::Int)
            }
            Value::String(text) => Some(Self::String(text.clone())),
            _ => None,
        }
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Int(number) => Value::from(*number),
            Self::String(text) => Value::from(text.as_str()),
        }
    }

    /// The number, or the number that the text is; 0 if it is none.
    pub fn int_value(&self) -> i32 {
        match self {
            Self::Int(number) => *number,
            Self::String(text) => text.parse().unwrap_or(0),
        }
    }

    /// Whether it is a text that ends in a percent sign.
    pub fn is_percent(&self) -> bool {
        matches!(self, Self::String(text) if text.ends_with('%'))
    }

    /// The number, or the percentage of `total`.
    pub fn scaled(&self, total: i64, round_up: bool) -> Result<i64, ScaleError> {
        let text = match self {
            Self::Int(number) => return Ok(i64::from(*number)),
            Self::String(text) => text,
        };
        let number = text.strip_suffix('%').ok_or(ScaleError::NotPercentage)?;
        let percent: i32 = number.parse().map_err(|_| ScaleError::BadNumber(text.clone()))?;
        let hundredfold = i128::from(percent) * i128::from(total);
        let floor = hundredfold.div_euclid(100);
        let rounded = floor + i128::from(round_up && hundredfold.rem_euclid(100) != 0);
        Ok(rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_are_scaled() {
        for (value, total, round_up, expected) in [
            (json!(3), 10, true, Ok(3)),
            (json!("25%"), 10, true, Ok(3)),
            (json!("25%"), 10, false, Ok(2)),
            (json!("100%"), 7, false, Ok(7)),
            (json!("0%"), 7, true, Ok(0)),
            (json!("http"), 7, true, Err(ScaleError::NotPercentage)),
            (json!("x%"), 7, true, Err(ScaleError::BadNumber("x%".into()))),
        ] {
            assert_eq!(IntOrString::from_value(&value).unwrap().scaled(total, round_up), expected);
        }
        assert_eq!(IntOrString::from_value(&json!(true)), None);
        assert_eq!(IntOrString::String("80".into()).int_value(), 80);
    }
}
