//! Rule sets to nftables objects: the table's fixed frame, and what each service adds to it. Pure; committing is
//! [`super::nftables`]'s part.
//!
//! A packet's first lookup is by destination, protocol and port in one map of verdicts; it leads to a chain of the service,
//! which draws an endpoint. What has no endpoint is refused behind the translation, so that traffic that was short-circuited is not.

use super::expressions::{self as exprs, Version};
use super::ruleset::{Network, PlannedService, RuleSet, Targets};
use super::service::{Protocol, ServiceName};
use nauplius_link::nft::{
    Chain, ChainKind, DynsetOp, Expr, Field, Hook, Key, MapData, MapValue, MetaKey, Reg, Reject, Rule, Set,
    SetRef, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Addresses that lead to endpoints.
pub(super) const SERVICES: &str = "service-ips";
/// Node ports that lead to endpoints.
pub(super) const NODE_PORTS: &str = "service-nodeports";
/// Addresses that lead nowhere.
pub(super) const REFUSED: &str = "refused-ips";
/// Node ports that lead nowhere.
const REFUSED_NODE_PORTS: &str = "refused-nodeports";
/// Load balancer addresses that not everyone may use.
const GUARDED: &str = "guarded-ips";
/// Every service's own addresses, whatever the port.
const CLUSTER_IPS: &str = "cluster-ips";
/// Endpoints, each twice: a connection of one to itself.
const HAIRPIN: &str = "hairpin";

const REJECT: &str = "reject";
const R0: Reg = Reg::word(0);
/// Clients that one endpoint remembers; more are served without affinity.
const AFFINITY_CLIENTS_MAX: u32 = 65_536;

/// nftables objects by name, to be compared with what is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Objects {
    pub chains: BTreeMap<String, Vec<Rule>>,
    pub sets: BTreeMap<String, Set>,
    pub elements: BTreeMap<(&'static str, Key), Option<MapValue>>,
}

/// The maps and sets that are always there.
pub(super) fn frame_sets(version: Version) -> Vec<Set> {
    let address = vec![version.field(), Field::Proto, Field::Port];
    let port = vec![Field::Proto, Field::Port];
    let verdicts = |name, key: &[Field]| Set::map(name, key, MapData::Verdict);
    vec![
        verdicts(SERVICES, &address),
        verdicts(REFUSED, &address),
        verdicts(GUARDED, &address),
        verdicts(NODE_PORTS, &port),
        verdicts(REFUSED_NODE_PORTS, &port),
        Set::new(CLUSTER_IPS, [version.field()]),
        Set::new(HAIRPIN, [version.field(), version.field()]),
    ]
}

/// The chains that are always there, with their rules.
pub(super) fn frame_chains(version: Version, network: &Network) -> Vec<(Chain, Vec<Rule>)> {
    let base = |name, kind, hook, priority| Chain::base(name, kind, hook, priority);
    let jump = |chain| vec![Rule::new([Expr::jump(chain)])];
    let jump_new = |chain| {
        let mut rule = exprs::is_new().to_vec();
        rule.push(Expr::jump(chain));
        vec![Rule::new(rule)]
    };
    vec![
        (Chain::regular(REJECT), reject()),
        (Chain::regular("services"), services(version, network)),
        (Chain::regular("check-guarded"), vec![rule(version.load_service(), [exprs::follow(GUARDED)])]),
        (Chain::regular("check-refused"), check_refused(version)),
        (Chain::regular("egress"), egress(version, network)),
        (base("guard-prerouting", ChainKind::Filter, Hook::Prerouting, -110), jump_new("check-guarded")),
        (base("guard-output", ChainKind::Filter, Hook::Output, -110), jump_new("check-guarded")),
        (base("nat-prerouting", ChainKind::Nat, Hook::Prerouting, -100), jump("services")),
        (base("nat-output", ChainKind::Nat, Hook::Output, -100), jump("services")),
        (base("filter-input", ChainKind::Filter, Hook::Input, 0), jump_new("check-refused")),
        (base("filter-forward", ChainKind::Filter, Hook::Forward, 0), jump_new("check-refused")),
        (base("filter-output", ChainKind::Filter, Hook::Output, 0), jump_new("check-refused")),
        (base("nat-postrouting", ChainKind::Nat, Hook::Postrouting, 100), postrouting(version, network)),
    ]
}

/// TCP callers get a reset: ICMP errors are limited to a few per caller, and a caller that hears nothing waits.
fn reject() -> Vec<Rule> {
    let tcp = [Expr::Meta { key: MetaKey::L4Proto, dreg: R0 }, Expr::equal(R0, [Protocol::Tcp.number()])];
    vec![rule(tcp, [Expr::Reject(Reject::TcpReset)]), Rule::new([Expr::Reject(Reject::PortUnreachable)])]
}

fn rule(first: impl IntoIterator<Item = Expr>, then: impl IntoIterator<Item = Expr>) -> Rule {
    Rule::new(first.into_iter().chain(then).collect::<Vec<_>>())
}

fn services(version: Version, network: &Network) -> Vec<Rule> {
    let mut from_elsewhere = vec![version.destination(R0), exprs::known_in(CLUSTER_IPS)];
    for range in network.pod_ranges.iter().filter(|range| version.has(range.addr())) {
        from_elsewhere.extend(version.source_in(*range, false));
    }
    let mut node_port = version.on_this_node();
    node_port.extend(exprs::load_node_port());
    vec![
        rule(from_elsewhere, exprs::mark()).comment("only pods keep their address within the cluster"),
        rule(version.load_service(), [exprs::follow(SERVICES)]),
        rule(node_port, [exprs::follow(NODE_PORTS)]),
    ]
}

fn check_refused(version: Version) -> Vec<Rule> {
    let mut node_port = version.on_this_node();
    node_port.extend(exprs::load_node_port());
    vec![
        rule(version.load_service(), [exprs::follow(REFUSED)]),
        rule(node_port, [exprs::follow(REFUSED_NODE_PORTS)]),
        Rule::new([version.destination(R0), exprs::known_in(CLUSTER_IPS), Expr::goto(REJECT)])
            .comment("a port that the service does not have"),
    ]
}

fn postrouting(version: Version, network: &Network) -> Vec<Rule> {
    let words = version.field().len() / 4;
    let to_itself = [version.source(R0), version.destination(R0.after(words)), exprs::known_in(HAIRPIN)];
    let mut rules = vec![exprs::masquerade_marked(), rule(to_itself, [exprs::masquerade()])];
    if network.masquerade_egress {
        for range in network.pod_ranges.iter().filter(|range| version.has(range.addr())) {
            rules.push(rule(version.source_in(*range, true), [Expr::goto("egress")]));
        }
    }
    rules
}

fn egress(version: Version, network: &Network) -> Vec<Rule> {
    let ranges = network.pod_ranges.iter().filter(|range| version.has(range.addr()));
    let within = ranges.map(|range| rule(version.destination_in(*range), [Expr::Verdict(Verdict::Return)]));
    within.chain([Rule::new([exprs::masquerade()])]).collect()
}

/// What the services of `rules` for which `wanted` holds add to the frame.
pub(super) fn objects(version: Version, rules: &RuleSet, wanted: impl Fn(&ServiceName) -> bool) -> Objects {
    let mut compiler = Compiler { version, network: &rules.network, objects: Objects::default() };
    for (name, service) in &rules.services {
        compiler.shared(service);
        if wanted(name) {
            compiler.service(name, service);
        }
    }
    compiler.objects
}

struct Compiler<'a> {
    version: Version,
    network: &'a Network,
    objects: Objects,
}

impl Compiler<'_> {
    /// What several services may have in common.
    fn shared(&mut self, service: &PlannedService) {
        for address in self.ours(&service.cluster_ips) {
            self.objects.elements.insert((CLUSTER_IPS, Key::new().ip(address)), None);
        }
        for endpoint in service.endpoints().iter().filter(|endpoint| self.version.has(endpoint.ip())) {
            let key = Key::new().ip(endpoint.ip()).ip(endpoint.ip());
            self.objects.elements.insert((HAIRPIN, key), None);
        }
    }

    fn ours(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| self.version.has(*address)).collect()
    }

    fn service(&mut self, name: &ServiceName, service: &PlannedService) {
        let mut chains = TargetChains::default();
        let internal = self.targets(&mut chains, "service", name, service, &service.internal);
        for address in self.ours(&service.cluster_ips) {
            self.lead(
                SERVICES,
                REFUSED,
                &address_key(address, name.protocol, service.port),
                internal.as_ref(),
            );
        }
        if !service.is_external() {
            return;
        }
        let short = self.targets(&mut chains, "cluster", name, service, &service.short_circuit);
        let external = self.targets(&mut chains, "local", name, service, &service.external);
        self.external(name, service, &short, &external);
        self.guard(name, service);
    }

    /// The chain that draws one of these targets, made when no chain of this service does so yet.
    fn targets(
        &mut self,
        chains: &mut TargetChains,
        role: &str,
        name: &ServiceName,
        service: &PlannedService,
        targets: &Targets,
    ) -> Result<String, Verdict> {
        let list = match targets {
            Targets::Reject => return Err(Verdict::Goto(REJECT.to_owned())),
            Targets::Drop => return Err(Verdict::Drop),
            Targets::Endpoints(list) => list,
        };
        let list: Vec<_> = list.iter().copied().filter(|endpoint| self.version.has(endpoint.ip())).collect();
        if list.is_empty() {
            return Err(Verdict::Goto(REJECT.to_owned()));
        }
        if let Some(chain) = chains.0.get(&list) {
            return Ok(chain.clone());
        }
        let chain = format!("{role}/{name}");
        let rules = match service.affinity_seconds {
            None => vec![Rule::new(self.version.to_one_of(&list))],
            Some(seconds) => self.with_affinity(name, &list, seconds),
        };
        self.objects.chains.insert(chain.clone(), rules);
        chains.0.insert(list, chain.clone());
        Ok(chain)
    }

    /// Clients go back to the endpoint that remembers them; each endpoint has a set of its clients.
    fn with_affinity(&mut self, name: &ServiceName, list: &[SocketAddr], seconds: u32) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(list.len() + 1);
        let mut chains = Vec::with_capacity(list.len());
        for endpoint in list {
            let (chain, set) = self.remembering(name, *endpoint, seconds);
            let known = Expr::Lookup { set: SetRef::Named(set), sreg: R0, dreg: None, inverted: false };
            rules.push(Rule::new([self.version.source(R0), known, Expr::goto(chain.clone())]));
            chains.push(chain);
        }
        rules.push(Rule::new(exprs::goto_one_of(&chains)));
        rules
    }

    fn remembering(&mut self, name: &ServiceName, endpoint: SocketAddr, seconds: u32) -> (String, String) {
        // Colons are not part of a name for the nft program.
        let place = format!("{name}/{}/{}", endpoint.ip(), endpoint.port()).replace(':', ".");
        let (chain, set) = (format!("endpoint/{place}"), format!("clients/{place}/{seconds}"));
        let clients = Set {
            timeout_ms: Some(u64::from(seconds) * 1000),
            dynamic: true,
            size: Some(AFFINITY_CLIENTS_MAX),
            ..Set::new(set.clone(), [self.version.field()])
        };
        let remember =
            Expr::Dynset { set: set.clone(), op: DynsetOp::Update, key: R0, data: None, timeout_ms: None };
        let rules = vec![
            Rule::new([self.version.source(R0), remember]),
            Rule::new(self.version.to_one_of(&[endpoint])),
        ];
        self.objects.sets.insert(set.clone(), clients);
        self.objects.chains.insert(chain.clone(), rules);
        (chain, set)
    }

    fn external(
        &mut self,
        name: &ServiceName,
        service: &PlannedService,
        short: &Result<String, Verdict>,
        external: &Result<String, Verdict>,
    ) {
        let dispatch = short.as_ref().ok().map(|short| {
            let chain = format!("external/{name}");
            let rules = self.dispatch(service.keep_source, short, external.as_ref().ok());
            self.objects.chains.insert(chain.clone(), rules);
            chain
        });
        let addresses = self.ours(&service.external_ips).into_iter();
        let keys: Vec<_> =
            addresses.map(|address| address_key(address, name.protocol, service.port)).collect();
        let mut lead = |served, refused, key: &Key| {
            if let Some(chain) = &dispatch {
                self.put(served, key, Verdict::Goto(chain.clone()));
            }
            if let Err(verdict) = external {
                self.put(refused, key, verdict.clone());
            }
        };
        keys.iter().for_each(|key| lead(SERVICES, REFUSED, key));
        if let Some(port) = service.node_port {
            lead(NODE_PORTS, REFUSED_NODE_PORTS, &Key::new().proto(name.protocol.number()).port(port));
        }
    }

    /// Where packets to external addresses go, by who sends them.
    fn dispatch(&self, keep_source: bool, short: &str, external: Option<&String>) -> Vec<Rule> {
        let version = self.version;
        if !keep_source {
            return vec![rule(exprs::mark(), [Expr::goto(short)])];
        }
        let ranges = self.network.pod_ranges.iter().filter(|range| version.has(range.addr()));
        let mut rules: Vec<_> =
            ranges.map(|range| rule(version.source_in(*range, true), [Expr::goto(short)])).collect();
        let mut own = version.sent_by_this_node().to_vec();
        own.extend(exprs::mark());
        rules.push(rule(own, [Expr::goto(short)]));
        rules.extend(external.map(|chain| Rule::new([Expr::goto(chain.clone())])));
        rules
    }

    fn guard(&mut self, name: &ServiceName, service: &PlannedService) {
        let Some((addresses, ranges)) = &service.guarded else { return };
        let chain = format!("guard/{name}");
        let allowed = ranges.iter().filter(|range| self.version.has(range.addr()));
        let mut rules: Vec<_> = allowed
            .map(|range| rule(self.version.source_in(*range, true), [Expr::Verdict(Verdict::Return)]))
            .collect();
        rules.push(Rule::new([Expr::Verdict(Verdict::Drop)]));
        for address in self.ours(addresses) {
            let key = address_key(address, name.protocol, service.port);
            self.put(GUARDED, &key, Verdict::Goto(chain.clone()));
        }
        self.objects.chains.insert(chain, rules);
    }

    fn lead(
        &mut self,
        served: &'static str,
        refused: &'static str,
        key: &Key,
        target: Result<&String, &Verdict>,
    ) {
        match target {
            Ok(chain) => self.put(served, key, Verdict::Goto(chain.clone())),
            Err(verdict) => self.put(refused, key, verdict.clone()),
        }
    }

    fn put(&mut self, map: &'static str, key: &Key, verdict: Verdict) {
        self.objects.elements.insert((map, key.clone()), Some(MapValue::Verdict(verdict)));
    }
}

/// The chains of one service by what they draw from.
#[derive(Default)]
struct TargetChains(BTreeMap<Vec<SocketAddr>, String>);

fn address_key(address: IpAddr, protocol: Protocol, port: u16) -> Key {
    Key::new().ip(address).proto(protocol.number()).port(port)
}

/// The services that differ between two rule sets.
pub(super) fn changed<'a>(old: &'a RuleSet, new: &'a RuleSet) -> BTreeSet<&'a ServiceName> {
    let differs = |name: &&ServiceName| old.services.get(*name) != new.services.get(*name);
    old.services.keys().chain(new.services.keys()).filter(differs).collect()
}
