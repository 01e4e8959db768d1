//! Resource quantities: fixed-point numbers with a suffix, `100m` or `1536Mi`. It must not know which resource they measure.
//!
//! A value is kept in billionths, the finest that the API keeps; finer ones are rounded away from zero. A magnitude above 1.7e29 is
//! refused.
use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

const NANO: i128 = 1_000_000_000;
const MILLI_IN_NANO: i128 = 1_000_000;
/// Decimal places that are looked at; digits behind them only decide whether there is something to round up.
const MAX_PLACES: usize = 18;
const MAX_BINARY: i128 = i64::MAX as i128;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySI,
    /// `12M`
    DecimalSI,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number cannot be read or is too large.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is none.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A quantity.
#[derive(Debug, Clone)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    /// Upstream keeps the text it read when that is close enough to canonical, and writes that.
    written: Option<String>,
}

impl Quantity {
    /// Zero.
    pub fn zero(format: Format) -> Self {
        Self { nanos: 0, format, written: None }
    }

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format, written: None }
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * MILLI_IN_NANO, format, written: None }
    }

    /// Reads a quantity as upstream does.
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        if text.is_empty() {
            return Err(ParseQuantityError::Format);
        }
        let parts = Parts::split(text)?;
        let (base, exponent, format) = interpret(parts.suffix).ok_or(ParseQuantityError::Suffix)?;
        let magnitude = if base == 2 { parts.binary(exponent)? } else { parts.decimal(exponent)? };
        let format = if format == Format::BinarySI && magnitude > 0 && magnitude < NANO {
            Format::DecimalSI
        } else {
            format
        };
        let nanos = if parts.positive { magnitude } else { -magnitude };
        let written = parts.keeps_text(exponent, base).then(|| text.to_owned());
        Ok(Self { nanos, format, written })
    }

    /// Reads a quantity from a JSON string or number.
    pub fn from_value(value: &Value) -> Result<Self, ParseQuantityError> {
        match value {
            Value::String(text) => Self::parse(text.trim()),
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::Null => Ok(Self::zero(Format::DecimalSI)),
            _ => Err(ParseQuantityError::Format),
        }
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// The whole number it is, rounded up, within the bounds of an i64.
    pub fn value(&self) -> i64 {
        clamp(ceil_away(self.nanos, NANO))
    }

    /// The thousandths it is, rounded up, within the bounds of an i64.
    pub fn milli_value(&self) -> i64 {
        clamp(ceil_away(self.nanos, MILLI_IN_NANO))
    }

    /// The billionths it is.
    pub fn nano_value(&self) -> i128 {
        self.nanos
    }

    /// The whole number it is, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        // Not fitting is the answer.
        if self.nanos % NANO == 0 { i64::try_from(self.nanos / NANO).ok() } else { None }
    }

    /// The nearest float.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Adds, and takes the other's format when this is zero.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, self.nanos.saturating_add(other.nanos));
    }

    /// Subtracts, and takes the other's format when this is zero.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, self.nanos.saturating_sub(other.nanos));
    }

    fn combine(&mut self, other: &Self, nanos: i128) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nanos = nanos;
        self.written = None;
    }

    /// The negative of it.
    pub fn neg(&self) -> Self {
        Self { nanos: -self.nanos, format: self.format, written: None }
    }

    /// Rounds up to thousandths, as resource lists of containers are.
    pub fn round_up_to_milli(&mut self) {
        let rounded = ceil_away(self.nanos, MILLI_IN_NANO).saturating_mul(MILLI_IN_NANO);
        if rounded != self.nanos {
            self.nanos = rounded;
            self.written = None;
        }
    }

    /// The text in canonical form, whatever text was read.
    pub fn canonical(&self) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let below_binary = self.nanos.abs() < 1024 * NANO;
        if self.format == Format::BinarySI && !below_binary && self.nanos % NANO == 0 {
            return canonical_binary(self.nanos / NANO);
        }
        let format = if self.format == Format::BinarySI { Format::DecimalSI } else { self.format };
        canonical_decimal(self.nanos, format)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::str::FromStr for Quantity {
    type Err = ParseQuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A text cut into its parts.
struct Parts<'a> {
    positive: bool,
    /// Without leading zeros; `0` if there is nothing else.
    number: &'a str,
    places: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, ParseQuantityError> {
        let positive = !text.starts_with('-');
        let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        let digits = rest.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(Self { positive, number: "0", places: "", suffix: "" });
        }
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (number, rest) = digits.split_at(end);
        let (places, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let exponent = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !exponent.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseQuantityError::Format);
        }
        Ok(Self { positive, number: if number.is_empty() { "0" } else { number }, places, suffix })
    }

    /// The digits as one number, how many of them are decimal places, and whether digits were cut off that are not zero.
    fn mantissa(&self) -> Result<(i128, u32, bool), ParseQuantityError> {
        let (kept, cut) = self.places.split_at(self.places.len().min(MAX_PLACES));
        let sticky = cut.bytes().any(|digit| digit != b'0');
        let digits = format!("{}{kept}", self.number);
        let mantissa = digits.parse::<i128>().map_err(|_| ParseQuantityError::Numeric)?;
        Ok((mantissa, kept.len() as u32, sticky))
    }

    fn decimal(&self, exponent: i32) -> Result<i128, ParseQuantityError> {
        let (mantissa, places, sticky) = self.mantissa()?;
        if mantissa == 0 && !sticky {
            return Ok(0);
        }
        let shift = i64::from(exponent) + 9 - i64::from(places);
        let too_large = ParseQuantityError::Numeric;
        if shift >= 0 {
            let factor = power_of_ten(shift).ok_or(too_large)?;
            let exact = mantissa.checked_mul(factor).ok_or(too_large)?;
            return exact.checked_add(i128::from(sticky)).ok_or(too_large);
        }
        Ok(match power_of_ten(-shift) {
            Some(divisor) => mantissa / divisor + i128::from(sticky || mantissa % divisor != 0),
            None => 1,
        })
    }

    /// Binary quantities are capped, not refused, when they are too large.
    fn binary(&self, exponent: i32) -> Result<i128, ParseQuantityError> {
        let (mantissa, places, sticky) = match self.mantissa() {
            Err(_) => return Ok(MAX_BINARY * NANO),
            Ok(parts) => parts,
        };
        let divisor = power_of_ten(i64::from(places)).ok_or(ParseQuantityError::Numeric)?;
        let (whole, part) = (mantissa / divisor, mantissa % divisor);
        let factor = 1i128 << exponent;
        let Some(whole) = whole.checked_mul(factor).filter(|whole| *whole <= MAX_BINARY) else {
            return Ok(MAX_BINARY * NANO);
        };
        // part < 10^18 and factor <= 2^60, so their product fits; the billionths are split off before they are scaled.
        let scaled = part * factor;
        let (units, rest) = (scaled / divisor, scaled % divisor);
        let nanos = rest * NANO / divisor + i128::from(sticky || rest * NANO % divisor != 0);
        Ok(((whole + units) * NANO + nanos).min(MAX_BINARY * NANO))
    }

    /// Upstream's rule for writing the text that was read instead of the canonical one.
    fn keeps_text(&self, exponent: i32, base: u32) -> bool {
        let digits = self.number.len() + self.places.len();
        // Digits decide, so a number that does not fit does not keep its text.
        let Ok(value) = format!("{}{}", self.number, self.places).parse::<i64>() else { return false };
        if base == 2 {
            let precision = 15 - self.number.len() as i64 - (exponent as f32 * 3.0 / 10.0) as i64 - 1;
            return self.places.is_empty() && precision >= 0 && exponent % 10 == 0 && value & 7 != 0;
        }
        let scale = i64::from(exponent) - self.places.len() as i64;
        digits <= 18 && scale >= -9 && scale % 3 == 0 && value % 1000 != 0 && !self.number.starts_with('0')
    }
}

fn interpret(suffix: &str) -> Option<(u32, i32, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::DecimalSI));
    let binary = |exponent| Some((2, exponent, Format::BinarySI));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            // Anything but a number behind the e is no suffix.
            Some((10, exponent.parse::<i32>().ok()?, Format::DecimalExponent))
        }
    }
}

fn power_of_ten(exponent: i64) -> Option<i128> {
    10i128.checked_pow(u32::try_from(exponent).ok()?)
}

fn ceil_away(value: i128, unit: i128) -> i128 {
    value / unit + if value % unit == 0 { 0 } else { value.signum() }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn canonical_binary(mut whole: i128) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut step = 0;
    while whole % 1024 == 0 && step + 1 < SUFFIXES.len() {
        whole /= 1024;
        step += 1;
    }
    format!("{whole}{}", SUFFIXES[step])
}

fn canonical_decimal(nanos: i128, format: Format) -> String {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let limit = if format == Format::DecimalSI { SUFFIXES.len() - 1 } else { usize::MAX };
    let (mut mantissa, mut step) = (nanos, 0);
    while mantissa % 1000 == 0 && step < limit {
        mantissa /= 1000;
        step += 1;
    }
    let exponent = step as i64 * 3 - 9;
    match format {
        Format::DecimalExponent if exponent != 0 => format!("{mantissa}e{exponent}"),
        Format::DecimalExponent => mantissa.to_string(),
        Format::DecimalSI | Format::BinarySI => format!("{mantissa}{}", SUFFIXES[step]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_become_canonical() {
        for (text, expected) in [
            ("0", "0"),
            ("0m", "0"),
            ("00", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Mi", "512Ki"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("0.001Ki", "1024m"),
            ("1e3", "1e3"),
            ("1000e3", "1e6"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("1E3", "1E3"),
            ("1.1Ki", "1126400m"),
            ("0.1n", "1n"),
            ("0.0000000000000000001", "1n"),
            ("-1.5", "-1500m"),
            (".5", "500m"),
            ("5.", "5."),
            ("100000Ei", "9223372036854775807"),
            ("9223372036854775807", "9223372036854775807"),
            ("123456789012345678901", "123456789012345678901"),
        ] {
            let quantity = Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(quantity.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_upstreams_words() {
        use ParseQuantityError::{Format, Numeric, Suffix};
        for (text, expected) in [
            ("", Format),
            ("1.5.5", Format),
            ("abc", Format),
            ("1x", Format),
            ("1 Gi", Format),
            ("10Kib", Format),
            ("1e", Suffix),
            ("1iK", Suffix),
            ("1mm", Suffix),
            ("1e400", Numeric),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_compare_and_count() {
        let parse = |text| Quantity::parse(text).unwrap();
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!(parse("1"), parse("1000m"));
        assert_eq!(parse("1500m").value(), 2);
        assert_eq!(parse("-1500m").value(), -2);
        assert_eq!(parse("1500u").milli_value(), 2);
        assert_eq!(parse("100E").value(), i64::MAX);
        assert_eq!(parse("1500m").as_i64(), None);
        let mut sum = Quantity::zero(Format::DecimalSI);
        sum.add(&parse("1Gi"));
        sum.add(&parse("512Mi"));
        assert_eq!(sum.to_string(), "1536Mi");
        sum.sub(&parse("1536Mi"));
        assert!(sum.is_zero());
        let mut cpu = parse("1u");
        cpu.round_up_to_milli();
        assert_eq!(cpu.to_string(), "1m");
        assert_eq!(Quantity::from_value(&serde_json::json!(1.5)).unwrap().to_string(), "1500m");
        assert_eq!(Quantity::from_value(&serde_json::json!(2)).unwrap().to_string(), "2");
    }

    proptest! {
        #[test]
        fn the_canonical_text_means_the_same(value in any::<i64>(), suffix in prop::sample::select(vec![
            "n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3"
        ])) {
            let quantity = Quantity::parse(&format!("{}{suffix}", value % 1_000_000_000)).unwrap();
            let canonical = quantity.canonical();
            let again = Quantity::parse(&canonical).unwrap();
            prop_assert_eq!(&again, &quantity);
            prop_assert_eq!(again.canonical(), canonical);
        }

        #[test]
        fn no_text_panics(text in "[+-]?[0-9.]{0,40}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,12}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let _shown = (quantity.to_string(), quantity.value(), quantity.milli_value());
            }
        }

        #[test]
        fn sums_are_exact(a in -1_000_000_000_000i64..1_000_000_000_000, b in -1_000_000_000_000i64..1_000_000_000_000) {
            let mut sum = Quantity::from_milli(a, Format::DecimalSI);
            sum.add(&Quantity::from_milli(b, Format::DecimalSI));
            prop_assert_eq!(sum.milli_value(), a + b);
        }
    }
}
