//! Batches: whole or not at all, listed back, with errors that name the message.

use crate::netns;
use nauplius_link::nft::{
    Batch, Chain, ChainKind, CmpOp, CtDirection, CtKey, DynsetOp, Element, Expr, Family, FibResult, Field,
    Hook, Key, LimitUnit, MapData, MetaKey, NatKind, Nft, Numgen, PayloadBase, Reg, Reject, Rule, Set,
    SetRef, Table, Verdict, ct_state, fib_flag, nat_flag, route_type,
};

const R0: Reg = Reg::word(0);

fn table(name: &str) -> Table {
    Table::new(Family::Ip, name)
}

fn jumps() -> Set {
    Set::map("jumps", [Field::Ipv4, Field::Proto, Field::Port], MapData::Verdict)
}

fn key(last: u8, port: u16) -> Key {
    Key::new().ip([10, 96, 0, last].into()).proto(6).port(port)
}

fn begin(name: &str) -> Batch {
    let mut batch = Batch::new(table(name));
    batch.delete_table();
    batch.add_table();
    batch.add_chain(&Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, -100));
    batch.add_chain(&Chain::regular("one"));
    batch.add_set(&jumps());
    batch
}

#[test]
fn what_was_put_in_is_listed() {
    let Some(netns) = netns() else { return };
    let mut nft = Nft::open_in(&netns).unwrap();
    let mut batch = begin("t");
    let goto_one = Verdict::Goto("one".into());
    batch.add_elements(&jumps(), &[Element::verdict(key(1, 80), goto_one.clone())]);
    let rule = Rule::new([Expr::VerdictMap { set: SetRef::Named("jumps".into()), sreg: R0 }]);
    let load = Rule::new([Expr::Meta { key: MetaKey::Mark, dreg: R0 }, Expr::Counter]).comment("first");
    batch.add_rule("one", &load);
    let mut loaded = vec![
        Expr::Payload { base: PayloadBase::Network, offset: 16, len: 4, dreg: R0 },
        Expr::Meta { key: MetaKey::L4Proto, dreg: Reg::word(1) },
        Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: Reg::word(2) },
    ];
    loaded.extend(rule.expressions);
    batch.add_rule("prerouting", &Rule::new(loaded));
    batch.commit(&mut nft).unwrap();

    assert_eq!(nft.tables().unwrap(), [table("t")]);
    let chains = nft.chains(&table("t")).unwrap();
    assert_eq!(chains[0].name, "prerouting");
    assert_eq!(chains[0].base, Chain::base("", ChainKind::Nat, Hook::Prerouting, -100).base);
    let rules = nft.rules(&table("t")).unwrap();
    let first = rules.iter().find(|rule| rule.chain == "one").unwrap();
    assert_eq!((first.comment.as_deref(), first.counter), (Some("first"), Some((0, 0))));
    assert_eq!(first.expressions, ["meta", "counter"]);
    assert!(nft.sets(&table("t")).unwrap().iter().any(|set| set.name == "jumps" && set.map));
    let elements = nft.elements(&table("t"), "jumps").unwrap();
    assert_eq!(elements.len(), 1);
    assert_eq!(elements[0].verdict, Some(goto_one));
    assert_eq!(elements[0].key.bytes(), [10, 96, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);

    nft.delete_table(&table("t")).unwrap();
    nft.delete_table(&table("t")).unwrap();
    assert!(nft.tables().unwrap().is_empty());
    assert!(nft.chains(&table("t")).unwrap().is_empty());
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_message() {
    let Some(netns) = netns() else { return };
    let mut nft = Nft::open_in(&netns).unwrap();
    begin("t").commit(&mut nft).unwrap();
    let mut batch = Batch::new(table("t"));
    batch.add_chain(&Chain::regular("two"));
    batch.add_rule("two", &Rule::new([Expr::jump("nowhere")]));
    batch.flush_chain("missing");
    let refused = batch.commit(&mut nft).unwrap_err();
    assert_eq!((refused.position, refused.others), (1, 1));
    assert!(refused.error.to_string().starts_with("add rule two: No such file"), "{refused}");
    assert!(nft.chains(&table("t")).unwrap().iter().all(|chain| chain.name != "two"));
    assert!(Batch::new(table("t")).commit(&mut nft).is_ok());
}

#[test]
fn elements_come_and_go_without_the_rest_moving() {
    let Some(netns) = netns() else { return };
    let mut nft = Nft::open_in(&netns).unwrap();
    let elements: Vec<_> =
        (0..20_000u16).map(|port| Element::verdict(key(1, port), Verdict::Goto("one".into()))).collect();
    let mut batch = begin("t");
    batch.add_elements(&jumps(), &elements);
    batch.commit(&mut nft).unwrap();
    assert_eq!(nft.elements(&table("t"), "jumps").unwrap().len(), 20_000);

    let mut batch = Batch::new(table("t"));
    batch.delete_elements(&jumps(), &elements[..19_990]);
    batch.add_elements(&jumps(), &[Element::verdict(key(2, 1), Verdict::Drop)]);
    batch.commit(&mut nft).unwrap();
    assert_eq!(nft.elements(&table("t"), "jumps").unwrap().len(), 11);
    let mut batch = Batch::new(table("t"));
    batch.delete_elements(&jumps(), &elements[..1]);
    assert!(batch.commit(&mut nft).unwrap_err().error.is_not_found());
    let mut batch = Batch::new(table("t"));
    batch.flush_set("jumps");
    batch.delete_chain("one");
    batch.commit(&mut nft).unwrap();
    assert!(nft.elements(&table("t"), "jumps").unwrap().is_empty());
}

/// Every expression in a rule that the kernel accepts.
#[test]
fn the_kernel_takes_every_expression() {
    let Some(netns) = netns() else { return };
    let mut nft = Nft::open_in(&netns).unwrap();
    let seen =
        Set { timeout_ms: Some(60_000), dynamic: true, size: Some(1000), ..Set::new("seen", [Field::Ipv4]) };
    let ranges = Set { interval: true, ..Set::new("ranges", [Field::Ipv4]) };
    let range = Element {
        end: Some(Key::new().ip([10, 0, 1, 0].into())),
        ..Element::new(Key::new().ip([10, 0, 0, 0].into()))
    };
    let mut batch = Batch::new(table("all"));
    batch.add_table();
    batch.add_chain(&Chain::base("raw", ChainKind::Filter, Hook::Prerouting, -300));
    batch.add_chain(&Chain::base("out", ChainKind::Nat, Hook::Postrouting, 100));
    batch.add_chain(&Chain::base("in", ChainKind::Nat, Hook::Prerouting, -100));
    batch.add_chain(&Chain::base("mark", ChainKind::Route, Hook::Output, -150));
    batch.add_chain(&Chain::base("filter", ChainKind::Filter, Hook::Forward, 0));
    batch.add_set(&seen);
    batch.add_set(&ranges);
    batch.add_elements(&ranges, &[range]);
    batch.add_elements(
        &seen,
        &[Element { timeout_ms: Some(5_000), ..Element::new(Key::new().ip([1, 2, 3, 4].into())) }],
    );
    batch.add_rule("raw", &Rule::new([Expr::Notrack]));
    batch.add_rule("mark", &Rule::new(marking()));
    batch.add_rule("filter", &Rule::new(tracking()));
    batch.add_rule("filter", &Rule::new(looking()));
    batch.add_rule("filter", &Rule::new([Expr::Reject(Reject::PortUnreachable)]));
    batch.add_rule("filter", &Rule::new([Expr::Reject(Reject::AdminProhibited)]));
    let tcp = [
        Expr::Meta { key: MetaKey::L4Proto, dreg: R0 },
        Expr::equal(R0, [6]),
        Expr::Reject(Reject::TcpReset),
    ];
    batch.add_rule("filter", &Rule::new(tcp));
    batch.add_rule("out", &Rule::new([Expr::Masquerade { flags: nat_flag::FULLY_RANDOM }]));
    batch.add_rule("in", &Rule::new(translating()));
    batch.commit(&mut nft).unwrap();
    let listed = nft.elements(&table("all"), "seen").unwrap();
    assert!(listed[0].expires_ms.is_some_and(|left| left <= 5_000));
    assert_eq!(nft.rules(&table("all")).unwrap().len(), 9);
}

fn marking() -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, dreg: R0 },
        Expr::Bitwise { sreg: R0, dreg: R0, mask: vec![0xff; 4], xor: 0x4000u32.to_ne_bytes().to_vec() },
        Expr::MetaSet { key: MetaKey::Mark, sreg: R0 },
        Expr::CtSet { key: CtKey::Mark, sreg: R0 },
        Expr::Immediate { dreg: R0, data: vec![0; 4] },
        Expr::Cmp { op: CmpOp::GreaterOrEqual, sreg: R0, data: vec![0; 4] },
    ]
}

fn tracking() -> Vec<Expr> {
    let mask =
        |bits: u32| Expr::Bitwise { sreg: R0, dreg: R0, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] };
    vec![
        Expr::Ct { key: CtKey::State, dreg: R0, direction: None },
        mask(ct_state::ESTABLISHED | ct_state::RELATED),
        Expr::not_equal(R0, [0; 4]),
        Expr::Ct { key: CtKey::ProtoDst, dreg: R0, direction: Some(CtDirection::Original) },
        Expr::Ct { key: CtKey::DstIp, dreg: R0, direction: Some(CtDirection::Original) },
        Expr::Limit { rate: 10, unit: LimitUnit::Second, burst: 5, inverted: true },
        Expr::Verdict(Verdict::Drop),
    ]
}

fn looking() -> Vec<Expr> {
    let source = Expr::Payload { base: PayloadBase::Network, offset: 12, len: 4, dreg: R0 };
    vec![
        source,
        Expr::Lookup { set: SetRef::Named("ranges".into()), sreg: R0, dreg: None, inverted: true },
        Expr::Dynset {
            set: "seen".into(),
            op: DynsetOp::Update,
            key: R0,
            data: None,
            timeout_ms: Some(7_000),
        },
        Expr::Meta { key: MetaKey::IifName, dreg: R0 },
        Expr::Meta { key: MetaKey::OifName, dreg: R0 },
        Expr::Meta { key: MetaKey::NfProto, dreg: R0 },
        Expr::Counter,
    ]
}

fn translating() -> Vec<Expr> {
    let elements = (0..3u8)
        .map(|last| {
            Element::value(Key::new().number(last.into()), Key::new().ip([10, 1, 0, last].into()).port(8080))
        })
        .collect();
    let set = SetRef::Inline {
        key: vec![Field::Number],
        data: Some(MapData::Fields(vec![Field::Ipv4, Field::Port])),
        elements,
    };
    vec![
        Expr::Fib { dreg: R0, result: FibResult::AddressType, flags: fib_flag::DADDR },
        Expr::equal(R0, route_type::LOCAL.to_ne_bytes()),
        Expr::Meta { key: MetaKey::L4Proto, dreg: R0 },
        Expr::equal(R0, [6]),
        Expr::Numgen { dreg: R0, modulus: 3, kind: Numgen::Random, offset: 0 },
        Expr::Lookup { set, sreg: R0, dreg: Some(R0), inverted: false },
        Expr::Nat {
            kind: NatKind::Destination,
            ipv6: false,
            address: Some(R0),
            port: Some(R0.after(1)),
            flags: 0,
        },
    ]
}
