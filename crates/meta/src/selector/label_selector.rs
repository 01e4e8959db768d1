//! Label selectors: read from a query or an object, matched, and written in canonical form. It must not know what they select.
use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::label_lexer::{Item, Token, scan};
use crate::field::{FieldError, Path, aggregate};
use crate::metadata;
use crate::names;
use crate::object::{self, Object};

/// How a label and values relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// `=`
    Equals,
    /// `==`
    DoubleEquals,
    /// `!=`
    NotEquals,
    /// `in`
    In,
    /// `notin`
    NotIn,
    /// The key alone.
    Exists,
    /// `!`
    DoesNotExist,
    /// `>`
    GreaterThan,
    /// `<`
    LessThan,
}

/// One condition on labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

/// Why a text is no label selector, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseLabelSelectorError(pub String);

type Parsed<T> = Result<T, ParseLabelSelectorError>;

fn fail<T>(text: impl Into<String>) -> Parsed<T> {
    Err(ParseLabelSelectorError(text.into()))
}

impl Requirement {
    /// A condition that keeps upstream's rules; the error is the aggregate of those it breaks.
    pub fn new(key: impl Into<String>, operator: Operator, values: Vec<String>) -> Parsed<Self> {
        let key = key.into();
        let mut errors = check_key(&key, &Path::new("key"));
        errors.extend(check_count(operator, &values));
        for (index, value) in values.iter().enumerate() {
            let problems = names::label_value(value);
            if !problems.is_empty() {
                let path = Path::new("values").index(index).key(&key);
                errors.push(FieldError::invalid(&path, value.as_str(), problems.join("; ")));
            }
        }
        if errors.is_empty() { Ok(Self { key, operator, values }) } else { fail(aggregate(&errors)) }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How key and values relate.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether labels meet the condition.
    pub fn matches(&self, labels: &Object) -> bool {
        let value = labels.get(&self.key).and_then(Value::as_str);
        let listed = |value: &str| self.values.iter().any(|known| known == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(|order| order.is_gt()),
            Operator::LessThan => self.compare(value).is_some_and(|order| order.is_lt()),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<std::cmp::Ordering> {
        // A label that is no number is not compared.
        let label = value?.parse::<i64>().ok()?;
        let [bound] = &self.values[..] else { return None };
        Some(label.cmp(&bound.parse::<i64>().ok()?))
    }
}

fn check_key(key: &str, path: &Path) -> Vec<FieldError> {
    let problems = names::qualified_name(key);
    if problems.is_empty() { Vec::new() } else { vec![FieldError::invalid(path, key, problems.join("; "))] }
}

fn check_count(operator: Operator, values: &[String]) -> Vec<FieldError> {
    let path = Path::new("values");
    let invalid = |problem: &str| vec![FieldError::invalid(&path, values.to_vec(), problem)];
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            invalid("for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
            invalid("exact-match compatibility requires one single value")
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            invalid("values set must be empty for exists and does not exist")
        }
        Operator::GreaterThan | Operator::LessThan => {
            let mut errors = Vec::new();
            if values.len() != 1 {
                errors = invalid("for 'Gt', 'Lt' operators, exactly one value is required");
            }
            for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err())
            {
                let problem = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(&path.index(index), value.as_str(), problem));
            }
            errors
        }
        _ => Vec::new(),
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        let (key, values) = (&self.key, sorted.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Conditions that must all hold, or nothing at all that can match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self { requirements: Vec::new(), nothing: false }
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Of these conditions.
    pub fn from_requirements(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// Selects the objects with all these labels, which are taken to be valid; none selects everything.
    pub fn from_map(labels: &Object) -> Self {
        let requirement = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        };
        Self::from_requirements(labels.iter().map(requirement).collect())
    }

    /// Reads the text of a query.
    pub fn parse(text: &str) -> Parsed<Self> {
        Ok(Self::from_requirements(Parser { items: scan(text), position: 0 }.selector()?))
    }

    /// Reads a `LabelSelector` of an object. A missing selector selects nothing, an empty one everything.
    pub fn from_value(selector: Option<&Value>) -> Parsed<Self> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in object::get_object(selector, &["matchLabels"]) {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, Operator::In, vec![value])?);
        }
        for expression in object::get_array(selector, &["matchExpressions"]) {
            requirements.push(from_expression(expression)?);
        }
        Ok(Self::from_requirements(requirements))
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it can select no object.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The conditions, ordered by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels meet all conditions.
    pub fn matches(&self, labels: &Object) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// The one value that the label must have, if the selector asks for exactly one.
    pub fn requires_exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|requirement| requirement.key == key)?;
        match (requirement.operator, &requirement.values[..]) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }

    /// Checks a `LabelSelector` of an object, with upstream's field errors.
    pub fn validate(selector: &Value, path: &Path) -> Vec<FieldError> {
        let labels = object::get_object(selector, &["matchLabels"]);
        let mut errors = metadata::validate_labels(labels, &path.child("matchLabels"));
        for (index, expression) in object::get_array(selector, &["matchExpressions"]).iter().enumerate() {
            errors.extend(validate_expression(expression, &path.child("matchExpressions").index(index)));
        }
        errors
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

fn from_expression(expression: &Value) -> Parsed<Requirement> {
    let operator = match object::get_str(expression, &["operator"]) {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            return fail(format!("{} is not a valid label selector operator", crate::field::quote(other)));
        }
    };
    let values = object::get_strings(expression, &["values"]).into_iter().map(str::to_owned).collect();
    Requirement::new(object::get_str(expression, &["key"]), operator, values)
}

fn validate_expression(expression: &Value, path: &Path) -> Vec<FieldError> {
    let (operator, values) =
        (object::get_str(expression, &["operator"]), object::get_strings(expression, &["values"]));
    let mut errors = match operator {
        "In" | "NotIn" if values.is_empty() => {
            vec![FieldError::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )]
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => vec![FieldError::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )],
        "In" | "NotIn" | "Exists" | "DoesNotExist" => Vec::new(),
        other => vec![FieldError::invalid(&path.child("operator"), other, "not a valid selector operator")],
    };
    errors.extend(metadata::validate_label_name(object::get_str(expression, &["key"]), &path.child("key")));
    for (index, value) in values.iter().enumerate() {
        let at = path.child("values").index(index);
        errors.extend(
            names::label_value(value).into_iter().map(|problem| FieldError::invalid(&at, *value, problem)),
        );
    }
    errors
}

/// Upstream's grammar. `in` and `notin` are operators behind a key and plain words elsewhere.
struct Parser {
    items: Vec<Item>,
    position: usize,
}

impl Parser {
    fn raw(&self) -> &Item {
        // The last item is the end, and nothing goes past it.
        &self.items[self.position.min(self.items.len() - 1)]
    }

    fn peek(&self) -> (Token, String) {
        let item = self.raw();
        let token =
            if matches!(item.token, Token::In | Token::NotIn) { Token::Identifier } else { item.token };
        (token, item.text.clone())
    }

    fn next(&mut self) -> (Token, String) {
        let next = self.peek();
        self.position += 1;
        next
    }

    fn selector(&mut self) -> Parsed<Vec<Requirement>> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Not, _) => {}
                (Token::End, _) => return Ok(requirements),
                (_, text) => {
                    return fail(format!("found '{text}', expected: !, identifier, or 'end of string'"));
                }
            }
            let requirement = self.requirement();
            requirements
                .push(requirement.or_else(|error| fail(format!("unable to parse requirement: {error}")))?);
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek() {
                    (Token::Identifier | Token::Not, _) => {}
                    (_, text) => return fail(format!("found '{text}', expected: identifier after ','")),
                },
                (_, text) => return fail(format!("found '{text}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let (key, unary) = self.key()?;
        if let Some(operator) = unary {
            return Requirement::new(key, operator, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.exact_value()?]),
        };
        Requirement::new(key, operator, values.into_iter().collect())
    }

    fn key(&mut self) -> Parsed<(String, Option<Operator>)> {
        let (mut token, mut text) = self.next();
        let mut unary = None;
        if token == Token::Not {
            unary = Some(Operator::DoesNotExist);
            (token, text) = self.next();
        }
        if token != Token::Identifier {
            return fail(format!("found '{text}', expected: identifier"));
        }
        if let Some(error) = check_key(&text, &Path::root()).first() {
            return fail(error.to_string());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            unary = unary.or(Some(Operator::Exists));
        }
        Ok((text, unary))
    }

    fn operator(&mut self) -> Parsed<Operator> {
        let operator = match self.raw().token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => return fail(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", self.raw().text)),
        };
        self.position += 1;
        Ok(operator)
    }

    fn values(&mut self) -> Parsed<BTreeSet<String>> {
        let (token, text) = self.next();
        if token != Token::Open {
            return fail(format!("found '{text}' expected: '('"));
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, _) => {
                let values = self.identifiers()?;
                // The list of identifiers ends in front of the parenthesis.
                self.position += 1;
                Ok(values)
            }
            (Token::Close, _) => {
                self.position += 1;
                Ok(BTreeSet::from([String::new()]))
            }
            (_, text) => fail(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    fn identifiers(&mut self) -> Parsed<BTreeSet<String>> {
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                (Token::Identifier, text) => {
                    values.insert(text);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return fail(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return fail(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Parsed<String> {
        match self.peek() {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Identifier, text) => {
                self.position += 1;
                Ok(text)
            }
            (_, text) => fail(format!("found '{text}', expected: identifier")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn matches(text: &str, labels: Value) -> bool {
        LabelSelector::parse(text).unwrap().matches(labels.as_object().unwrap())
    }

    #[test]
    fn selectors_are_read_and_written() {
        for (text, expected) in [
            ("", ""),
            ("x=a,y=b,z=c", "x=a,y=b,z=c"),
            ("z=c, y!=b,x==a", "x==a,y!=b,z=c"),
            ("x=", "x="),
            ("x= , z= ", "x=,z="),
            ("x,!y", "x,!y"),
            ("!x", "!x"),
            ("x in (b,a), y notin (c)", "x in (a,b),y notin (c)"),
            ("x in ()", "x in ()"),
            ("x in (,)", "x in ()"),
            ("x in (a,,b)", "x in (,a,b)"),
            ("x>1,y<2", "x>1,y<2"),
            ("in in (in,notin)", "in in (in,notin)"),
            ("a.b/c=d", "a.b/c=d"),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_selectors_are_refused_in_upstreams_words() {
        for (text, expected) in [
            ("x=a||y=b", "unable to parse requirement: values[0][x]: Invalid value: \"a||y\""),
            ("x==a==b", "found '==', expected: ',' or 'end of string'"),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            ("x<a", "for 'Gt', 'Lt' operators, the value must be an integer"),
            ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("x in a", "unable to parse requirement: found 'a' expected: '('"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("x,", "found '', expected: identifier after ','"),
            ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
            ("-=a", "unable to parse requirement: <nil>: Invalid value: \"-\": name part must consist"),
            ("x=!", "found '!', expected: identifier"),
        ] {
            let error = LabelSelector::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn labels_match() {
        for (text, labels, expected) in [
            ("", json!({}), true),
            ("x=a", json!({"x": "a"}), true),
            ("x!=a", json!({}), true),
            ("x notin (a)", json!({"x": "a"}), false),
            ("x", json!({"x": ""}), true),
            ("!x", json!({"x": ""}), false),
            ("x>5", json!({"x": "10"}), true),
            ("x<5", json!({"x": "10"}), false),
            ("x>5", json!({"x": "a"}), false),
        ] {
            assert_eq!(matches(text, labels.clone()), expected, "{text} {labels}");
        }
    }

    #[test]
    fn selectors_of_objects_are_read_and_checked() {
        let selector = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "NotIn", "values": ["y", "x"]}, {"key": "c", "operator": "Exists"}]});
        let parsed = LabelSelector::from_value(Some(&selector)).unwrap();
        assert_eq!(parsed.to_string(), "a notin (x,y),b in (1),c");
        assert!(LabelSelector::from_value(None).unwrap().is_nothing());
        assert!(LabelSelector::from_value(Some(&json!({}))).unwrap().is_everything());
        assert_eq!(parsed.requires_exact("b"), Some("1"));
        let wrong =
            json!({"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Gt"}]});
        let errors = LabelSelector::validate(&wrong, &Path::new("spec.selector"));
        assert_eq!(
            errors[0].to_string(),
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert_eq!(errors.len(), 2);
        assert!(LabelSelector::from_value(Some(&wrong)).is_err());
    }

    proptest! {
        #[test]
        fn the_canonical_text_is_read_back(text in "[a-z!=<>(), ]{0,20}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap().to_string(), selector.to_string());
            }
        }
    }
}
