//! What differs from run to run, taken out of what kubectl prints: ages, addresses, hashes, random names and column widths.

use regex::Regex;

/// Patterns in order, with what stands for them.
const PATTERNS: &[(&str, &str)] = &[
    (r"\x1b\[[0-9;]*m", ""),
    (r"(Client Version|Kustomize Version): \S+", "$1: CLIENT"),
    (
        r"WARNING: version difference between client \([^)]*\)",
        "WARNING: version difference between client (CLIENT)",
    ),
    (r"/tmp/(LIVE|MERGED)-\d+", "/tmp/$1"),
    (r"kubectl[.\d]*-edit-\d+", "kubectl-edit-N"),
    // kubectl may end before it has shown this.
    (r"(?m)^tar: Removing leading .*\n", ""),
    // kubectl may leave before it has all of that line.
    (r"(?m)^tar: ?(?:Removing.*)?$", ""),
    // What came before kubectl was ready for it; a server says nothing yet.
    (r"(?m)^E\d{4} .* websocket\.go:\d+\] Unknown stream id \d+, discarding message\r?\n", ""),
    // Of a node: what the machine has.
    (r"(?m)^  hugepages-.*\n", ""),
    (r"(?m)^(  System UUID:).*$", "$1  UUID"),
    (r"(?m)^(  (?:cpu|memory|ephemeral-storage|pods):) +\d\S*$", "$1  N"),
    (r"(?m)^(  (?:cpu|memory|ephemeral-storage)) +\d\S* \(\d+%\) +\d\S* \(\d+%\)$", "$1  N (N%)  N (N%)"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"nauplius://[0-9a-f]{64}", "nauplius://ID"),
    (r#"failed to start exec "[0-9a-f]{64}""#, r#"failed to start exec "ID""#),
    (r"sha256:[0-9a-f]{64}", "sha256:DIGEST"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN"),
    (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-RAND"),
    (r"\b(hello|app)-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "$1-HASH-RAND"),
    (r"\b(hello|app)-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "$1-RAND"),
    (r"\b(hello|app)-[bcdfghjklmnpqrstvwxz2456789]{6,10}\b", "$1-HASH"),
    (r"pod-template-hash=[a-z0-9]+", "pod-template-hash=HASH"),
    (r"pod-template-hash: [a-z0-9]+", "pod-template-hash: HASH"),
    (r"\b10\.244\.\d+\.\d+\b", "POD_IP"),
    (r"\b10\.24[5-9]\.\d+\.\d+\b", "POD_IP"),
    (r"\b10\.(9[6-9]|1\d\d|2[0-3]\d)\.\d+\.\d+\b", "SERVICE_IP"),
    (r"https://(NODE_IP:PORT|[\d.]+:\d+)", "https://SERVER"),
    (r"\b(\d+d)?(\d+h)?(\d+m)?\d+s\b", "AGE"),
    (r"(?m)\b\d+m( |$)", "AGE$1"),
    (r"<invalid>", "AGE"),
    (r"\(x\d+ over AGE\)", "(xN over AGE)"),
    (r"resourceVersion(\x22?): \x22\d+\x22", "resourceVersion$1: N"),
    (r"[ \t]{2,}", "  "),
    (r"(?m)[ \t]+$", ""),
];

/// What a run has of its own: the host's name and address, and the server's port.
pub struct Own {
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// The API server's port.
    pub port: String,
    /// What the node says of the machine, and what stands for it.
    pub machine: Vec<(String, &'static str)>,
}

/// Replaces what differs.
pub fn normal(text: &str, own: &Own) -> String {
    let Own { node, address, port, machine } = own;
    let mut text = text.replace(address, "NODE_IP");
    for (fact, name) in machine.iter().filter(|(fact, _)| !fact.is_empty()) {
        text = text.replace(fact, name);
    }
    for (pattern, with) in [
        (format!(r"(?m)(^|[ /=]){}([ \n/]|$)", regex::escape(node)), "${1}NODE${2}"),
        (format!(r" {port} +NODE_IP"), " PORT  NODE_IP"),
        (format!(r"NODE_IP:{port}"), "NODE_IP:PORT"),
    ] {
        text = Regex::new(&pattern).unwrap().replace_all(&text, with).into_owned();
    }
    for (pattern, with) in PATTERNS {
        text = Regex::new(pattern).unwrap().replace_all(&text, *with).into_owned();
    }
    text
}

#[test]
fn ages_and_names_are_taken_out() {
    let text = "hello-5d9c7bcb4f-x2xkl   1/1     Running   0          12s   10.244.0.7   vm     <none>\n";
    let own = Own {
        node: "vm".to_owned(),
        address: "192.0.2.2".to_owned(),
        port: "6443".to_owned(),
        machine: vec![("6.1.0".to_owned(), "KERNEL")],
    };
    assert_eq!(normal(text, &own), "hello-HASH-RAND  1/1  Running  0  AGE  POD_IP  NODE  <none>\n");
    let text = "E1129 21:27:38.082020  21490 websocket.go:297] Unknown stream id 1, discarding message\nconfigmap/a   1   3m\n";
    assert_eq!(normal(text, &own), "configmap/a  1  AGE\n");
}
