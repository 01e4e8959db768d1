//! PriorityLevelConfiguration: what part of the server's time requests of a level have.

use super::{GROUP, check_fixed, conditions, fixed};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind, tracked_without_metadata};
use crate::name;
use crate::table::{self, NONE, string};
use crate::tree::{count, default, default_nonzero, get, number, text, with};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const DEFAULT_SHARES: i64 = 30;
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of the hash that deals hands of queues.
const MAX_HASH_BITS: i64 = 60;

pub(crate) struct PriorityLevelConfiguration(Descriptor);

pub(crate) fn kind() -> PriorityLevelConfiguration {
    let plural = "prioritylevelconfigurations";
    let descriptor = describe(GROUP, "v1", "PriorityLevelConfiguration", plural).cluster_scoped();
    PriorityLevelConfiguration(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| {
        with(spec, "exempt", |exempt| {
            default(exempt, "nominalConcurrencyShares", 0);
            default(exempt, "lendablePercent", 0);
        });
        with(spec, "limited", |limited| {
            default(limited, "nominalConcurrencyShares", DEFAULT_SHARES);
            default(limited, "lendablePercent", 0);
            with(limited, "limitResponse", |response| with(response, "queuing", default_queuing));
        });
    });
}

fn default_queuing(queuing: &mut Value) {
    default_nonzero(queuing, "handSize", 8);
    default_nonzero(queuing, "queues", 64);
    default_nonzero(queuing, "queueLengthLimit", 50);
}

impl Kind for PriorityLevelConfiguration {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let name = text(&object["metadata"], "name");
        if (name == "exempt") != (text(spec, "type") == "Exempt") {
            let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
            errors.push(FieldError::invalid(&path.child("type"), text(spec, "type"), detail));
        }
        check_type(spec, &path, &mut errors);
        let free = (name == "exempt").then_some("exempt");
        check_fixed(spec, fixed::mandatory_level(name), name, free, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        conditions(&new["status"], &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Type", "Whether its requests are limited."),
            string("NominalConcurrencyShares", "Its part of what runs at once."),
            string("Queues", "How many queues it has."),
            string("HandSize", "How many of them one flow may use."),
            string("QueueLengthLimit", "How many requests a queue holds."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let own = if text(spec, "type") == "Exempt" { &spec["exempt"] } else { &spec["limited"] };
        let cell = |object: &Value, key: &str| number(object, key).map_or_else(|| NONE.into(), Value::from);
        let queuing = &own["limitResponse"]["queuing"];
        vec![
            table::name_cell(object),
            text(spec, "type").into(),
            cell(own, "nominalConcurrencyShares"),
            cell(queuing, "queues"),
            cell(queuing, "handSize"),
            cell(queuing, "queueLengthLimit"),
            table::age_cell(object, now_s),
        ]
    }
}

fn check_type(spec: &Value, path: &Path, errors: &mut Errors) {
    let (exempt, limited) = (get(spec, "exempt"), get(spec, "limited"));
    match text(spec, "type") {
        "Exempt" => {
            if limited.is_some() {
                let detail = "must be nil if the type is not Limited";
                errors.push(FieldError::forbidden(&path.child("limited"), detail));
            }
            if let Some(exempt) = exempt {
                shares(exempt, &path.child("exempt"), errors);
                lendable(exempt, &path.child("exempt"), errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                let detail = "must be nil if the type is Limited";
                errors.push(FieldError::forbidden(&path.child("exempt"), detail));
            }
            let path = path.child("limited");
            match limited {
                Some(limited) => check_limited(limited, &path, errors),
                None => errors.push(FieldError::required(&path, "must not be empty when type is Limited")),
            }
        }
        "" => errors.push(FieldError::required(&path.child("type"), "")),
        other => errors.push(FieldError::not_supported(&path.child("type"), other, &["Exempt", "Limited"])),
    }
}

fn shares(own: &Value, path: &Path, errors: &mut Errors) {
    let key = "nominalConcurrencyShares";
    if let Some(shares) = number(own, key).filter(|shares| *shares < 0) {
        errors.push(FieldError::invalid(&path.child(key), shares, "must be a non-negative integer"));
    }
}

fn lendable(own: &Value, path: &Path, errors: &mut Errors) {
    let key = "lendablePercent";
    if let Some(part) = number(own, key).filter(|part| !(0..=100).contains(part)) {
        errors.push(FieldError::invalid(&path.child(key), part, "must be between 0 and 100, inclusive"));
    }
}

fn check_limited(limited: &Value, path: &Path, errors: &mut Errors) {
    shares(limited, path, errors);
    limit_response(&limited["limitResponse"], &path.child("limitResponse"), errors);
    lendable(limited, path, errors);
    if let Some(part) = number(limited, "borrowingLimitPercent").filter(|part| *part < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.push(FieldError::invalid(&path.child("borrowingLimitPercent"), part, detail));
    }
}

fn limit_response(response: &Value, path: &Path, errors: &mut Errors) {
    let queuing = get(response, "queuing");
    let field = path.child("queuing");
    match (text(response, "type"), queuing) {
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(&field, detail));
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(&field, detail));
        }
        ("Queue", Some(queuing)) => check_queuing(queuing, &field, errors),
        ("", _) => errors.push(FieldError::required(&path.child("type"), "")),
        (other, _) => {
            errors.push(FieldError::not_supported(&path.child("type"), other, &["Queue", "Reject"]));
        }
    }
}

fn check_queuing(queuing: &Value, path: &Path, errors: &mut Errors) {
    let [queues, hand, length] = ["queues", "handSize", "queueLengthLimit"].map(|key| count(queuing, key));
    let mut invalid = |key: &str, value: i64, detail: String| {
        errors.push(FieldError::invalid(&path.child(key), value, detail));
    };
    if length <= 0 {
        invalid("queueLengthLimit", length, "must be positive".to_owned());
    }
    if queues <= 0 {
        invalid("queues", queues, "must be positive".to_owned());
    } else if queues > MAX_QUEUES {
        invalid("queues", queues, format!("must not be greater than {MAX_QUEUES}"));
    }
    if hand <= 0 {
        invalid("handSize", hand, "must be positive".to_owned());
    } else if hand > queues {
        invalid("handSize", hand, format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, hand) > MAX_HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        );
        invalid("handSize", hand, detail);
    }
}

/// How many bits it takes to deal a hand.
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    // A deck this large needs more bits than there are after a few cards, so the loop is short.
    let mut bits = 0.0_f64;
    for dealt in 0..hand {
        bits += f64::from(i32::try_from(deck - dealt).unwrap_or(i32::MAX)).log2();
        if bits > 1_000.0 {
            break;
        }
    }
    // At most a thousand and a few.
    #[allow(clippy::cast_possible_truncation)]
    let bits = bits.ceil() as i64;
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_cluster_has_is_sound() {
        for mut level in fixed::priority_levels() {
            let before = level.clone();
            set_defaults(&mut level);
            assert_eq!((&level, kind().validate(&level)), (&before, Vec::new()));
        }
    }

    #[test]
    fn hands_are_dealt_with_so_many_bits() {
        assert_eq!(entropy_bits(128, 6), 42);
        assert!(entropy_bits(512, 8) > MAX_HASH_BITS);
    }
}
