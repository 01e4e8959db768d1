//! JSONPath in kubectl's dialect, as columns of custom resources use it: `.status.conditions[?(@.type=="Ready")].status`. It is read
//! once and then finds values in objects.

use serde_json::Value;
use std::iter::Peekable;
use std::str::Chars;

/// A path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

/// A text is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPathError(pub String);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// Every value, or with `..` every value at any depth.
    All,
    Deep,
    Items(Slice),
    Union(Vec<Step>),
    Filter(Box<Filter>),
}

/// Items of a list; one item is a slice of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
    single: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    right: Option<(Operator, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path without braces.
    ///
    /// # Errors
    /// Where it stops to be one.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut reader = Reader { rest: text.chars().peekable() };
        let steps = reader.steps()?;
        match reader.rest.next() {
            None => Ok(Self(steps)),
            Some(odd) => Err(JsonPathError(format!("unrecognized character in action: {odd:?}"))),
        }
    }

    /// Every value that it leads to.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        walk(&self.0, vec![value])
    }
}

struct Reader<'t> {
    rest: Peekable<Chars<'t>>,
}

impl Reader<'_> {
    fn eat(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    fn expect(&mut self, wanted: char, what: &str) -> Result<(), JsonPathError> {
        if self.eat(wanted) { Ok(()) } else { Err(JsonPathError(what.to_owned())) }
    }

    fn blanks(&mut self) {
        while self.rest.next_if(|c| c.is_whitespace()).is_some() {}
    }

    fn steps(&mut self) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            match self.rest.peek() {
                Some('.') => {
                    self.rest.next();
                    if self.eat('.') {
                        steps.push(Step::Deep);
                    }
                    self.name(&mut steps);
                }
                Some('[') => {
                    self.rest.next();
                    steps.push(self.bracket()?);
                }
                _ => return Ok(steps),
            }
        }
    }

    /// A name up to the next dot or bracket; a backslash makes these plain.
    fn name(&mut self, steps: &mut Vec<Step>) {
        if self.eat('*') {
            return steps.push(Step::All);
        }
        let mut name = String::new();
        while let Some(c) = self
            .rest
            .next_if(|c| !matches!(c, '.' | '[' | ']' | ')' | '=' | '!' | '<' | '>') && !c.is_whitespace())
        {
            name.push(if c == '\\' { self.rest.next().unwrap_or(c) } else { c });
        }
        if !name.is_empty() {
            steps.push(Step::Field(name));
        }
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        let unterminated = "unterminated array";
        self.blanks();
        let mut parts = Vec::new();
        loop {
            parts.push(self.part()?);
            self.blanks();
            if !self.eat(',') {
                break;
            }
            self.blanks();
        }
        self.expect(']', unterminated)?;
        Ok(if parts.len() == 1 { parts.remove(0) } else { Step::Union(parts) })
    }

    fn part(&mut self) -> Result<Step, JsonPathError> {
        match self.rest.peek() {
            Some('*') => {
                self.rest.next();
                Ok(Step::All)
            }
            Some('?') => {
                self.rest.next();
                self.expect('(', "unterminated filter")?;
                let filter = self.filter()?;
                self.expect(')', "unterminated filter")?;
                Ok(Step::Filter(Box::new(filter)))
            }
            Some('\'' | '"') => Ok(Step::Field(self.quoted()?)),
            _ => self.slice(),
        }
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let quote = self.rest.next();
        let mut text = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                c if Some(c) == quote => return Ok(text),
                '\\' => text.extend(self.rest.next()),
                c => text.push(c),
            }
        }
        Err(JsonPathError("unterminated quoted string".to_owned()))
    }

    fn number(&mut self) -> Result<Option<i64>, JsonPathError> {
        let mut digits = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '+')) {
            digits.push(c);
        }
        if digits.is_empty() {
            return Ok(None);
        }
        digits.parse().map(Some).map_err(|_| JsonPathError(format!("invalid array index {digits}")))
    }

    fn slice(&mut self) -> Result<Step, JsonPathError> {
        let start = self.number()?;
        if !self.eat(':') {
            let index = start.ok_or_else(|| JsonPathError("invalid array index".to_owned()))?;
            return Ok(Step::Items(Slice { start: Some(index), end: None, step: 1, single: true }));
        }
        let end = self.number()?;
        let step = if self.eat(':') { self.number()?.unwrap_or(1) } else { 1 };
        Ok(Step::Items(Slice { start, end, step, single: false }))
    }

    fn filter(&mut self) -> Result<Filter, JsonPathError> {
        self.blanks();
        let left = self.operand()?;
        self.blanks();
        let Some(operator) = self.operator()? else { return Ok(Filter { left, right: None }) };
        self.blanks();
        let right = self.operand()?;
        self.blanks();
        Ok(Filter { left, right: Some((operator, right)) })
    }

    fn operator(&mut self) -> Result<Option<Operator>, JsonPathError> {
        let Some(first) = self.rest.next_if(|c| matches!(c, '=' | '!' | '<' | '>')) else { return Ok(None) };
        let or_equal = self.eat('=');
        Ok(Some(match (first, or_equal) {
            ('=', true) => Operator::Equal,
            ('!', true) => Operator::NotEqual,
            ('<', false) => Operator::Less,
            ('<', true) => Operator::LessOrEqual,
            ('>', false) => Operator::Greater,
            ('>', true) => Operator::GreaterOrEqual,
            _ => return Err(JsonPathError(format!("unrecognized filter operator {first}"))),
        }))
    }

    fn operand(&mut self) -> Result<Operand, JsonPathError> {
        match self.rest.peek() {
            Some('@') => {
                self.rest.next();
                Ok(Operand::Path(self.steps()?))
            }
            Some('.' | '[') => Ok(Operand::Path(self.steps()?)),
            Some('\'' | '"') => Ok(Operand::Literal(self.quoted()?.into())),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Operand, JsonPathError> {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || matches!(c, '-' | '+' | '.' | '_')) {
            word.push(c);
        }
        // A word that is JSON is a number or a truth value.
        match serde_json::from_str::<Value>(&word) {
            Ok(value) if !value.is_null() => Ok(Operand::Literal(value)),
            _ => Err(JsonPathError(format!("unrecognized identifier {word}"))),
        }
    }
}

fn walk<'v>(steps: &[Step], values: Vec<&'v Value>) -> Vec<&'v Value> {
    steps.iter().fold(values, |values, step| values.into_iter().flat_map(|value| take(step, value)).collect())
}

fn take<'v>(step: &Step, value: &'v Value) -> Vec<&'v Value> {
    match step {
        Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
        Step::All => children(value),
        Step::Deep => {
            let below = children(value).into_iter().flat_map(|child| take(step, child));
            std::iter::once(value).chain(below).collect()
        }
        Step::Items(slice) => items(*slice, value),
        Step::Union(parts) => parts.iter().flat_map(|part| take(part, value)).collect(),
        Step::Filter(filter) => children(value).into_iter().filter(|item| holds(filter, item)).collect(),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

/// Negative positions count from the end.
fn items(slice: Slice, value: &Value) -> Vec<&Value> {
    let Some(list) = value.as_array() else { return Vec::new() };
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let start = from_end(slice.start.unwrap_or(0));
    if slice.single {
        return usize::try_from(start).ok().and_then(|at| list.get(at)).into_iter().collect();
    }
    let end = slice.end.map_or(length, from_end).clamp(0, length);
    let start = start.clamp(0, end);
    // Both are within the list now.
    let range = usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
    let step = usize::try_from(slice.step).unwrap_or(1).max(1);
    list[range].iter().step_by(step).collect()
}

fn holds(filter: &Filter, item: &Value) -> bool {
    let left = operand(&filter.left, item);
    let Some((operator, right)) = &filter.right else { return left.is_some() };
    let (Some(left), Some(right)) = (left, operand(right, item)) else { return false };
    let order = compare(left, right);
    match operator {
        Operator::Equal => order.is_some_and(std::cmp::Ordering::is_eq) || left == right,
        Operator::NotEqual => !(order.is_some_and(std::cmp::Ordering::is_eq) || left == right),
        Operator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

fn operand<'v>(operand: &'v Operand, item: &'v Value) -> Option<&'v Value> {
    match operand {
        Operand::Path(steps) => walk(steps, vec![item]).first().copied(),
        Operand::Literal(value) => Some(value),
    }
}

fn compare(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// A value as Go prints it: texts as they are, maps and lists in brackets.
pub fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}:{}", printed(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(path: &str, expected: Value) {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}, "name": "n"},
            "spec": {"list": [1, 2, 3, 4], "items": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        let path = JsonPath::parse(path).unwrap();
        assert_eq!(json!(path.find(&object)), expected);
    }

    #[test]
    fn paths_lead_to_values() {
        check(".metadata.name", json!(["n"]));
        check(".metadata.annotations.a\\.b/c", json!(["x"]));
        check(".metadata.annotations['a.b/c']", json!(["x"]));
        check(".spec.none.deeper", json!([]));
        check(".spec.list[0]", json!([1]));
        check(".spec.list[-1]", json!([4]));
        check(".spec.list[9]", json!([]));
        check(".spec.list[1:3]", json!([2, 3]));
        check(".spec.list[::2]", json!([1, 3]));
        check(".spec.list[-1:]", json!([4]));
        check(".spec.list[0,2]", json!([1, 3]));
        check(".spec.items[*].k", json!(["a", "b"]));
        check(".spec.items[?(@.v>1)].k", json!(["b"]));
        check(".spec.items[?(@.k=='a')].v", json!([1]));
        check(".status.conditions[?(@.type==\"Ready\")].status", json!(["True"]));
        check(".status.conditions[?(@.type!=\"Ready\")].type", json!(["Other"]));
        check(".status.conditions[?(@.reason)].type", json!([]));
        check("..k", json!(["a", "b"]));
        check(
            ".",
            json!([{
                "metadata": {"annotations": {"a.b/c": "x"}, "name": "n"},
                "spec": {"list": [1, 2, 3, 4], "items": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]},
                "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
            }]),
        );
    }

    #[test]
    fn what_is_no_path_is_told() {
        for text in [".a[", ".a[?(@.b==)]", ".a['b", ".a[x]", ".a[?(@.b=1)]", ".a]"] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_print_as_in_go() {
        assert_eq!(printed(&json!({"a": [1, "x"], "b": true})), "map[a:[1 x] b:true]");
        assert_eq!(printed(&json!(1.5)), "1.5");
    }
}
