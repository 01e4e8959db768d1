//! Which taints of a node a pod's tolerations cover.

use crate::api::core::{Taint, Toleration};

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

/// The first taint of one of the effects that no toleration covers.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    let covered = |taint: &&Taint| tolerations.iter().any(|toleration| tolerates(toleration, taint));
    taints.iter().filter(|taint| effects.contains(&taint.effect.as_str())).find(|taint| !covered(taint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str, effect: &str) -> Taint {
        Taint { key: key.into(), value: Some(value.into()), effect: effect.into(), time_added: None }
    }

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let some = |text: &str| Some(text.to_owned());
        Toleration {
            key: some(key),
            operator: some(operator),
            value: some(value),
            effect: some(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn keys_values_and_effects_decide() {
        let taint = taint("a", "1", "NoSchedule");
        let check = |toleration: Toleration, expected| {
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}")
        };
        check(toleration("a", "", "1", "NoSchedule"), true);
        check(toleration("a", "Equal", "2", "NoSchedule"), false);
        check(toleration("a", "Exists", "", ""), true);
        check(toleration("", "Exists", "", ""), true);
        check(toleration("b", "Exists", "", ""), false);
        check(toleration("a", "Exists", "", "NoExecute"), false);
    }

    #[test]
    fn the_first_uncovered_taint_is_found() {
        let taints =
            [taint("a", "", "PreferNoSchedule"), taint("b", "", "NoSchedule"), taint("c", "", "NoExecute")];
        let tolerations = [toleration("b", "Exists", "", "")];
        let found = untolerated(&taints, &tolerations, &["NoSchedule", "NoExecute"]);
        assert_eq!(found.map(|taint| taint.key.as_str()), Some("c"));
        assert_eq!(untolerated(&taints, &[toleration("", "Exists", "", "")], &["NoSchedule"]), None);
    }
}
