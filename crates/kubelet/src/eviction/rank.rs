//! Which pod goes first when something is short, and what it is told. Pure.

use super::judge::Short;
use crate::pod::facts;
use crate::spec::resources::amount;
use nauplius_kinds::api::core::{Container, Pod};
use nauplius_kinds::pod::{priority, requests};
use nauplius_meta::quantity::{Format, Quantity};
use std::cmp::Reverse;
use std::sync::Arc;

/// What a pod uses.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Whose.
    pub pod: Arc<Pod>,
    /// Bytes.
    pub memory: i64,
    /// Bytes of writable layers, logs and empty directories.
    pub disk: i64,
    /// Inodes of the same.
    pub inodes: i64,
    /// Processes.
    pub pids: i64,
    /// Memory and disk of each container, by name.
    pub containers: Vec<(String, i64, i64)>,
}

impl Usage {
    fn of(&self, resource: &str) -> i64 {
        match resource {
            "memory" => self.memory,
            "ephemeral-storage" => self.disk,
            "inodes" => self.inodes,
            _ => self.pids,
        }
    }

    fn beyond(&self, resource: &str) -> i64 {
        let asked = requests(&self.pod).get(resource).map_or(0, |amount| amount.value());
        self.of(resource) - asked
    }
}

/// Those that use more than they asked for go first, then those that matter least, then those that use most beyond what they
/// asked for. Who has too many processes goes by importance alone.
pub fn rank(pods: &mut [Usage], resource: &str) {
    pods.sort_by_key(|usage| {
        let beyond = usage.beyond(resource);
        (Reverse(resource != "pids" && beyond > 0), priority(&usage.pod), Reverse(beyond))
    });
}

fn text(value: i64) -> String {
    Quantity::new(value, Format::BinarySI).to_string()
}

/// What the status of the pod says.
pub fn message(short: &Short, usage: &Usage) -> String {
    let resource = short.signal.resource();
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        short.threshold, short.available
    );
    for (name, memory, disk) in &usage.containers {
        let used = match resource {
            "memory" => *memory,
            "ephemeral-storage" => *disk,
            _ => continue,
        };
        let container = facts::container(&usage.pod, name);
        let asked = container.and_then(|(container, _)| request(container, resource));
        if used > asked.as_ref().map_or(0, Quantity::value) {
            let asked = asked.map_or_else(|| "0".to_owned(), |asked| asked.to_string());
            message.push_str(&format!(
                "Container {name} was using {}, request is {asked}, has larger consumption of {resource}. ",
                text(used)
            ));
        }
    }
    message
}

fn request(container: &Container, name: &str) -> Option<Quantity> {
    amount(&container.resources.as_ref()?.requests, name)
}

#[cfg(test)]
mod tests {
    use super::super::signal::Signal;
    use super::*;
    use nauplius_kinds::Object;

    fn usage(name: &str, priority: i32, asked: &str, memory: i64, pids: i64) -> Usage {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"priority":{priority},"containers":[{{"name":"c",
            "resources":{{"requests":{{"memory":"{asked}"}}}}}}]}}}}"#
        );
        let pod = Arc::new(Pod::decode(json.as_bytes()).unwrap());
        let containers = vec![("c".to_owned(), memory << 20, 0)];
        Usage { pod, memory: memory << 20, disk: 0, inodes: 0, pids, containers }
    }

    fn order(mut pods: Vec<Usage>, resource: &str) -> Vec<String> {
        rank(&mut pods, resource);
        pods.iter().map(|usage| usage.pod.name().to_owned()).collect()
    }

    #[test]
    fn whoever_takes_more_than_was_asked_goes_first() {
        let pods = vec![
            usage("within", -10, "100Mi", 90, 1),
            usage("important", 1000, "10Mi", 500, 50),
            usage("beyond-little", 0, "10Mi", 20, 900),
            usage("beyond-much", 0, "10Mi", 30, 2),
        ];
        let expected = ["beyond-much", "beyond-little", "important", "within"];
        assert_eq!(order(pods.clone(), "memory"), expected);
        assert_eq!(order(pods, "pids"), ["within", "beyond-little", "beyond-much", "important"]);
    }

    #[test]
    fn the_status_says_why() {
        let short = Short {
            signal: Signal::MemoryAvailable,
            threshold: Quantity::parse("100Mi").unwrap(),
            available: Quantity::new(50 << 20, Format::BinarySI),
            is_hard: true,
        };
        assert_eq!(
            message(&short, &usage("p", 0, "10Mi", 30, 1)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using \
             30Mi, request is 10Mi, has larger consumption of memory. "
        );
        assert!(!message(&short, &usage("p", 0, "40Mi", 30, 1)).contains("Container"));
    }
}
