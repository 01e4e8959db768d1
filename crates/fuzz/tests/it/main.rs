//! Each parser over its seeds and over a fixed number of mutations of them. What fails is printed, to become a seed.

use nauplius_fuzz::{Mutations, TARGETS, Target};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Mutations of each parser's seeds, unless `NAUPLIUS_FUZZ_ROUNDS` wants another number.
const ROUNDS: usize = 4_000;

fn rounds() -> usize {
    std::env::var("NAUPLIUS_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name)
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let entries =
        std::fs::read_dir(folder(target)).unwrap_or_else(|error| panic!("{}: {error}", target.name));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no seeds", target.name);
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The bytes at which the parser fails, readable.
fn failure(target: &Target, bytes: &[u8]) -> Option<String> {
    let run = target.run;
    let failed = catch_unwind(|| run(bytes)).is_err();
    failed.then(|| format!("{} fails for {:?}", target.name, bytes.escape_ascii().to_string()))
}

#[test]
fn every_parser_survives_its_seeds_and_their_mutations() {
    let mut failures = Vec::new();
    for target in TARGETS {
        let seeds = seeds(target);
        let all = seeds.iter().cloned().chain(Mutations::new(&seeds, 1).take(rounds()));
        failures.extend(all.into_iter().find_map(|bytes| failure(target, &bytes)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn mutations_never_vary() {
    let seeds = vec![b"{\"a\": [1, 2]}".to_vec(), b"b: c".to_vec()];
    let some = |number| Mutations::new(&seeds, number).take(50).collect::<Vec<_>>();
    assert_eq!(some(7), some(7));
    assert_ne!(some(7), some(8));
    let changed = some(7).iter().filter(|bytes| !seeds.contains(bytes)).count();
    assert!(changed > 40, "{changed}");
}

#[test]
fn every_target_is_handed_to_the_fuzzer() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is missing", target.name);
    }
}
