//! Checks a value against a schema, with the errors of upstream's validator: which come first, which hide others, and their words.
use super::{Additional, Bound, ListType, Rules, Schema, Type, formats};
use crate::field::{FieldError, FieldErrorKind, Path};
use crate::json::Place;
use serde_json::Value;

/// Checks a value. `base` is put before the paths of errors.
pub fn validate(value: &Value, schema: &Schema, base: &Path) -> Vec<FieldError> {
    Walker { base }.node(value, None, schema, &Place::Root).errors
}

/// Checks a new form of a value: what was wrong before and did not change stays allowed.
pub fn validate_update(new: &Value, old: &Value, schema: &Schema, base: &Path) -> Vec<FieldError> {
    Walker { base }.node(new, Some(old), schema, &Place::Root).errors
}

struct Walker<'a> {
    base: &'a Path,
}

/// What one schema made of a value.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    /// How many checks were made: of alternatives that all fail, the errors of the one with most checks are shown.
    checks: u32,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.checks += other.checks;
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The type of a value as messages name it, and its Go format.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "double"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

impl Walker<'_> {
    fn path(&self, at: &Place<'_>) -> Path {
        let place = at.to_string();
        if place.is_empty() { self.base.clone() } else { self.base.child(&place) }
    }

    fn node(&self, value: &Value, old: Option<&Value>, schema: &Schema, at: &Place<'_>) -> Outcome {
        let mut outcome = self.check(value, old, schema, at);
        if !outcome.is_valid() && old == Some(value) {
            outcome.errors.clear();
        }
        outcome
    }

    fn check(&self, value: &Value, old: Option<&Value>, schema: &Schema, at: &Place<'_>) -> Outcome {
        let mut outcome = Outcome { checks: 1, ..Outcome::default() };
        self.check_type(value, schema, at, &mut outcome);
        if value.is_null() {
            self.check_values(value, schema, at, &mut outcome);
            return outcome;
        }
        if let Some(rules) = &schema.rules {
            self.junctors(value, old, rules, at, &mut outcome);
        }
        match value {
            Value::String(text) => self.string(text, schema, at, &mut outcome),
            Value::Number(_) => self.number(value, schema, at, &mut outcome),
            Value::Array(items) => self.array(items, old, schema, at, &mut outcome),
            Value::Object(_) => {}
            Value::Null | Value::Bool(_) => {}
        }
        self.check_values(value, schema, at, &mut outcome);
        if value.is_object() {
            self.object(value, old, schema, at, &mut outcome);
        }
        outcome
    }

    fn check_type(&self, value: &Value, schema: &Schema, at: &Place<'_>, outcome: &mut Outcome) {
        let format = schema.rules.as_ref().map_or("", |rules| &*rules.format);
        let (allowed, number, integer) = match schema.ty {
            _ if schema.flags.int_or_string => ("integer,string", false, true),
            ty => (ty.as_str(), ty == Type::Number, ty == Type::Integer),
        };
        if allowed.is_empty() && format.is_empty() {
            return;
        }
        outcome.checks += 1;
        let (own, own_format) = type_of(value);
        if value.is_null() {
            if !allowed.is_empty() && !schema.flags.nullable {
                outcome.errors.push(self.wrong_type(at, allowed, "null"));
            }
            return;
        }
        let fits = allowed.split(',').any(|allowed| allowed == own)
            || (own == "number" && integer && is_whole(value))
            || (own == "integer" && number);
        let is_text = matches!(value, Value::String(_) | Value::Array(_));
        if !is_text && !format.is_empty() && !fits && format != own_format {
            outcome.errors.push(self.wrong_type(at, format, own_format));
        } else if !(number || integer || format.is_empty()) && is_text {
            // The format is checked instead.
        } else if !allowed.is_empty() && !fits {
            outcome.errors.push(self.wrong_type(at, allowed, own));
        }
    }

    fn wrong_type(&self, at: &Place<'_>, allowed: &str, own: &str) -> FieldError {
        let detail = format!("{at} in body must be of type {allowed}: {own:?}");
        FieldError::type_invalid(&self.path(at), own, detail)
    }

    fn invalid(&self, at: &Place<'_>, value: &Value, what: &str) -> FieldError {
        FieldError::invalid(&self.path(at), value.clone(), format!("{at} in body {what}"))
    }

    /// Errors of junctors have no path, but name it.
    fn unmet(&self, at: &Place<'_>, what: &str) -> FieldError {
        FieldError::invalid(self.base, "", format!("{:?} {what}", at.to_string()))
    }

    fn junctors(
        &self,
        value: &Value,
        old: Option<&Value>,
        rules: &Rules,
        at: &Place<'_>,
        outcome: &mut Outcome,
    ) {
        self.any_of(value, old, rules, at, outcome);
        self.one_of(value, old, rules, at, outcome);
        let mut valid = 0;
        for schema in &rules.all_of {
            let part = self.check(value, old, schema, at);
            valid += usize::from(part.is_valid());
            outcome.merge(part);
        }
        if valid != rules.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            outcome.errors.push(self.unmet(at, &format!("must validate all the schemas (allOf){none}")));
        }
        if let Some(not) = &rules.not
            && self.check(value, old, not, at).is_valid()
        {
            outcome.errors.push(self.unmet(at, "must not validate the schema (not)"));
        }
        outcome.checks += 1;
    }

    fn any_of(
        &self,
        value: &Value,
        old: Option<&Value>,
        rules: &Rules,
        at: &Place<'_>,
        outcome: &mut Outcome,
    ) {
        let mut best: Option<Outcome> = None;
        for schema in &rules.any_of {
            let part = self.check(value, old, schema, at);
            if part.is_valid() {
                return outcome.merge(part);
            }
            if best.as_ref().is_none_or(|best| part.checks > best.checks) {
                best = Some(part);
            }
        }
        if let Some(best) = best {
            outcome.errors.push(self.unmet(at, "must validate at least one schema (anyOf)"));
            outcome.merge(best);
        }
    }

    fn one_of(
        &self,
        value: &Value,
        old: Option<&Value>,
        rules: &Rules,
        at: &Place<'_>,
        outcome: &mut Outcome,
    ) {
        if rules.one_of.is_empty() {
            return;
        }
        let (valid, failed): (Vec<_>, Vec<_>) =
            rules.one_of.iter().map(|schema| self.check(value, old, schema, at)).partition(Outcome::is_valid);
        let found = match valid.len() {
            1 => return valid.into_iter().for_each(|part| outcome.merge(part)),
            0 => "Found none valid".to_owned(),
            count => format!("Found {count} valid alternatives"),
        };
        outcome
            .errors
            .push(self.unmet(at, &format!("must validate one and only one schema (oneOf). {found}")));
        if valid.is_empty() {
            // The first of those with most checks.
            let best =
                failed.into_iter().reduce(|best, part| if part.checks > best.checks { part } else { best });
            best.into_iter().for_each(|best| outcome.merge(best));
        }
    }

    /// The first rule that a string breaks, and its format.
    fn string(&self, text: &str, schema: &Schema, at: &Place<'_>, outcome: &mut Outcome) {
        outcome.checks += 1;
        let Some(rules) = &schema.rules else { return };
        outcome.errors.extend(self.first_of_string(text, rules, at));
        if !rules.format.is_empty() {
            outcome.checks += 1;
            if !formats::holds(&rules.format, text) {
                let detail =
                    format!("{at} in body must be of type {}: {}", rules.format, crate::field::quote(text));
                outcome.errors.push(FieldError::type_invalid(&self.path(at), text, detail));
            }
        }
    }

    fn first_of_string(&self, text: &str, rules: &Rules, at: &Place<'_>) -> Option<FieldError> {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = rules.max_length.filter(|max| length > *max) {
            return Some(FieldError::too_long(&self.path(at), usize::try_from(max).unwrap_or(0)));
        }
        if let Some(min) = rules.min_length.filter(|min| length < *min) {
            return Some(self.invalid(at, &text.into(), &format!("should be at least {min} chars long")));
        }
        let pattern = rules.pattern.as_ref()?;
        let what = match pattern.is_match(text) {
            Ok(true) => return None,
            Ok(false) => format!("should match '{}'", pattern.as_str()),
            Err(error) => format!("should match '{}, but pattern is invalid: {error}'", pattern.as_str()),
        };
        Some(self.invalid(at, &text.into(), &what))
    }

    fn number(&self, value: &Value, schema: &Schema, at: &Place<'_>, outcome: &mut Outcome) {
        outcome.checks += 1;
        let Some(rules) = &schema.rules else { return };
        let Some(number) = value.as_f64() else { return };
        if let Some(factor) = rules.multiple_of.filter(|factor| !is_multiple(value, *factor)) {
            let factor = written(factor, value);
            outcome.errors.push(self.invalid(at, value, &format!("should be a multiple of {factor}")));
        }
        let exceeds = |bound: &Bound| number > bound.value || (bound.exclusive && number >= bound.value);
        if let Some(bound) = rules.maximum.filter(exceeds) {
            let words = if bound.exclusive { "less than" } else { "less than or equal to" };
            let what = format!("should be {words} {}", written(bound.value, value));
            outcome.errors.push(self.invalid(at, value, &what));
        }
        let undercuts = |bound: &Bound| number < bound.value || (bound.exclusive && number <= bound.value);
        if let Some(bound) = rules.minimum.filter(undercuts) {
            let words = if bound.exclusive { "greater than" } else { "greater than or equal to" };
            let what = format!("should be {words} {}", written(bound.value, value));
            outcome.errors.push(self.invalid(at, value, &what));
        }
    }

    fn array(
        &self,
        items: &[Value],
        old: Option<&Value>,
        schema: &Schema,
        at: &Place<'_>,
        outcome: &mut Outcome,
    ) {
        outcome.checks += 1;
        if let Some(item_schema) = schema.items() {
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| same_item(item, index, old, schema));
                outcome.merge(self.node(item, old, item_schema, &Place::Item(at, index)));
            }
        }
        let Some(rules) = &schema.rules else { return };
        let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(min) = rules.min_items.filter(|min| size < *min) {
            outcome.errors.push(self.invalid(at, &size.into(), &format!("should have at least {min} items")));
        }
        if let Some(max) = rules.max_items.filter(|max| size > *max) {
            outcome.errors.push(self.too_many(at, size, max));
        }
        let repeats = |items: &[Value]| items.iter().enumerate().any(|(at, item)| items[..at].contains(item));
        if rules.unique_items && repeats(items) {
            outcome.errors.push(self.invalid(at, &"".into(), "shouldn't contain duplicates"));
        }
    }

    fn too_many(&self, at: &Place<'_>, size: i64, max: i64) -> FieldError {
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        FieldError::too_many(&self.path(at), count(size), count(max))
    }

    fn check_values(&self, value: &Value, schema: &Schema, at: &Place<'_>, outcome: &mut Outcome) {
        let Some(rules) = schema.rules.as_ref().filter(|rules| !rules.values.is_empty()) else { return };
        if rules.values.iter().any(|allowed| equal(allowed, value)) {
            return;
        }
        let allowed =
            rules.values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let allowed: Vec<String> = allowed.collect();
        outcome.errors.push(FieldError::not_supported(&self.path(at), value.clone(), &allowed));
    }

    fn object(
        &self,
        value: &Value,
        old: Option<&Value>,
        schema: &Schema,
        at: &Place<'_>,
        outcome: &mut Outcome,
    ) {
        let Some(fields) = value.as_object() else { return };
        outcome.checks += 1;
        if let Some(rules) = &schema.rules {
            let size = i64::try_from(fields.len()).unwrap_or(i64::MAX);
            if let Some(min) = rules.min_properties.filter(|min| size < *min) {
                let what = format!("should have at least {min} properties");
                return outcome.errors.push(self.invalid(at, &size.into(), &what));
            }
            if let Some(max) = rules.max_properties.filter(|max| size > *max) {
                return outcome.errors.push(self.too_many(at, size, max));
            }
        }
        for (name, field) in fields {
            let old = old.and_then(|old| old.get(name));
            let place = Place::Field(at, name);
            match (schema.property(name), schema.additional()) {
                (Some(property), _) => outcome.merge(self.node(field, old, property, &place)),
                (None, Additional::Schema(additional)) => {
                    outcome.merge(self.node(field, old, additional, &place))
                }
                (None, Additional::Allowed(false)) => {
                    let path = at.to_string();
                    let detail = format!("{path}.{name} in body is a forbidden property");
                    outcome.errors.push(FieldError::invalid(&self.path(at), name.as_str(), detail));
                }
                (None, Additional::Unsaid | Additional::Allowed(true)) => {}
            }
        }
        let required = schema.rules.iter().flat_map(|rules| rules.required.iter());
        for name in required.filter(|name| !fields.contains_key(&***name)) {
            outcome.errors.push(FieldError::required(&self.path(&Place::Field(at, name)), ""));
        }
    }
}

/// The item of the old list that a new one continues: only lists of type map know.
fn same_item<'v>(item: &Value, _index: usize, old: &'v Value, schema: &Schema) -> Option<&'v Value> {
    if schema.list_type() != ListType::Map {
        return None;
    }
    let is_same = |other: &&Value| schema.map_keys().all(|key| other.get(key) == item.get(key));
    old.as_array()?.iter().find(is_same)
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}

fn is_multiple(value: &Value, factor: f64) -> bool {
    if factor == 0.0 {
        return false;
    }
    if let Some(number) = value.as_i64()
        && factor.fract() == 0.0
    {
        return number % (factor as i64) == 0;
    }
    let Some(number) = value.as_f64() else { return false };
    let quotient = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
    let whole = quotient.round();
    (quotient - whole).abs() < 1e-9 * whole.abs().max(1.0)
}

/// A bound as it is written: whole when the value is.
fn written(bound: f64, value: &Value) -> String {
    if value.is_i64() {
        return (bound as i64).to_string();
    }
    if bound.fract() == 0.0 && bound.abs() < 1e21 {
        return format!("{bound:.0}");
    }
    bound.to_string()
}

/// Whether the errors say that the value has the wrong shape, so that rules over it make no sense.
pub fn has_wrong_shape(errors: &[FieldError]) -> bool {
    use FieldErrorKind as K;
    errors.iter().any(|error| {
        matches!(error.kind, K::NotSupported | K::Required | K::TooLong | K::TooMany | K::TypeInvalid)
    })
}

#[cfg(test)]
mod tests;
